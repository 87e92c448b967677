"""How refusals and errors become gRPC status: one table, with google.rpc.ErrorInfo in every answer."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from exchange.broker.logs import AuditUnavailableError, EntryRefusedError
from exchange.broker.refusals import RefusedError
from exchange.core.access import code_name
from exchange.core.errors import CoreError, VersionError
from exchange.store.ports import StoreError
from exchange.transport import ERROR_DOMAIN, VERSION_UNSUPPORTED, PeerError
from exchange.v1.access_pb2 import Code
from exchange.v1.relay_pb2 import RefusalDetail


class NotPermittedError(Exception):
    """The peer may not do this."""


class TooManyTunnelsError(Exception):
    """The system has as many tunnels as it may."""


class TooManyReadsError(Exception):
    """The party reads faster than it may."""


class InviteRefusedError(Exception):
    """An invite cannot be made or changed like this."""


class JoinRefusedError(Exception):
    """What came with an invite is not taken."""


class NoDeadlineError(Exception):
    """The call came without a deadline."""


_REFUSALS: Mapping["Code.ValueType", grpc.StatusCode] = MappingProxyType(
    {
        Code.CODE_OVERLOADED: grpc.StatusCode.RESOURCE_EXHAUSTED,
        Code.CODE_MALFORMED: grpc.StatusCode.INVALID_ARGUMENT,
        Code.CODE_IDENTITY_MISMATCH: grpc.StatusCode.UNAUTHENTICATED,
        Code.CODE_SIGNATURE_INVALID: grpc.StatusCode.UNAUTHENTICATED,
        Code.CODE_KEY_REVOKED: grpc.StatusCode.UNAUTHENTICATED,
        Code.CODE_EXPIRED: grpc.StatusCode.FAILED_PRECONDITION,
        Code.CODE_REPLAYED: grpc.StatusCode.ALREADY_EXISTS,
        Code.CODE_NO_AGREEMENT: grpc.StatusCode.PERMISSION_DENIED,
        Code.CODE_AGREEMENT_ENDED: grpc.StatusCode.PERMISSION_DENIED,
        Code.CODE_OPERATION_NOT_GRANTED: grpc.StatusCode.PERMISSION_DENIED,
        Code.CODE_FIELD_NOT_GRANTED: grpc.StatusCode.PERMISSION_DENIED,
        Code.CODE_PURPOSE_NOT_GRANTED: grpc.StatusCode.PERMISSION_DENIED,
        Code.CODE_FORBIDDEN_BY_RULE: grpc.StatusCode.PERMISSION_DENIED,
        Code.CODE_QUOTA_EXHAUSTED: grpc.StatusCode.RESOURCE_EXHAUSTED,
        Code.CODE_PROVIDER_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
        Code.CODE_STATE_STALE: grpc.StatusCode.FAILED_PRECONDITION,
        Code.CODE_RESPONSE_INVALID: grpc.StatusCode.DATA_LOSS,
        Code.CODE_AUDIT_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
        Code.CODE_INTERRUPTED: grpc.StatusCode.UNAVAILABLE,
        Code.CODE_SUSPENDED: grpc.StatusCode.PERMISSION_DENIED,
        Code.CODE_OFFICER_NOT_GRANTED: grpc.StatusCode.PERMISSION_DENIED,
        Code.CODE_OUTSIDE_HOURS: grpc.StatusCode.PERMISSION_DENIED,
    }
)


@dataclass(frozen=True, slots=True)
class _Row:
    status: grpc.StatusCode
    reason: str


# In the order in which they are tried: a subclass before its base.
_ERRORS: tuple[tuple[type[Exception], _Row], ...] = (
    (PeerError, _Row(grpc.StatusCode.UNAUTHENTICATED, "PEER_UNKNOWN")),
    (NotPermittedError, _Row(grpc.StatusCode.PERMISSION_DENIED, "NOT_PERMITTED")),
    (TooManyTunnelsError, _Row(grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_TUNNELS")),
    (TooManyReadsError, _Row(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED_READS")),
    (InviteRefusedError, _Row(grpc.StatusCode.FAILED_PRECONDITION, "INVITE_REFUSED")),
    (JoinRefusedError, _Row(grpc.StatusCode.PERMISSION_DENIED, "JOIN_REFUSED")),
    (NoDeadlineError, _Row(grpc.StatusCode.INVALID_ARGUMENT, "NO_DEADLINE")),
    (EntryRefusedError, _Row(grpc.StatusCode.FAILED_PRECONDITION, "ENTRY_REFUSED")),
    (AuditUnavailableError, _Row(grpc.StatusCode.UNAVAILABLE, "LOG_UNAVAILABLE")),
    (StoreError, _Row(grpc.StatusCode.UNAVAILABLE, "LOG_UNAVAILABLE")),
    (VersionError, _Row(grpc.StatusCode.FAILED_PRECONDITION, VERSION_UNSUPPORTED)),
    (CoreError, _Row(grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED")),
)
UNFORESEEN = "INTERNAL"
"""The reason that is told of an error that nobody foresaw."""

_UNKNOWN = _Row(grpc.StatusCode.INTERNAL, UNFORESEEN)


def is_expected(error: Exception) -> bool:
    """Whether an error is one that peers or the disk cause, rather than a fault of this program."""
    return isinstance(error, (RefusedError, *(kind for kind, _ in _ERRORS)))


def reason_of(error: BaseException) -> str:
    """The reason that a peer is given for an error, in one word."""
    if isinstance(error, RefusedError):
        return code_name(error.code)
    return next((row for kind, row in _ERRORS if isinstance(error, kind)), _UNKNOWN).reason


def status_of(error: Exception) -> Status:
    """The status of an error, with its details. Text of an unexpected error never reaches a peer."""
    if isinstance(error, RefusedError):
        detail = RefusalDetail(envelope=error.refusal.encode())
        return _status(_REFUSALS[error.code], code_name(error.code), str(error), detail)
    row = next((row for kind, row in _ERRORS if isinstance(error, kind)), _UNKNOWN)
    text = str(error) if row is not _UNKNOWN and not isinstance(error, StoreError) else "the broker failed"
    return _status(row.status, row.reason, text)


def _status(code: grpc.StatusCode, reason: str, text: str, detail: RefusalDetail | None = None) -> Status:
    status = Status(code=code.value[0], message=text)
    for message in (ErrorInfo(reason=reason, domain=ERROR_DOMAIN), detail):
        if message is not None:
            packed = AnyMessage()
            packed.Pack(message)
            status.details.append(packed)
    return status
