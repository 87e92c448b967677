import asyncio
from collections.abc import Generator
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from exchange.client import calls
from exchange.client.call_errors import error_of
from exchange.client.calls import GrpcTransport, call, call_until
from exchange.client.errors import RefusedError, ResponseInvalidError, UnavailableError
from exchange.core.protocol import PROTOCOL, SILENT
from exchange.transport import DIRECTORY_PROVE, VERSIONS, TlsIdentity, own_announcement
from exchange.v1.access_pb2 import Code
from exchange.v1.log_pb2 import DirectoryServiceProveRequest, DirectoryServiceProveResponse
from tests.simulator import lost_connection


class Scripted:
    """Answers with what it is given, one after the other."""

    def __init__(self, *answers: bytes | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[bytes] = []

    async def unary(self, method: str, request: bytes, timeout: float) -> bytes:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self) -> None: ...


def status(info: ErrorInfo, more: bytes = b"") -> Status:
    packed = AnyMessage()
    packed.Pack(info)
    details = [packed]
    if more:
        details.append(AnyMessage(type_url="type.googleapis.com/exchange.v1.RefusalDetail", value=more))
    return Status(code=7, message="no", details=details)


async def until(transport: Scripted, seconds: float = 5) -> DirectoryServiceProveResponse:
    deadline = asyncio.get_running_loop().time() + seconds
    request = DirectoryServiceProveRequest()
    return await call_until(transport, DIRECTORY_PROVE, request, DirectoryServiceProveResponse, deadline)


async def test_decodes_strictly() -> None:
    with pytest.raises(ResponseInvalidError):
        await call(Scripted(b"\xff"), DIRECTORY_PROVE, DirectoryServiceProveRequest(), DirectoryServiceProveResponse, 1)


async def test_sends_the_same_bytes_until_an_answer_comes() -> None:
    transport = Scripted(lost_connection(), lost_connection(), b"")
    assert await until(transport) == DirectoryServiceProveResponse()
    assert len(transport.requests) == 3
    assert len(set(transport.requests)) == 1


async def test_gives_up_at_the_deadline() -> None:
    with pytest.raises(UnavailableError):
        await until(Scripted(lost_connection()), 0.02)


@pytest.mark.parametrize(
    "error", [RefusedError("no", code=Code.CODE_OVERLOADED), UnavailableError("no", status="INTERNAL")]
)
async def test_tries_nothing_else_again(error: Exception) -> None:
    transport = Scripted(error, b"")
    with pytest.raises(type(error)):
        await until(transport)
    assert len(transport.requests) == 1


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code != grpc.StatusCode.OK])
def test_a_status_without_the_exchanges_own_details_is_no_refusal(code: grpc.StatusCode) -> None:
    foreign = status(ErrorInfo(domain="another.domain", reason="NO_AGREEMENT"))
    for details in (None, Status(code=7), foreign):
        error = error_of(code, "", details)
        assert isinstance(error, UnavailableError)
        assert error.retry == (code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})
        assert error.status == code.name
        assert str(error)


def test_a_refusal_is_known_by_the_exchanges_own_details() -> None:
    details = status(ErrorInfo(domain="exchange.v1", reason="NO_AGREEMENT"))
    error = error_of(grpc.StatusCode.UNAVAILABLE, "no such agreement", details)
    assert isinstance(error, RefusedError)
    assert (error.code, error.reason) == (Code.CODE_NO_AGREEMENT, "no such agreement")
    assert not error.verified


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL])
def test_a_broker_that_fails_refuses_nothing(code: grpc.StatusCode) -> None:
    error = error_of(code, "the broker failed", status(ErrorInfo(domain="exchange.v1", reason="LOG_UNAVAILABLE")))
    assert isinstance(error, UnavailableError)
    assert error.retry == (code == grpc.StatusCode.UNAVAILABLE)


