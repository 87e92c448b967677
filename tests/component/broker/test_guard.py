"""The outermost interceptor: nobody unknown, no call without an end, no exception as text of its own."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from exchange.broker.guard import Guard
from exchange.broker.status import NotPermittedError
from exchange.core.protocol import PROTOCOL, Version
from exchange.transport import HEALTH_CHECK, VERSIONS, own_announcement
from tests.world import REGISTRY

SECRET = "110101199003074610"
GOOD = {"ssl_tls_version": [b"TLSv1.3"], "peer_uri": [str(REGISTRY).encode()]}

STRANGERS: dict[str, Mapping[str, list[bytes]]] = {
    "no TLS": {},
    "TLS 1.2": GOOD | {"ssl_tls_version": [b"TLSv1.2"]},
    "no TLS version": {"peer_uri": GOOD["peer_uri"]},
    "two TLS versions": GOOD | {"ssl_tls_version": [b"TLSv1.3", b"TLSv1.2"]},
    "no certificate": {"ssl_tls_version": GOOD["ssl_tls_version"]},
    "no URI": GOOD | {"peer_uri": []},
    "two URIs": GOOD | {"peer_uri": [str(REGISTRY).encode()] * 2},
    "another URI": GOOD | {"peer_uri": [b"https://city.example/population"]},
    "a URI that is no text": GOOD | {"peer_uri": [b"exchange://\xff"]},
    "an upper-case name": GOOD | {"peer_uri": [b"exchange://city.example/Population/registry"]},
    "a common name alone": {
        "ssl_tls_version": GOOD["ssl_tls_version"],
        "x509_common_name": [str(REGISTRY).encode()],
    },
}


class Context:
    """A call's context, as gRPC gives it."""

    def __init__(
        self, auth: Mapping[str, list[bytes]] = GOOD, remaining: float | None = 5.0, *versions: str | bytes
    ) -> None:
        self.auth = auth
        self.remaining = remaining
        self.versions = versions
        self.said: dict[str, str] = {}
        self.aborted: tuple[Any, ...] = ()

    def auth_context(self) -> Mapping[str, list[bytes]]:
        return self.auth

    def time_remaining(self) -> float | None:
        return self.remaining

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return ("user-agent", "grpc"), *((VERSIONS, version) for version in self.versions)

    def set_trailing_metadata(self, metadata: tuple[tuple[str, str], ...]) -> None:
        self.said |= dict(metadata)

    async def send_initial_metadata(self, metadata: tuple[tuple[str, str], ...]) -> None:
        self.said |= dict(metadata)

    async def abort(self, *status: Any) -> None:
        self.aborted = status
        raise grpc.aio.AbortError

    @property
    def reason(self) -> str:
        code, details, metadata = self.aborted
        status = Status.FromString(dict(metadata)["grpc-status-details-bin"])
        assert (status.code, status.message) == (code.value[0], details)
        info = ErrorInfo()
        assert status.details[0].Unpack(info)
        return info.reason


async def guarded(handler: Any, method: str = "/exchange.v1.X/Y") -> Any:
    """A handler as the guard gives it to gRPC."""

    async def continuation(_details: Any) -> Any:
        return handler

    return await Guard().intercept_service(continuation, SimpleNamespace(method=method))  # type: ignore[arg-type]


async def unary(context: Context, behavior: Any) -> Any:
    handler = await guarded(grpc.unary_unary_rpc_method_handler(behavior))
    return await handler.unary_unary(b"request", context)


async def stream(context: Context, behavior: Any) -> Any:
    async def requests() -> AsyncIterator[bytes]:
        yield b"frame"

    handler = await guarded(grpc.stream_stream_rpc_method_handler(behavior))
    return await handler.stream_stream(requests(), context)


async def echo(request: Any, _context: Any) -> Any:
    return request


async def never(*_: Any) -> None:
    raise AssertionError("the guard let it through")


async def test_a_call_of_a_party_goes_through() -> None:
    assert await unary(Context(), echo) == b"request"
    assert await stream(Context(), lambda requests, _context: anext(requests)) is None


@pytest.mark.parametrize("call", [unary, stream])
@pytest.mark.parametrize("case", STRANGERS)
async def test_who_does_not_say_who_it_is_over_tls_1_3_gets_nowhere(call: Any, case: str) -> None:
    context = Context(STRANGERS[case])
    with pytest.raises(grpc.aio.AbortError):
        await call(context, never)
    assert context.aborted[0] == grpc.StatusCode.UNAUTHENTICATED
    assert context.reason == "PEER_UNKNOWN"


async def test_a_call_without_a_deadline_is_refused() -> None:
    context = Context(remaining=None)
    with pytest.raises(grpc.aio.AbortError):
        await unary(context, never)
    assert (context.aborted[0], context.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "NO_DEADLINE")


async def test_a_tunnel_needs_no_deadline() -> None:
    await stream(Context(remaining=None), lambda requests, _context: anext(requests))


