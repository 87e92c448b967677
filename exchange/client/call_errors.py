"""gRPC's errors as ours: what a failed call to a broker means."""

from collections.abc import Sequence

import grpc
from google.protobuf.message import DecodeError as ProtobufDecodeError
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from exchange.client.errors import ExchangeError, RefusedError, UnavailableError
from exchange.core.access import MAX_REFUSAL, code_name
from exchange.core.envelope import REFUSAL, Envelope, decode_envelope
from exchange.core.errors import CoreError
from exchange.transport import ERROR_DOMAIN, VERSION_UNSUPPORTED
from exchange.v1.access_pb2 import Code
from exchange.v1.relay_pb2 import RefusalDetail

UPDATE = "`exchange status` shows each broker's release, `exchange --version` this one's: update the older"
"""What to do where two programs do not understand each other."""

_FAILURES = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN})


def error_of(code: grpc.StatusCode, message: str, status: Status | None) -> ExchangeError:
    """What a failed call means: a refusal only where the exchange's own ErrorInfo is among the details.

    Args:
        code: gRPC's status.
        message: its text.
        status: the details that came with it.
    """
    details = status.details if status is not None else ()
    label = _label(details)
    known = _code(label)
    if label == VERSION_UNSUPPORTED:
        # Nothing was decided: the two do not understand each other.
        return UnavailableError(message, UPDATE, status=code.name)
    # A broker that fails says so in its own words: nothing was decided.
    if label and (known is not None or code not in _FAILURES):
        refusal, why = _signed_refusal(details)
        unspecified = Code.CODE_UNSPECIFIED
        return RefusedError(message, code=known or unspecified, label=label, refusal=refusal, unverified=why)
    hint = ""
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        hint = "the outcome is not known: the same request may be submitted again until it expires"
    elif code == grpc.StatusCode.UNIMPLEMENTED:
        hint = UPDATE
    # A broker that stops cancels what raced it; the same bytes are safe to send again.
    retry = code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    return UnavailableError(message or f"the call failed: {code.name}", hint, status=code.name, retry=retry)


def _label(details: Sequence[Message]) -> str:
    """The reason that the exchange gave, NO_AGREEMENT; empty without one of its own."""
    for detail in details:
        info = ErrorInfo()
        if detail.Is(ErrorInfo.DESCRIPTOR) and _unpack(detail, info) and info.domain == ERROR_DOMAIN:  # type: ignore[attr-defined]
            return info.reason or code_name(Code.CODE_UNSPECIFIED)
    return ""


def _signed_refusal(details: Sequence[Message]) -> tuple[Envelope | None, str]:
    """The refusal's envelope, still closed, and why nobody can rely on it yet."""
    for detail in details:
        packed = RefusalDetail()
        if detail.Is(RefusalDetail.DESCRIPTOR) and _unpack(detail, packed):  # type: ignore[attr-defined]
            try:
                return decode_envelope(packed.envelope, REFUSAL, MAX_REFUSAL), "nobody has verified it yet"
            except CoreError as error:
                return None, f"the signed refusal is malformed: {error}"
    return None, "no signed refusal came with it"


def _unpack(detail: Message, into: Message) -> bool:
    try:
        unpacked: bool = detail.Unpack(into)  # type: ignore[attr-defined]
    except ProtobufDecodeError:
        return False
    return unpacked


def _code(label: str) -> "Code.ValueType | None":
    try:
        return Code.Value(f"CODE_{label}")
    except ValueError:
        return None


def error_of_call(error: grpc.aio.AioRpcError, broker: str) -> ExchangeError:
    """What a failed call to a broker means; as `error_of`."""
    try:
        # An AioRpcError has all that is read of a call: its metadata, code and details.
        status = rpc_status.from_call(error)  # type: ignore[arg-type]
    except ValueError:
        # Details that contradict their own status.
        status = None
    message = error.details() or ""
    if status is None:
        message = f"{broker}: {message}"
    return error_of(error.code(), message, status)
