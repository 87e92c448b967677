"""`exchange clocks`: the time limits of a jurisdiction, and when something is due by them."""

from collections.abc import Iterator
from datetime import date, datetime
from itertools import groupby
from typing import Annotated

import typer

from exchange.cli.frame.application import JsonOption, example, new_group
from exchange.cli.frame.errors import WrongUsageError
from exchange.cli.frame.output import listed, print_json, print_line, print_pairs, print_table
from exchange.cli.frame.times import SECOND, iso, now
from exchange.core.calendar import Calendar, DayKind, Unit, counted_out
from exchange.core.clocks import Clock, ClockError, Jurisdiction, Reading, RunningClock, describe, read
from exchange.rules.reading import DEFAULT, load_rules

app = new_group(
    "Show the time limits of a jurisdiction, and when something is due.",
    "exchange clocks due application.answer.conditional --from 2026-12-21",
)

RulesOption = Annotated[
    str,
    typer.Option(
        "--rules",
        envvar="EXCHANGE_RULES",
        metavar="RULES",
        help="The jurisdiction: the name of rules that come with the program, or a FILE.toml of one's own.",
    ),
]

_DAY = len("2026-12-21")


@app.command("list", epilog=example("exchange clocks list --rules cn-shanxi"))
def list_clocks(rules: RulesOption = DEFAULT, as_json: JsonOption = False) -> None:
    """List every clock, its length and its article."""
    jurisdiction = load_rules(rules)
    if as_json:
        print_json(_described_jurisdiction(jurisdiction))
        return
    rows = [
        (clock.code, _length(clock), _extension(clock), str(clock.due_from), clock.article, clock.label_en)
        for clock in jurisdiction.clocks
    ]
    print_table(("CODE", "LENGTH", "EXTENSION", "DUE FROM", "ARTICLE", "WHAT"), rows)
    print_line()
    print_line(_about_years(jurisdiction))


