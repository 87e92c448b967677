"""The process that asks, the exchange or the bare relay, and its owner's end of the pipes.

python -m bench.requester exchange HOME
python -m bench.requester bare HOME ADDRESS REQUEST_BYTES

It prints the sizes of one request and one answer as a line of JSON. Then it reads `IN_FLIGHT SECONDS` from standard
input, drives that load, and prints what it saw, line by line, until standard input ends.
"""

import asyncio
import itertools
import json
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.bare import CALL, TIMEOUT
from bench.load import Ask, Sample, drive
from exchange.client import Answer, ExchangeClient, Session
from exchange.home import Home
from exchange.transport import open_channel
from exchange.v1.relay_pb2 import SubmitRequest, SubmitResponse
from tests.e2e.founding import PEOPLE, PURPOSE, RESIDENTS, person

ROOT = Path(__file__).parents[1]
PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of one request and one answer, as gRPC carries them."""

    request: int
    answer: int


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two that are compared: how to ask it, and what to wait for after a round."""

    sizes: Sizes
    ask: Ask
    settle: Callable[[], Coroutine[Any, Any, None]]


# --- the owner's end ----------------------------------------------------------------------------------


class RequesterError(Exception):
    """The requester ended; what it said is on standard error."""


class Requester:
    """The process, as its owner sees it; leaving the context ends it.

    Args:
        arguments: as in the module's first lines.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.requester", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            # Ctrl-C is for its owner, who ends it.
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def sizes(self) -> Sizes:
        """What it says first, once it is ready."""
        return Sizes(**self._line())

    def drive(self, in_flight: int, seconds: float) -> Sample:
        """One round; see `bench.load.drive`."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{in_flight} {seconds}\n")
        self._process.stdin.flush()
        return Sample(**self._line())

    def __enter__(self) -> "Requester":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it; at once, where the run has failed or was interrupted."""
        assert self._process.stdin is not None
        if error is not None:
            self._process.kill()
        # What a process that has ended did not read cannot be flushed any more.
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _line(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RequesterError("the requester ended early")
        return json.loads(line)


# --- the process itself -------------------------------------------------------------------------------


@asynccontextmanager
async def exchange_side(home: str) -> AsyncIterator[Side]:
    """Lookups of one resident after another by an `ExchangeClient`."""
    numbers = itertools.cycle(range(PEOPLE))
    async with ExchangeClient(Session(Home(Path(home)))) as client:

        async def ask() -> Answer:
            answer = await client.lookup(
                RESIDENTS,
                [person(next(numbers))],
                fields=["name", "address"],
                purpose=PURPOSE,
                case="BENCH-1",
                officer="officer-1",
            )
            assert len(answer.rows) == 1
            return answer

        yield Side(_sizes(await ask()), ask, client.settle)


@asynccontextmanager
async def bare_side(home: str, address: str, size: str) -> AsyncIterator[Side]:
    """Calls of the bare relay, `size` bytes each."""
    request = secrets.token_bytes(int(size))
    async with open_channel(address, Home(Path(home)).tls_identity()) as channel:
        call = channel.unary_unary(CALL, None, None)

        async def ask() -> bytes:
            answer: bytes = await call(request, timeout=TIMEOUT)
            return answer

        async def settle() -> None:
            """Nothing is owed."""

        yield Side(Sizes(len(request), len(await ask())), ask, settle)


def _sizes(answer: Answer) -> Sizes:
    request = SubmitRequest(envelope=answer.request.encode())
    response = SubmitResponse(envelope=answer.response.encode(), receipt=answer.receipt)
    return Sizes(request.ByteSize(), response.ByteSize())


async def _work(opened: AbstractAsyncContextManager[Side]) -> None:
    async with opened as side:
        _say(asdict(side.sizes))
        while line := await asyncio.to_thread(sys.stdin.readline):
            in_flight, seconds = line.split()
            sample = await drive(side.ask, int(in_flight), float(seconds))
            # What this round still owes must not run into the other side's.
            await side.settle()
            _say(asdict(sample))


def _say(values: dict[str, Any]) -> None:
    print(json.dumps(values), flush=True)


def main(arguments: list[str]) -> None:
    """Ask one of the two."""
    kind, *rest = arguments
    asyncio.run(_work(exchange_side(*rest) if kind == "exchange" else bare_side(*rest)))


if __name__ == "__main__":
    main(sys.argv[1:])
