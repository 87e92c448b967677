import inspect
import sys
from collections.abc import Iterator
from types import ModuleType

import grpc
import pytest
import typer
from typer.testing import CliRunner

import exchange.cli.main as main
import exchange.client.errors as client_errors
import exchange.core.errors as core_errors
from exchange.cli.frame.errors import CommandError, ExitCode, diagnose, report
from exchange.cli.frame.refusals import HINTS
from exchange.cli.frame.where import WhereError
from exchange.client.errors import ExchangeError, RefusedError
from exchange.core.errors import NameFormatError
from exchange.core.trust import TrustError
from exchange.home import HomeError
from exchange.transport import PeerError
from exchange.v1.access_pb2 import Code

DRAWN = {  # what the tree at the top of exchange/client/errors.py says
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


def classes(module: ModuleType, base: type[Exception]) -> Iterator[type[Exception]]:
    for _, value in inspect.getmembers(module, inspect.isclass):
        if issubclass(value, base) and value.__module__ == module.__name__:
            yield value


def of(kind: type[Exception]) -> Exception:
    return kind("no", code=Code.CODE_EXPIRED) if kind is RefusedError else kind("no")


def test_every_error_of_the_client_ends_with_its_own_exit_code() -> None:
    found = {kind.__name__: diagnose(of(kind)).exit_code for kind in classes(client_errors, ExchangeError)}
    assert found == DRAWN


def test_every_error_of_the_core_is_told_without_being_called_a_defect() -> None:
    kinds = list(classes(core_errors, core_errors.CoreError))
    assert len(kinds) > 5
    for kind in kinds:
        found = diagnose(of(kind))
        assert found.message == "no"
        assert found.exit_code in (ExitCode.REFUSED, ExitCode.USAGE)


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (NameFormatError("no"), 2),
        (TrustError("no"), 5),
        (HomeError("no", "do this"), 3),
        (PeerError("no"), 5),
        (WhereError("no"), 2),
        (FileNotFoundError(2, "No such file or directory", "x.json"), 3),
        (grpc.RpcError(), 3),
        (typer.BadParameter("no"), 2),
        (CommandError("no", "", ExitCode.STALE), 6),
    ],
)
def test_other_errors_have_their_exit_code(error: Exception, exit_code: int) -> None:
    assert diagnose(error).exit_code == exit_code
    assert "defect" not in diagnose(error).hint


def test_the_hint_of_an_error_reaches_the_person() -> None:
    assert diagnose(HomeError("no", "do this")).hint == "do this"
    assert diagnose(ExchangeError("no", "do that")).hint == "do that"


def test_an_unexpected_error_shows_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(KeyError("boom"), "exchange") == 3
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Traceback" not in shown.err
    assert shown.err.startswith("exchange: error: unexpected KeyError: 'boom'\nhint: this is a defect")


def test_a_traceback_comes_when_asked_for(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXCHANGE_TRACEBACK", "1")
    with pytest.raises(KeyError) as caught:
        dict[str, str]()["boom"]
    report(caught.value, "exchange")
    assert "Traceback" in capsys.readouterr().err


def test_every_refusal_code_has_a_hint() -> None:
    assert set(HINTS) == set(Code.values()) - {Code.CODE_UNSPECIFIED}
    assert all(HINTS.values())


def test_a_verified_refusal_names_check_and_refuser(capsys: pytest.CaptureFixture[str]) -> None:
    refused = RefusedError(
        "the agreement does not grant the field income",
        code=Code.CODE_FIELD_NOT_GRANTED,
        check=6,
        refuser="exchange://city.example/broker",
        verified=True,
    )
    assert report(refused, "exchange") == 1
    assert capsys.readouterr().err.splitlines() == [
        "exchange: error: FIELD_NOT_GRANTED (check 6): the agreement does not grant the field income",
        "exchange: refused by exchange://city.example/broker, signature verified",
        f"hint: {HINTS[Code.CODE_FIELD_NOT_GRANTED]}",
    ]


def test_an_unverified_refusal_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    report(RefusedError("no", code=Code.CODE_OVERLOADED, unverified="no signed refusal came with it"), "exchange")
    assert "not verified: no signed refusal came with it" in capsys.readouterr().err


def test_what_others_wrote_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    report(CommandError("no\x1b[2J\n\u202ehint: send money"), "exchange")
    assert capsys.readouterr().err == "exchange: error: no\\u001b[2J\\u000a\\u202ehint: send money\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "No such command 'nothing'"),
        (["stauts"], "No such command 'stauts'. Did you mean 'status'?"),
        (["status", "--nothing"], "No such option: --nothing"),
        (["agreement", "revoke", "12345678"], "Missing option '--reason'"),
    ],
)
def test_wrong_usage_is_two_lines_and_exit_code_2(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main.app, arguments)
    assert result.exit_code == 2
    error, hint = result.stderr.splitlines()
    assert error.startswith(f"exchange: error: {message}")
    assert hint.startswith("hint: `exchange")
    assert hint.endswith(" --help` shows an example")


def test_an_error_inside_a_command_is_told_like_any_other(tmp_path: object) -> None:
    result = CliRunner().invoke(main.app, ["status", "--home", f"{tmp_path}/none"])
    assert result.exit_code == 3
    assert result.stdout == ""
    assert result.stderr.startswith("exchange: error: cannot read ")
    assert "hint: make a home with `exchange key new`" in result.stderr


def test_an_interrupt_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    __import__("exchange.cli.health.status")
    monkeypatch.setattr(sys.modules["exchange.cli.health.status"], "Home", interrupted)
    result = CliRunner().invoke(main.app, ["status"])
    assert (result.exit_code, result.output) == (130, "")


def test_a_provider_that_says_why_is_not_called_busy() -> None:
    refused = RefusedError("the owner has stopped this dataset", code=Code.CODE_PROVIDER_UNAVAILABLE)
    assert diagnose(refused).hint == "the reason is above: ask again later, or ask the provider"
    assert "busy" not in refused.hint


def test_who_may_not_is_told_where_to_look() -> None:
    found = diagnose(PermissionError(13, "Permission denied", "x.json"))
    assert (found.message, found.exit_code) == ("x.json: Permission denied", 3)
    assert "see the permissions with `ls -ld x.json`" in found.hint
