"""What was measured: the values, as tables for people and as JSON for programs."""

import os
import platform
import sqlite3
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cryptography
import grpc
from rich.console import Console
from rich.table import Table

from bench.micro import Figure
from bench.requester import Sizes
from bench.stage import Measured

FORMAT = 1
_WIDTH = 120


@dataclass(frozen=True, slots=True)
class Round:
    """The exchange, then the bare relay, under the same load."""

    exchange: Measured
    bare: Measured

    @property
    def ratio(self) -> float:
        """Requests per second of the exchange, as a share of the bare relay's."""
        return self.exchange.sample.per_second / self.bare.sample.per_second


@dataclass(frozen=True, slots=True)
class Level:
    """All rounds at one number of requests in flight."""

    in_flight: int
    rounds: tuple[Round, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """One run.

    Args:
        seconds: length of a round.
        sizes: of one request and one answer, the same on both sides.
    """

    seconds: float
    sizes: Sizes
    levels: tuple[Level, ...]
    figures: tuple[Figure, ...]


# --- for people ---------------------------------------------------------------------------------------


def print_report(report: Report) -> None:
    """Tables on standard output: median and (least–most) over the rounds."""
    # In a pipe there is no terminal to fit into.
    console = Console(width=None if sys.stdout.isatty() else _WIDTH, highlight=False)
    if report.levels:
        rounds = len(report.levels[0].rounds)
        console.print(
            f"\n{rounds} alternating rounds of {report.seconds:g} s a side; a request of {report.sizes.request:,} B, "
            f"an answer of {report.sizes.answer:,} B; median (least–most)\n"
        )
        console.print(_load_table(report.levels))
        console.print(_cpu_table(report.levels))
    if report.figures:
        console.print(_figure_table(report.figures))


def _load_table(levels: Sequence[Level]) -> Table:
    table = _table("Throughput and latency", "in flight", "", "requests/s", "p50 ms", "p99 ms", "exchange : bare")
    for level in levels:
        for side in ("exchange", "bare"):
            samples = [getattr(one, side).sample for one in level.rounds]
            ratio = _spread([one.ratio for one in level.rounds], "{:.2f}") if side == "exchange" else ""
            table.add_row(
                str(level.in_flight) if side == "exchange" else "",
                "exchange" if side == "exchange" else "bare relay",
                _spread([one.per_second for one in samples], "{:,.0f}"),
                _spread([one.p50_ms for one in samples], "{:,.1f}"),
                _spread([one.p99_ms for one in samples], "{:,.1f}"),
                ratio,
                end_section=side == "bare",
            )
    return table


def _cpu_table(levels: Sequence[Level]) -> Table:
    columns = ("in flight", "broker", "adapter", "requester", "bare relay", "bare origin", "bare requester")
    table = _table("Processor time, µs a request, median", *columns)
    sources = [("exchange", name) for name in ("broker", "adapter", "requester")]
    sources += [("bare", name) for name in ("relay", "origin", "requester")]
    for level in levels:
        cells = [
            f"{statistics.median(getattr(one, side).cpu_us[name] for one in level.rounds):,.0f}"
            for side, name in sources
        ]
        table.add_row(str(level.in_flight), *cells)
    return table


def _figure_table(figures: Sequence[Figure]) -> Table:
    table = _table("The parts alone, µs", "", "median", "least", "a message")
    for figure in figures:
        each = figure.median_us / figure.messages
        table.add_row(figure.name, *(f"{value:,.1f}" for value in (figure.median_us, figure.least_us, each)))
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    return table


def _spread(values: Sequence[float], form: str) -> str:
    median, least, most = (form.format(measure(values)) for measure in (statistics.median, min, max))
    return median if len(values) == 1 else f"{median} ({least}–{most})"


# --- for programs -------------------------------------------------------------------------------------


def to_json(report: Report) -> dict[str, Any]:
    """All that was measured, round by round, with the medians and what it was measured with."""
    return {
        "format": FORMAT,
        "with": {
            "python": platform.python_version(),
            "grpcio": grpc.__version__,
            "cryptography": cryptography.__version__,
            "sqlite": sqlite3.sqlite_version,
            "processors": len(os.sched_getaffinity(0)),
        },
        "round_seconds": report.seconds,
        "bytes": asdict(report.sizes),
        "load": [_level(level) for level in report.levels],
        "parts": [asdict(figure) for figure in report.figures],
    }


def _level(level: Level) -> dict[str, Any]:
    return {
        "in_flight": level.in_flight,
        "median": {side: _medians([getattr(one, side) for one in level.rounds]) for side in ("exchange", "bare")},
        "ratio": {
            "median": statistics.median(one.ratio for one in level.rounds),
            "least": min(one.ratio for one in level.rounds),
            "most": max(one.ratio for one in level.rounds),
        },
        "rounds": [
            {"exchange": _measured(one.exchange), "bare": _measured(one.bare), "ratio": one.ratio}
            for one in level.rounds
        ],
    }


def _medians(measured: Sequence[Measured]) -> dict[str, float]:
    wanted: dict[str, Callable[[Measured], float]] = {
        "per_second": lambda one: one.sample.per_second,
        "p50_ms": lambda one: one.sample.p50_ms,
        "p99_ms": lambda one: one.sample.p99_ms,
    }
    return {name: statistics.median(map(value, measured)) for name, value in wanted.items()}


def _measured(one: Measured) -> dict[str, Any]:
    return {**asdict(one.sample), "per_second": one.sample.per_second, "cpu_us": dict(one.cpu_us)}
