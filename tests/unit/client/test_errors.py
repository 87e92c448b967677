import inspect

import pytest

import exchange.client
from exchange.client import errors
from exchange.client.errors import ExchangeError, RefusedError
from exchange.v1.access_pb2 import Code

EXIT_CODES = {
    "ExchangeError": 1,
    "RefusedError": 1,
    "ResponseInvalidError": 1,
    "DirectoryDiffersError": 1,
    "EvidenceError": 1,
    "UsageError": 2,
    "UnavailableError": 3,
    "UntrustedError": 5,
    "BrokenLogError": 4,
    "RollbackError": 4,
    "ForkError": 4,
    "StaleError": 6,
}


def test_every_error_has_its_exit_code() -> None:
    found = {
        name: kind.exit_code
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, ExchangeError)
    }
    assert found == EXIT_CODES


def test_the_tree_at_the_top_names_every_error() -> None:
    assert errors.__doc__ is not None
    assert all(name in errors.__doc__ for name in EXIT_CODES)


@pytest.mark.parametrize("code", Code.values())
def test_a_refusal_says_its_code(code: Code.ValueType) -> None:
    assert str(RefusedError("why", code=code)) == f"{Code.Name(code).removeprefix('CODE_')}: why"


def test_exported_members() -> None:
    exported = exchange.client.__all__
    assert exported == sorted(exported)
    assert set(EXIT_CODES) <= set(exported)
    for name in exported:
        member = getattr(exchange.client, name)
        assert member.__doc__
        assert member.__module__.startswith("exchange.client.")
