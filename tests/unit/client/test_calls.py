import asyncio

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from exchange.client.calls import call, call_until, error_of
from exchange.client.errors import RefusedError, ResponseInvalidError, UnavailableError
from exchange.transport import DIRECTORY_PROVE
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
        assert error.retry == (code == grpc.StatusCode.UNAVAILABLE)
        assert error.status == code.name
        assert str(error)


def test_a_refusal_is_known_by_the_exchanges_own_details() -> None:
    details = status(ErrorInfo(domain="exchange.v1", reason="NO_AGREEMENT"))
    error = error_of(grpc.StatusCode.UNAVAILABLE, "no such agreement", details)
    assert isinstance(error, RefusedError)
    assert (error.code, error.reason) == (Code.CODE_NO_AGREEMENT, "no such agreement")
    assert not error.verified


@pytest.mark.parametrize("reason", ["", "SOMETHING_NEW", "UNSPECIFIED"])
def test_an_unknown_reason_is_a_refusal_all_the_same(reason: str) -> None:
    error = error_of(grpc.StatusCode.PERMISSION_DENIED, "no", status(ErrorInfo(domain="exchange.v1", reason=reason)))
    assert isinstance(error, RefusedError)
    assert error.code == Code.CODE_UNSPECIFIED


@pytest.mark.parametrize("more", [b"\xff", b"\x0a\x01\x00"])
def test_a_malformed_signed_refusal_does_not_hide_the_refusal(more: bytes) -> None:
    details = status(ErrorInfo(domain="exchange.v1", reason="EXPIRED"), more)
    error = error_of(grpc.StatusCode.FAILED_PRECONDITION, "expired", details)
    assert isinstance(error, RefusedError)
    assert error.refusal is None
    assert error.unverified
