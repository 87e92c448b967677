"""The same client for code without an event loop: every method runs on a loop in a thread of its own."""

import asyncio
import functools
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

from exchange.client.client import ExchangeClient
from exchange.client.session import Session

P = ParamSpec("P")
T = TypeVar("T")


def _blocking(
    method: Callable[Concatenate[ExchangeClient, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate["SyncExchangeClient", P], T]:
    """The method of the same name, signature and documentation that waits for the result."""

    @functools.wraps(method)
    def wait(client: "SyncExchangeClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return client.run(method(client.asynchronous, *args, **kwargs))

    return wait


class SyncExchangeClient:
    """`ExchangeClient` as a plain context manager; its methods may be called from several threads.

    Args:
        session: as for `ExchangeClient`; not open yet.
    """

    def __init__(self, session: Session) -> None:
        self.asynchronous = ExchangeClient(session)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended = asyncio.Event()
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="exchange-client", daemon=True)

    lookup = _blocking(ExchangeClient.lookup)
    query = _blocking(ExchangeClient.query)
    prepare = _blocking(ExchangeClient.prepare)
    submit = _blocking(ExchangeClient.submit)
    dataset = _blocking(ExchangeClient.dataset)
    cosigned = _blocking(ExchangeClient.cosigned)
    settle = _blocking(ExchangeClient.settle)

    def __enter__(self) -> "SyncExchangeClient":
        """Start the loop and open the session, as `Session.__aenter__`; a client is entered once."""
        self._thread.start()
        self._started.wait()
        try:
            self.run(self.asynchronous.__aenter__())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the session, as `Session.__aexit__`, and end the loop."""
        try:
            self.run(self.asynchronous.__aexit__(kind, error, trace))
        finally:
            self._stop()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the client's loop, as `session.sync()`, and wait for its result."""
        if self._loop is None:
            work.close()
            raise RuntimeError("enter the client first: with SyncExchangeClient(session) as client")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._started.set()
        await self._ended.wait()

    def _stop(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._ended.set)
            self._thread.join()
            self._loop = None
