"""The outermost interceptor: TLS 1.3, a version that is spoken here, a deadline, and a status for every exception.

The broker's own versions are in the trailing metadata of unary answers, where they cost no message, and in the initial
metadata of a tunnel, which has no end to wait for.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeAlias

import grpc
import structlog
from grpc_status import rpc_status

from exchange.broker.status import NoDeadlineError, is_expected, status_of
from exchange.core.protocol import agreed
from exchange.transport import HEALTH_CHECK, announced, announcement_in, own_announcement, peer_party

logger = structlog.get_logger("exchange.broker")

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Check = Callable[[Mapping[str, Iterable[bytes]]], object]
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Handler]]


class Guard(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Wraps every handler, so that no exception reaches a peer as text of its own.

    Args:
        check: refuses a session by what TLS says of it; by default one that names no party.
    """

    def __init__(self, check: Check = peer_party) -> None:
        self._check = check

    async def intercept_service(self, continuation: Continuation, details: grpc.HandlerCallDetails) -> Handler:
        """Replace a handler by its guarded twin; an unknown method has none, and gRPC says so."""
        handler: Handler | None = await continuation(details)
        if handler is None:
            # The stubs leave None out.
            return None  # type: ignore[return-value]
        serializers = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(
                _unary(handler.unary_unary, details.method, self._check), **serializers
            )
        if handler.stream_stream is not None:
            return grpc.stream_stream_rpc_method_handler(
                _stream(handler.stream_stream, details.method, self._check), **serializers
            )
        raise TypeError(f"{details.method} is of a kind that the guard does not know")


def _unary(behavior: Any, method: str, check: Check) -> Any:
    async def guarded(request: Any, context: Context) -> Any:
        context.set_trailing_metadata(announced())
        try:
            check(context.auth_context())
            # Whether a broker lives, and of which version it is, every version may ask.
            if method != HEALTH_CHECK:
                _check_version(context)
            if context.time_remaining() is None:
                raise NoDeadlineError("every call needs a deadline")
            return await behavior(request, context)
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - an unmapped exception would reach the peer as text
            status = _status(method, error)
        # gRPC keeps the exception that aborts a call in its context: it must hold neither the error nor the request.
        del request
        return await _abort(context, status)

    return guarded


def _stream(behavior: Any, method: str, check: Check) -> Any:
    async def guarded(requests: AsyncIterator[bytes], context: Context) -> None:
        try:
            check(context.auth_context())
            await context.send_initial_metadata(announced())
            _check_version(context)
            await behavior(requests, context)
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - as above
            status = _status(method, error)
        else:
            return
        await _abort(context, status)

    return guarded


def _check_version(context: Context) -> None:
    agreed(own_announcement(), announcement_in(context.invocation_metadata()), ("this broker", "the caller"))


def _status(method: str, error: Exception) -> Any:
    if not is_expected(error):
        logger.error("a call failed", method=method, exc_info=error)
    return rpc_status.to_status(status_of(error))


async def _abort(context: Context, status: Any) -> None:
    await context.abort(status.code, status.details, (*status.trailing_metadata, *announced()))