def test_two_that_do_not_understand_each_other_have_decided_nothing() -> None:
    details = status(ErrorInfo(domain="exchange.v1", reason="VERSION_UNSUPPORTED"))
    told = error_of(grpc.StatusCode.FAILED_PRECONDITION, "this broker is too old", details)
    # A broker that has never heard of the method.
    unknown = error_of(grpc.StatusCode.UNIMPLEMENTED, "Method not found!", None)
    for error in (told, unknown):
        assert isinstance(error, UnavailableError)
        assert "update the older" in error.hint
        assert not error.retry
    assert str(told) == "this broker is too old"


@pytest.mark.parametrize("reason", ["", "ENTRY_REFUSED", "UNSPECIFIED"])
def test_an_unknown_reason_is_a_refusal_all_the_same(reason: str) -> None:
    error = error_of(grpc.StatusCode.PERMISSION_DENIED, "no", status(ErrorInfo(domain="exchange.v1", reason=reason)))
    assert isinstance(error, RefusedError)
    assert error.code == Code.CODE_UNSPECIFIED
    assert error.label == (reason or "UNSPECIFIED")


@pytest.mark.parametrize("more", [b"\xff", b"\x0a\x01\x00"])
def test_a_malformed_signed_refusal_does_not_hide_the_refusal(more: bytes) -> None:
    details = status(ErrorInfo(domain="exchange.v1", reason="EXPIRED"), more)
    error = error_of(grpc.StatusCode.FAILED_PRECONDITION, "expired", details)
    assert isinstance(error, RefusedError)
    assert error.refusal is None
    assert error.unverified


IDLE, CONNECTING, READY, BROKEN = (
    grpc.ChannelConnectivity.IDLE,
    grpc.ChannelConnectivity.CONNECTING,
    grpc.ChannelConnectivity.READY,
    grpc.ChannelConnectivity.TRANSIENT_FAILURE,
)


def rpc_error(code: grpc.StatusCode, details: str = "", status: Status | None = None) -> grpc.aio.AioRpcError:
    trailing = grpc.aio.Metadata()
    if status is not None:
        trailing.add("grpc-status-details-bin", status.SerializeToString())
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details)


class Channel:
    """A channel that goes through states, and then answers every call in one way."""

    def __init__(self, answer: bytes | Exception, *states: grpc.ChannelConnectivity) -> None:
        self.answer = answer
        self.states = list(states)
        self.sent = 0
        self.versions: tuple[str, ...] = ()
        self.closed = False

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        assert try_to_connect
        return self.states[0]

    async def wait_for_state_change(self, state: grpc.ChannelConnectivity) -> None:
        assert self.states.pop(0) == state
        if not self.states:
            await asyncio.Event().wait()

    def unary_unary(self, method: str, serialize: None, deserialize: None) -> "Channel":
        return self

    def __call__(self, request: bytes, timeout: float, metadata: tuple[tuple[str, str], ...]) -> "Channel":
        self.sent += 1
        assert timeout > 0
        assert metadata == ((VERSIONS, str(own_announcement())),)
        return self

    def __await__(self) -> Generator[Any, None, bytes]:
        yield from asyncio.sleep(0).__await__()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def trailing_metadata(self) -> tuple[tuple[str, str], ...]:
        return tuple((VERSIONS, version) for version in self.versions)

    async def close(self, grace: None) -> None:
        self.closed = True


@pytest.fixture
def open_channels(monkeypatch: pytest.MonkeyPatch) -> dict[str, Channel]:
    channels: dict[str, Channel] = {}
    monkeypatch.setattr(calls, "open_channel", lambda address, identity: channels[address])
    return channels


def grpc_transport(*brokers: str) -> GrpcTransport:
    return GrpcTransport(brokers, TlsIdentity(b"", b"", b""))


