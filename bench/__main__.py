"""`make bench`: throughput and latency of the exchange beside a bare relay, and what its parts cost alone.

The exchange has everything on: sealing, signatures, the ledger, the durable log, every receipt verified. The bare
relay is gRPC in Python with mTLS on both hops and nothing else. Both run at the same time on loopback, and are asked
in turn: compare their ratio, which says more than either figure on a machine that does other things too.
"""

import argparse
import json
import logging
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from bench import micro
from bench.micro import Figure
from bench.report import Level, Report, Round, print_report, to_json
from bench.requester import RequesterError, Sizes
from bench.stage import Stage, both

LEVELS = (1, 16, 64, 256)
# On this disk, not in /tmp: there a commit may cost nothing.
FOLDER = Path(__file__).parents[1] / "build"
_LINES = 20


def main() -> int:
    """Measure, and print. Returns the exit code."""
    arguments = _arguments()
    # The folder's exchange is founded in this process, which tells of every entry.
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    # So that SIGTERM leaves by the same way as Ctrl-C, which ends every process.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with _work_folder() as folder:
            report = _measure(arguments, folder)
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 3
    except (RequesterError, AssertionError) as error:
        print(f"error: {error}\nhint: look above for what the processes said", file=sys.stderr)
        return 3
    print_report(report)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(to_json(report), indent=2) + "\n")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there as well")
    parser.add_argument("--quick", action="store_true", help="a smoke test of 10 seconds; its figures say little")
    parser.add_argument("--rounds", type=int, metavar="N", help="alternating rounds, 3 unless quick")
    parser.add_argument("--seconds", type=float, metavar="S", help="length of a round of one side, 4 unless quick")
    parser.add_argument("--in-flight", type=int, nargs="+", default=LEVELS, metavar="N", help="requests in flight")
    parser.add_argument("--only", choices=("load", "parts"), help="measure one of the two")
    arguments = parser.parse_args()
    arguments.rounds = arguments.rounds or (1 if arguments.quick else 3)
    arguments.seconds = arguments.seconds or (0.2 if arguments.quick else 4.0)
    if arguments.rounds < 1 or arguments.seconds <= 0 or min(arguments.in_flight) < 1:
        parser.error("rounds, seconds and requests in flight are positive")
    return arguments


def _measure(arguments: argparse.Namespace, folder: Path) -> Report:
    sizes, levels, figures = Sizes(0, 0), list[Level](), list[Figure]()
    if arguments.only != "load":
        for figure in micro.measure(folder, 0.02 if arguments.quick else 0.5):
            figures.append(figure)
            _say(f"{figure.name}: {figure.median_us:,.1f} µs")
    if arguments.only != "parts":
        _say("starting a broker, an adapter, the bare relay and those who ask …")
        with both(folder) as (exchange, bare):
            sizes = exchange.sizes
            _warm(exchange, bare, arguments.seconds / 4)
            levels += [_level(exchange, bare, number, arguments) for number in arguments.in_flight]
    return Report(arguments.seconds, sizes, tuple(levels), tuple(figures))


def _warm(exchange: Stage, bare: Stage, seconds: float) -> None:
    """Caches, connections and threads are there before anything counts."""
    for side in (exchange, bare):
        side.measure(16, seconds)


def _level(exchange: Stage, bare: Stage, in_flight: int, arguments: argparse.Namespace) -> Level:
    rounds = list[Round]()
    for number in range(1, arguments.rounds + 1):
        rounds.append(Round(exchange.measure(in_flight, arguments.seconds), bare.measure(in_flight, arguments.seconds)))
        rates = (rounds[-1].exchange.sample.per_second, rounds[-1].bare.sample.per_second)
        _say(f"{in_flight} in flight, round {number}: exchange {rates[0]:,.0f}/s, bare relay {rates[1]:,.0f}/s")
    return Level(in_flight, tuple(rounds))


@contextmanager
def _work_folder() -> Iterator[Path]:
    FOLDER.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=FOLDER))
    try:
        yield folder
    except (RequesterError, AssertionError):
        for log in sorted(folder.glob("city/output/*.log")):
            _say("\n".join([f"--- {log.stem}", *log.read_text().splitlines()[-_LINES:]]))
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