@app.command(
    "due",
    epilog=example(
        "exchange clocks due application.answer.conditional --from 2026-12-21",
        "exchange clocks due catalogue.update --from 2026-11-26T16:40:00+08:00 --extended 5",
    ),
)
def due(
    code: Annotated[str, typer.Argument(metavar="CODE", help="The clock, as `exchange clocks list` has it.")],
    started: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="TIME",
            help="The event: a day or a time, in the zone of the rules unless it has an offset.",
        ),
    ],
    extended: Annotated[
        int, typer.Option(min=0, metavar="N", help="By how much it was extended, in the clock's unit.")
    ] = 0,
    rules: RulesOption = DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Compute when something is due, and show which days count."""
    jurisdiction = load_rules(rules)
    try:
        clock = jurisdiction.clock(code)
        running = RunningClock(clock, _moment(started, jurisdiction.calendar), extended)
    except ClockError as error:
        raise WrongUsageError(str(error), "`exchange clocks list` shows every clock") from error
    reading = read(running, jurisdiction, now())
    if as_json:
        print_json(_described_due(running, reading, jurisdiction))
    else:
        _print_due(running, reading, jurisdiction)


def _print_due(running: RunningClock, reading: Reading, jurisdiction: Jurisdiction) -> None:
    clock, calendar = running.clock, jurisdiction.calendar
    start, last = _ends(running, reading, calendar)
    pairs: dict[str, object] = {
        "clock": f"{clock.code}: {clock.label_en} ({clock.label})",
        "rule": f"{clock.article}: {_length(clock)} for the {clock.due_from}",
        "from": f"{_weekday(start)}, which does not count",
        "kept until" if clock.at_least else "due": f"{_weekday(last)}, 24:00 {calendar.zone}",
        "now": describe(reading, calendar),
    }
    if running.extended:
        pairs["rule"] = f"{pairs['rule']}, extended to {running.length}"
    if reading.escalated_to is not None:
        pairs["goes to"] = str(reading.escalated_to)
    print_pairs(pairs)
    if clock.length.unit == Unit.WORKING_DAYS:
        print_line()
        print_table(("DAYS", "", "COUNT"), list(_runs(start, last, calendar)))


def _runs(start: date, last: date, calendar: Calendar) -> Iterator[tuple[str, str, str]]:
    """Days in a row of one kind, and the numbers that they have where they count."""
    number = 0
    for kind, days in groupby(calendar.days(start, last), calendar.kind):
        run = list(days)
        shown = f"{run[0]}" if len(run) == 1 else f"{run[0]} to {run[-1]}"
        if kind in {DayKind.WORKDAY, DayKind.WORKING_WEEKEND}:
            first, number = number + 1, number + len(run)
            yield shown, str(kind), f"{first}" if first == number else f"{first} to {number}"
        else:
            yield shown, str(kind), "-"


def _described_due(running: RunningClock, reading: Reading, jurisdiction: Jurisdiction) -> dict[str, object]:
    calendar = jurisdiction.calendar
    start, last = _ends(running, reading, calendar)
    days = calendar.days(start, last) if running.clock.length.unit == Unit.WORKING_DAYS else ()
    return {
        "rules": jurisdiction.name,
        "clock": _described(running.clock),
        "from": iso(running.started),
        "extended": running.extended,
        "due": iso(reading.due) if reading.due is not None else None,
        "due_day": last,
        "state": reading.state,
        "left": reading.left,
        "late": reading.late,
        "unit": reading.unit,
        "escalated_to": reading.escalated_to,
        "provisional_years": reading.provisional,
        "shown": describe(reading, calendar),
        "days": [{"day": day, "kind": calendar.kind(day), "counts": calendar.is_working_day(day)} for day in days],
    }


def _described_jurisdiction(jurisdiction: Jurisdiction) -> dict[str, object]:
    calendar = jurisdiction.calendar
    return {
        "rules": jurisdiction.name,
        "label": jurisdiction.label,
        "label_en": jurisdiction.label_en,
        "zone": calendar.zone,
        "years": sorted(calendar.covers),
        "provisional_years": sorted(calendar.provisional),
        "escalation": [{"after": step.after, "to": step.to} for step in jurisdiction.escalations],
        "clocks": [_described(clock) for clock in jurisdiction.clocks],
    }


def _described(clock: Clock) -> dict[str, object]:
    extension = clock.extension
    return {
        "code": clock.code,
        "label": clock.label,
        "label_en": clock.label_en,
        "due_from": clock.due_from,
        "length": clock.length.count,
        "unit": clock.length.unit,
        "at_least": clock.at_least,
        "extension": {"at_most": extension.count, "consent": extension.consent} if extension is not None else None,
        "article": clock.article,
    }


def _about_years(jurisdiction: Jurisdiction) -> str:
    calendar = jurisdiction.calendar
    text = f"{jurisdiction.label_en} ({jurisdiction.label}), {calendar.zone}: "
    text += f"working days are known for {listed(sorted(calendar.covers - calendar.provisional)) or 'no year'}"
    if calendar.provisional:
        text += f"; provisional, because nobody has announced them yet: {listed(sorted(calendar.provisional))}"
    return f"{text}."


def _ends(running: RunningClock, reading: Reading, calendar: Calendar) -> tuple[date, date]:
    """The day of the event and the last day; a clock that is not paused has one."""
    start = calendar.day_of(running.started)
    return start, calendar.day_of(reading.due) if reading.due is not None else start


def _length(clock: Clock) -> str:
    return f"at least {clock.length}" if clock.at_least else str(clock.length)


def _extension(clock: Clock) -> str:
    if clock.extension is None:
        return "-"
    return f"{counted_out(clock.extension.count, clock.length.unit)}, {clock.extension.consent}"


def _weekday(day: date) -> str:
    return f"{day} ({day:%A})"


def _moment(text: str, calendar: Calendar) -> int:
    """A time in milliseconds; a day stands for its last moment, and so for its date."""
    try:
        if len(text) == _DAY:
            return calendar.end_of(date.fromisoformat(text))
        found = datetime.fromisoformat(text)
        local = found if found.tzinfo is not None else found.replace(tzinfo=calendar.zone)
        return int(local.timestamp() * SECOND)
    except (ValueError, OverflowError):
        hint = "write a day or a time, such as 2026-12-21, 2026-12-21T16:40 or 2026-12-21T08:40:00Z"
        raise WrongUsageError(f"--from: not a time: {text}", hint) from None
