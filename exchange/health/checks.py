"""Checks that run side by side, each with a time limit of its own: what hangs is said, and holds nothing else up."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from enum import StrEnum

from exchange.client.errors import ExchangeError
from exchange.core.errors import CoreError
from exchange.home import HomeError

SECONDS = 5.0
"""For a check that asks somebody; one of files needs a fraction of it."""


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of what was found.

    Args:
        name: what was looked at.
        level: how it is.
        detail: what was found; never a secret, nor anything about a person.
        mend: the command that mends it, or what to do; empty where all is well.
        checked: False where it could not be looked at.
    """

    name: str
    level: Level
    detail: str
    mend: str = ""
    checked: bool = True


def ok(name: str, detail: str) -> Finding:
    """All is well."""
    return Finding(name, Level.OK, detail)


def warn(name: str, detail: str, mend: str) -> Finding:
    """It works, and will not for long, or not as well as it should."""
    return Finding(name, Level.WARN, detail, mend)


def fail(name: str, detail: str, mend: str, *, checked: bool = True) -> Finding:
    """It does not work; or, where it could not be checked, nobody knows."""
    return Finding(name, Level.FAIL, detail, mend, checked)


Look = Callable[[], Sequence[Finding]]
AsyncLook = Callable[[], Awaitable[Sequence[Finding]]]


@dataclass(frozen=True, slots=True)
class Check:
    """Something to look at.

    Args:
        name: of what is looked at, for when it gives no finding of its own.
        look: finds out; it may block, and raise what a home, an exchange or the system raises.
        mend: what to do where it raises or hangs.
        seconds: after which it counts as hanging.
    """

    name: str
    look: Look
    mend: str
    seconds: float = SECONDS


@dataclass(frozen=True, slots=True)
class OnlineCheck:
    """The same for what calls a broker: all of these share one event loop, as gRPC wants it."""

    name: str
    look: AsyncLook
    mend: str
    seconds: float = SECONDS


def examine(checks: Sequence[Check | OnlineCheck]) -> list[Finding]:
    """Run every check, and give their findings in the order of the checks.

    No check waits for another; one that hangs is left to its thread, which ends with the process.
    """
    loop = asyncio.new_event_loop()
    turning = threading.Thread(target=_turn, args=(loop,), daemon=True, name="doctor-online")
    turning.start()
    began = time.monotonic()
    try:
        started = [(check, _started(check, loop)) for check in checks]
        return [finding for check, future in started for finding in _findings(check, future, began)]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        turning.join(1.0)


def _turn(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    loop.close()


def _started(check: Check | OnlineCheck, loop: asyncio.AbstractEventLoop) -> "Future[Sequence[Finding]]":
    if isinstance(check, OnlineCheck):
        return asyncio.run_coroutine_threadsafe(_awaited(check), loop)
    future: Future[Sequence[Finding]] = Future()
    threading.Thread(target=_looked, args=(check, future), daemon=True, name=f"doctor-{check.name}").start()
    return future


async def _awaited(check: OnlineCheck) -> Sequence[Finding]:
    return await check.look()


def _looked(check: Check, future: "Future[Sequence[Finding]]") -> None:
    # From here on nobody can cancel it: whoever waits gives up alone.
    future.set_running_or_notify_cancel()
    try:
        future.set_result(check.look())
    except BaseException as error:  # noqa: BLE001 - whoever waits for it gets it
        future.set_exception(error)


def _findings(check: Check | OnlineCheck, future: "Future[Sequence[Finding]]", began: float) -> Sequence[Finding]:
    left = began + check.seconds - time.monotonic()
    try:
        return future.result(max(left, 0.0))
    except TimeoutError:
        future.cancel()
        return [fail(check.name, f"no answer within {check.seconds:g} s", check.mend, checked=False)]
    except (ExchangeError, HomeError) as error:
        return [fail(check.name, str(error), error.hint or check.mend)]
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return [fail(check.name, f"{where}{error.strerror or type(error).__name__}", check.mend)]
    except CoreError as error:
        return [fail(check.name, str(error), check.mend)]
    except Exception as error:  # noqa: BLE001 - one check that nobody foresaw must not hide the others
        # Its text may hold anything.
        return [fail(check.name, f"the check itself failed: {type(error).__name__}", check.mend, checked=False)]


def exit_code(findings: Sequence[Finding]) -> int:
    """0 where nothing failed, 1 where something did, 3 where nothing did but something could not be checked."""
    failed = [finding for finding in findings if finding.level is Level.FAIL]
    if any(finding.checked for finding in failed):
        return 1
    return 3 if failed else 0