@pytest.mark.parametrize("call", [unary, stream])
@pytest.mark.parametrize("error", [RuntimeError(SECRET), KeyError(SECRET), OSError(2, SECRET), grpc.aio.UsageError()])
async def test_an_unexpected_error_says_nothing_of_itself(call: Any, error: Exception) -> None:
    async def fail(*_: Any) -> None:
        raise error

    context = Context()
    with pytest.raises(grpc.aio.AbortError):
        await call(context, fail)
    assert (context.aborted[0], context.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert SECRET not in str(context.aborted)


@pytest.mark.parametrize("call", [unary, stream])
async def test_an_expected_error_says_what_it_is(call: Any) -> None:
    async def refuse(*_: Any) -> None:
        raise NotPermittedError("only auditors")

    context = Context()
    with pytest.raises(grpc.aio.AbortError):
        await call(context, refuse)
    assert (context.aborted[:2], context.reason) == (
        (grpc.StatusCode.PERMISSION_DENIED, "only auditors"),
        "NOT_PERMITTED",
    )


@pytest.mark.parametrize("call", [unary, stream])
@pytest.mark.parametrize("error", [asyncio.CancelledError, grpc.aio.AbortError])
async def test_a_cancelled_or_aborted_call_ends_as_it_is(call: Any, error: type[BaseException]) -> None:
    async def stop(*_: Any) -> None:
        raise error

    context = Context()
    with pytest.raises(error):
        await call(context, stop)
    assert context.aborted == ()


async def test_an_unknown_method_stays_unknown() -> None:
    assert await guarded(None) is None


async def test_a_kind_of_method_without_a_guard_is_not_served() -> None:
    with pytest.raises(TypeError):
        await guarded(grpc.unary_stream_rpc_method_handler(never))


async def test_serialisers_are_kept() -> None:
    handler = grpc.unary_unary_rpc_method_handler(
        echo, request_deserializer=bytes.fromhex, response_serializer=bytes.hex
    )
    kept = await guarded(handler)
    assert (kept.request_deserializer, kept.response_serializer) == (bytes.fromhex, bytes.hex)


# --- versions -----------------------------------------------------------------------------------------

NEXT, AFTER_NEXT = (
    f"0.9.0 {Version(PROTOCOL.major, PROTOCOL.minor + first)}-{Version(PROTOCOL.major, PROTOCOL.minor + first + 1)}"
    for first in (0, 1)
)
MAJOR = f"9.0.0 {PROTOCOL.major + 1}.0-{PROTOCOL.major + 1}.3"


@pytest.mark.parametrize("versions", [(), (str(own_announcement()),), (NEXT,)], ids=["silent", "the same", "next"])
@pytest.mark.parametrize("call", [unary, stream])
async def test_who_speaks_a_version_of_this_broker_is_served(call: Any, versions: tuple[str, ...]) -> None:
    served = []

    async def serve(_request: Any, _context: Any) -> None:
        served.append(True)

    context = Context(GOOD, 5.0, *versions)
    await call(context, serve)
    assert served
    assert context.said == {VERSIONS: str(own_announcement())}


@pytest.mark.parametrize("version", [AFTER_NEXT, MAJOR, "0.0.1 0.8-0.9"], ids=["newer", "another major", "older"])
@pytest.mark.parametrize("call", [unary, stream])
async def test_who_speaks_none_is_told_which_it_needs(call: Any, version: str) -> None:
    context = Context(GOOD, 5.0, version)
    with pytest.raises(grpc.aio.AbortError):
        await call(context, never)
    assert (context.aborted[0], context.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "VERSION_UNSUPPORTED")
    release, spoken = version.split()
    needed = f"the caller is too old, and needs a release that speaks {PROTOCOL}"
    if not release.startswith("0.0"):
        needed = f"this broker is too old, and needs a release that speaks {spoken.partition('-')[0]}"
    assert needed in context.aborted[1]
    assert f"({release})" in context.aborted[1]
    # A refusal says what the broker is, too.
    assert context.aborted[2][-1] == (VERSIONS, str(own_announcement()))


@pytest.mark.parametrize("versions", [("1.0",), ("a b-c",), (NEXT, NEXT), (b"\xff",), ("x 1.0-0.9",), ("x 1.0-2.0",)])
async def test_an_announcement_in_another_form_is_refused(versions: tuple[str | bytes, ...]) -> None:
    context = Context(GOOD, 5.0, *versions)
    with pytest.raises(grpc.aio.AbortError):
        await unary(context, never)
    assert (context.aborted[0], context.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED")


async def test_every_version_may_ask_whether_the_broker_lives() -> None:
    handler = await guarded(grpc.unary_unary_rpc_method_handler(echo), HEALTH_CHECK)
    context = Context(GOOD, 5.0, MAJOR)
    assert await handler.unary_unary(b"request", context) == b"request"
    assert context.said == {VERSIONS: str(own_announcement())}
