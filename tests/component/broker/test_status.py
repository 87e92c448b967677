"""One table turns every error into a status; the text of what nobody expected stays here."""

import base64
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import quote

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

import exchange.broker
import exchange.core
from exchange import batching, home, transport
from exchange.broker.anchor import AnchorError
from exchange.broker.beginning import NoBeginningError
from exchange.broker.config import ConfigError
from exchange.broker.logs import AuditUnavailableError, EntryRefusedError
from exchange.broker.recovery import RecoveryError
from exchange.broker.refusals import RefusedError
from exchange.broker.retention import RetentionError
from exchange.broker.status import (
    InviteRefusedError,
    JoinRefusedError,
    NoDeadlineError,
    NotPermittedError,
    TooManyReadsError,
    TooManyTunnelsError,
    is_expected,
    status_of,
)
from exchange.broker.tunnel import FlightCutError, TunnelFullError, TunnelLostError
from exchange.broker.witnesses import ForkAlarmError, WitnessError
from exchange.core.access import MAX_REFUSAL, code_name, refusal_draft
from exchange.core.calendar import UncoveredYearError
from exchange.core.decision import Deny
from exchange.core.envelope import Envelope, decode_envelope
from exchange.core.errors import CoreError, VersionError
from exchange.core.filters import FilterError
from exchange.core.kept import SnapshotBrokenError
from exchange.metrics.serving import ListenError
from exchange.overrides import OverrideError
from exchange.store import ports
from exchange.store.ports import StoreError
from exchange.transport import CHANNEL_OPTIONS, ERROR_DOMAIN, MAX_METADATA, SERVER_OPTIONS, PeerError
from exchange.v1.access_pb2 import Code
from exchange.v1.relay_pb2 import RefusalDetail
from tests.world import BROKER, World

SECRET = "the key of 王芳 is 110101199003074610"