UNREACHABLE = rpc_error(grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses")


async def test_the_next_broker_is_asked_where_one_cannot_be_reached(open_channels: dict[str, Channel]) -> None:
    open_channels["a"] = Channel(UNREACHABLE, IDLE, CONNECTING, BROKEN)
    open_channels["b"] = Channel(b"answer", CONNECTING, READY)
    transport = grpc_transport("a", "b")
    assert await transport.unary(DIRECTORY_PROVE, b"", 5) == b"answer"
    assert await transport.unary(DIRECTORY_PROVE, b"", 5) == b"answer"
    # The one that answered is asked first from then on.
    assert (open_channels["a"].sent, open_channels["b"].sent) == (1, 2)
    await transport.close()
    assert open_channels["a"].closed
    assert open_channels["b"].closed


async def test_no_other_broker_is_asked_once_the_connection_stood(open_channels: dict[str, Channel]) -> None:
    open_channels["a"] = Channel(rpc_error(grpc.StatusCode.UNAVAILABLE, "connection reset"), READY)
    open_channels["b"] = Channel(b"answer", READY)
    with pytest.raises(UnavailableError, match="a: connection reset") as caught:
        await grpc_transport("a", "b").unary(DIRECTORY_PROVE, b"", 5)
    assert caught.value.retry
    assert open_channels["b"].sent == 0


@pytest.mark.parametrize("code", ["UNAVAILABLE", "CANCELLED", "DEADLINE_EXCEEDED"])
async def test_the_same_bytes_go_to_the_next_broker_when_they_are_sent_again(
    open_channels: dict[str, Channel], code: str
) -> None:
    open_channels["a"] = Channel(rpc_error(grpc.StatusCode[code], "stopping"), READY)
    open_channels["b"] = Channel(b"answer", READY)
    transport = grpc_transport("a", "b")
    with pytest.raises(UnavailableError):
        await transport.unary(DIRECTORY_PROVE, b"", 5)
    assert await transport.unary(DIRECTORY_PROVE, b"", 5) == b"answer"
    assert (open_channels["a"].sent, open_channels["b"].sent) == (1, 1)


async def test_a_broker_that_answers_is_kept_whatever_it_answers(open_channels: dict[str, Channel]) -> None:
    details = status(ErrorInfo(domain="exchange.v1", reason="NO_AGREEMENT"))
    open_channels["a"] = Channel(rpc_error(grpc.StatusCode.PERMISSION_DENIED, "no", details), READY)
    open_channels["b"] = Channel(b"answer", READY)
    transport = grpc_transport("a", "b")
    for _ in range(2):
        with pytest.raises(RefusedError):
            await transport.unary(DIRECTORY_PROVE, b"", 5)
    assert open_channels["b"].sent == 0


async def test_what_a_broker_announces_is_kept(open_channels: dict[str, Channel]) -> None:
    open_channels["a"] = Channel(b"answer", READY)
    open_channels["a"].versions = (f"0.9.0 {PROTOCOL}-{PROTOCOL.major}.{PROTOCOL.minor + 1}",)
    transport = grpc_transport("a")
    assert transport.announced("a") is None
    await transport.unary(DIRECTORY_PROVE, b"", 5)
    assert str(transport.announced("a")) == open_channels["a"].versions[0]
    # A broker of before announcements began.
    open_channels["a"].versions = ()
    await transport.unary(DIRECTORY_PROVE, b"", 5)
    assert transport.announced("a") == SILENT


@pytest.mark.parametrize(
    ("versions", "says"),
    [
        (("9.0.0 9.0-9.1",), "this program is too old, and needs a release that speaks 9.0"),
        (("0.0.1 0.1-0.2",), f"the broker a is too old, and needs a release that speaks {PROTOCOL}"),
        (("nonsense",), "an announcement of versions is"),
        (("0.1.0 1.0-1.0", "0.1.0 1.0-1.0"), "announced once"),
    ],
)
async def test_a_broker_of_another_version_is_not_believed(
    open_channels: dict[str, Channel], versions: tuple[str, ...], says: str
) -> None:
    open_channels["a"] = Channel(b"answer", READY)
    open_channels["a"].versions = versions
    with pytest.raises(UnavailableError, match=says) as caught:
        await grpc_transport("a").unary(DIRECTORY_PROVE, b"", 5)
    assert not caught.value.retry


async def test_a_broker_that_swallows_packets_leaves_time_for_the_next(open_channels: dict[str, Channel]) -> None:
    open_channels["a"] = Channel(b"never", CONNECTING)
    open_channels["b"] = Channel(b"answer", READY)
    assert await grpc_transport("a", "b").unary(DIRECTORY_PROVE, b"", 0.1) == b"answer"
    assert open_channels["a"].sent == 0


async def test_what_was_never_sent_may_be_sent_again(open_channels: dict[str, Channel]) -> None:
    open_channels["a"] = Channel(b"never", CONNECTING)
    with pytest.raises(UnavailableError, match="a: no connection in time") as caught:
        await grpc_transport("a").unary(DIRECTORY_PROVE, b"", 0.01)
    assert caught.value.retry


async def test_says_why_no_broker_can_be_reached(open_channels: dict[str, Channel]) -> None:
    open_channels["a"] = open_channels["b"] = Channel(UNREACHABLE, BROKEN)
    with pytest.raises(UnavailableError, match="b: failed to connect") as caught:
        await grpc_transport("a", "b").unary(DIRECTORY_PROVE, b"", 5)
    assert caught.value.retry


async def test_a_refusal_over_grpc_is_a_refusal(open_channels: dict[str, Channel]) -> None:
    details = status(ErrorInfo(domain="exchange.v1", reason="NO_AGREEMENT"))
    open_channels["a"] = Channel(rpc_error(grpc.StatusCode.PERMISSION_DENIED, "no", details), READY)
    with pytest.raises(RefusedError) as caught:
        await grpc_transport("a").unary(DIRECTORY_PROVE, b"", 5)
    assert caught.value.code == Code.CODE_NO_AGREEMENT


async def test_details_that_contradict_their_status_are_no_refusal(open_channels: dict[str, Channel]) -> None:
    details = status(ErrorInfo(domain="exchange.v1", reason="NO_AGREEMENT"))
    open_channels["a"] = Channel(rpc_error(grpc.StatusCode.INTERNAL, "no", details), READY)
    with pytest.raises(UnavailableError):
        await grpc_transport("a").unary(DIRECTORY_PROVE, b"", 5)


# --- a certificate that is renewed --------------------------------------------------------------------


async def test_the_next_call_shows_the_renewed_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[TlsIdentity] = []

    def opened(address: str, identity: TlsIdentity) -> Channel:
        shown.append(identity)
        return Channel(b"answer", READY)

    monkeypatch.setattr(calls, "open_channel", opened)
    old, new = TlsIdentity(b"", b"old", b""), TlsIdentity(b"", b"new", b"")
    transport = GrpcTransport(("a",), old)
    await transport.unary("method", b"", 1)
    transport.renew(new)
    await transport.unary("method", b"", 1)
    assert shown == [old, new]
    await transport.close()


async def test_a_call_under_way_ends_on_the_connection_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    class Slow(Channel):
        """A channel whose connection takes its time."""

        async def wait_for_state_change(self, last: grpc.ChannelConnectivity) -> None:
            begun.set()
            await go_on.wait()
            assert not self.closed
            await super().wait_for_state_change(last)

    channel = Slow(b"answer", CONNECTING, READY)
    monkeypatch.setattr(calls, "open_channel", lambda *_: channel)
    transport = GrpcTransport(("a",), TlsIdentity(b"", b"", b""))
    call = asyncio.create_task(transport.unary("method", b"", 5))
    await begun.wait()
    transport.renew(TlsIdentity(b"", b"new", b""))
    await asyncio.sleep(0)
    assert not channel.closed
    go_on.set()
    assert await call == b"answer"
    # Nobody uses it any more.
    await transport.close()
    assert channel.closed