EXPECTED = {
    PeerError: (grpc.StatusCode.UNAUTHENTICATED, "PEER_UNKNOWN"),
    NotPermittedError: (grpc.StatusCode.PERMISSION_DENIED, "NOT_PERMITTED"),
    TooManyTunnelsError: (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_TUNNELS"),
    TooManyReadsError: (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED_READS"),
    InviteRefusedError: (grpc.StatusCode.FAILED_PRECONDITION, "INVITE_REFUSED"),
    JoinRefusedError: (grpc.StatusCode.PERMISSION_DENIED, "JOIN_REFUSED"),
    NoDeadlineError: (grpc.StatusCode.INVALID_ARGUMENT, "NO_DEADLINE"),
    EntryRefusedError: (grpc.StatusCode.FAILED_PRECONDITION, "ENTRY_REFUSED"),
    AuditUnavailableError: (grpc.StatusCode.UNAVAILABLE, "LOG_UNAVAILABLE"),
    StoreError: (grpc.StatusCode.UNAVAILABLE, "LOG_UNAVAILABLE"),
    VersionError: (grpc.StatusCode.FAILED_PRECONDITION, "VERSION_UNSUPPORTED"),
    CoreError: (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED"),
}
# What never leaves a call: it ends a process, or is caught on the way. Should it come, it is a fault of the program.
INTERNAL = {
    AnchorError,
    ConfigError,
    FlightCutError,
    ForkAlarmError,
    NoBeginningError,
    RecoveryError,
    RetentionError,
    SnapshotBrokenError,
    TunnelLostError,
    TunnelFullError,
    WitnessError,
    batching.ClosedError,
    home.HomeError,
    OverrideError,
}


def modules() -> Iterator[object]:
    yield from (batching, home, ports, transport)
    for package in (exchange.broker, exchange.core):
        for module in pkgutil.iter_modules(package.__path__):
            yield importlib.import_module(f"{package.__name__}.{module.name}")


def error_classes() -> set[type[Exception]]:
    found = set()
    for module in modules():
        for _, kind in inspect.getmembers(module, inspect.isclass):
            if issubclass(kind, Exception) and kind.__module__.startswith("exchange."):
                found.add(kind)
    return found


def made(kind: type[Exception]) -> Exception:
    more: dict[type[Exception], tuple[object, ...]] = {
        FilterError: (Code.CODE_MALFORMED, SECRET),
        UncoveredYearError: (SECRET, 2026),
        FlightCutError: (Deny(6, Code.CODE_SUSPENDED, SECRET),),
    }
    return kind(*more.get(kind, (SECRET,)))


def info(status: Status) -> ErrorInfo:
    found = ErrorInfo()
    assert status.details[0].Unpack(found)
    assert found.domain == ERROR_DOMAIN
    return found


@pytest.fixture
def refusal(world: World) -> Envelope:
    deny = Deny(5, Code.CODE_NO_AGREEMENT, "no such agreement")
    return world.sign(refusal_draft(deny, str(BROKER), bytes(32), world.directory.size, world.now), BROKER)


def test_every_class_of_error_is_known_here() -> None:
    found = error_classes()
    assert {CoreError, StoreError, FilterError, RefusedError, AuditUnavailableError} <= found
    unknown = {kind for kind in found if not issubclass(kind, (*EXPECTED, RefusedError))}
    starting = {importlib.import_module("exchange.broker.app").BrokerError, ListenError}
    assert unknown == INTERNAL | starting


@pytest.mark.parametrize("kind", sorted(error_classes() - {RefusedError}, key=lambda kind: kind.__name__))
def test_every_error_has_its_status(kind: type[Exception]) -> None:
    row = next((row for base, row in EXPECTED.items() if issubclass(kind, base)), None)
    status = status_of(made(kind))
    code, reason = row or (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert (status.code, info(status).reason) == (code.value[0], reason)
    assert is_expected(made(kind)) == (row is not None)
    # Stores fail with what the database said, and the rest was never meant for a peer.
    if row is None or issubclass(kind, StoreError):
        assert status.message == "the broker failed"
    else:
        assert status.message.startswith(SECRET)


@pytest.mark.parametrize(
    "error", [RuntimeError(SECRET), KeyError(SECRET), OSError(2, SECRET), ValueError(SECRET), AssertionError(SECRET)]
)
def test_the_text_of_an_unexpected_error_stays_here(error: Exception) -> None:
    status = status_of(error)
    assert (status.code, info(status).reason) == (grpc.StatusCode.INTERNAL.value[0], "INTERNAL")
    assert SECRET not in str(status)
    assert not is_expected(error)


@pytest.mark.parametrize("code", sorted(set(Code.values()) - {Code.CODE_UNSPECIFIED}), ids=Code.Name)
def test_every_code_of_a_refusal_has_its_status(refusal: Envelope, code: Code.ValueType) -> None:
    status = status_of(RefusedError(code, "because", refusal))
    assert status.code not in {grpc.StatusCode.OK.value[0], grpc.StatusCode.INTERNAL.value[0]}
    assert (status.message, info(status).reason) == ("because", code_name(code))
    detail = RefusalDetail()
    assert status.details[1].Unpack(detail)
    assert decode_envelope(detail.envelope) == refusal


@pytest.mark.parametrize(
    ("code", "status"),
    [
        # What the same bytes may cure is UNAVAILABLE, and nothing else is: clients retry by it.
        (Code.CODE_PROVIDER_UNAVAILABLE, grpc.StatusCode.UNAVAILABLE),
        (Code.CODE_AUDIT_UNAVAILABLE, grpc.StatusCode.UNAVAILABLE),
        (Code.CODE_OVERLOADED, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (Code.CODE_NO_AGREEMENT, grpc.StatusCode.PERMISSION_DENIED),
        (Code.CODE_REPLAYED, grpc.StatusCode.ALREADY_EXISTS),
    ],
)
def test_the_status_says_whether_to_send_it_again(
    refusal: Envelope, code: Code.ValueType, status: grpc.StatusCode
) -> None:
    assert status_of(RefusedError(code, "", refusal)).code == status.value[0]


def test_the_largest_refusal_fits_the_metadata_of_a_call(refusal: Envelope) -> None:
    """gRPC drops a status whose metadata is larger, and the refusal with it."""
    largest = replace(refusal, payload=bytes(MAX_REFUSAL - len(refusal.encode()) + len(refusal.payload) - 8))
    assert MAX_REFUSAL - 16 < len(largest.encode()) <= MAX_REFUSAL
    status = rpc_status.to_status(status_of(RefusedError(Code.CODE_MALFORMED, "𠀀" * MAX_REFUSAL, largest)))
    # On the wire text is percent-encoded, and what is binary is base64 (gRPC over HTTP/2, "Responses").
    text = len(quote(status.details))
    binary = sum(len(base64.b64encode(value)) for _, value in status.trailing_metadata)
    assert text + binary < MAX_METADATA
    for options in (CHANNEL_OPTIONS, SERVER_OPTIONS):
        assert dict(options)["grpc.max_metadata_size"] == MAX_METADATA
