"""`exchange report`: how departments answered in a month, what was wanted, and what citizens need not bring."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

import typer

from exchange.cli.agreements.queue import CsvOption, RulesOption
from exchange.cli.agreements.telling import jurisdiction_of, tell_all
from exchange.cli.frame.acting import act
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_group
from exchange.cli.frame.errors import CommandError, ExitCode, WrongUsageError
from exchange.cli.frame.output import print_csv, print_json, print_line, print_table
from exchange.cli.frame.progress import bar
from exchange.cli.frame.times import SECOND, now
from exchange.client.session import Session
from exchange.client.uses import all_uses, own_uses
from exchange.core.clocks import Jurisdiction
from exchange.core.performance import Handled, Performance, Wanted, most_wanted, performances
from exchange.v1.catalogue_pb2 import SharingClass
from exchange.v1.directory_pb2 import Role

_MONTH = re.compile(r"(\d{4})-(\d{2})", re.ASCII)

COLUMNS = (
    *("RANK", "DEPARTMENT", "RECEIVED", "ANSWERED", "DECIDED", "ON TIME", "SUPPLIED ON TIME"),
    *("RETURNED", "REFUSED", "DISPUTES", "LATE NOW", "RATING", "SATISFIED"),
)

app = new_group(
    "Report on timeliness, quality and use.",
    "exchange report month 2026-10 --home ./data-bureau",
)


@dataclass(frozen=True, slots=True)
class Month:
    """A month's report.

    Args:
        text: YYYY-MM; performances: the best first; wanted: the most wanted first.
        spared: answers that were released, each a document that nobody had to bring; None where the reader may not
            know.
    """

    text: str
    performances: tuple[Performance, ...]
    wanted: tuple[Wanted, ...]
    spared: int | None


@app.command("month", epilog=example("exchange report month 2026-10 --home ./data-bureau"))
def month(
    month: Annotated[str, typer.Argument(metavar="MONTH", help="YYYY-MM.")],
    rules: RulesOption = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Report on a month, from the cases that this party may see: coordinators and auditors see all of them.

    Departments are ranked by punctuality, then by answers, then by satisfaction. CSV has the ranking alone.
    """
    year, number = _parsed(month)
    found = act(home, lambda session: _month(session, (year, number), rules))
    if as_json:
        print_json(_described(found))
    elif as_csv:
        print_csv(COLUMNS, _rows(found.performances))
    else:
        _show(found)


async def _month(session: Session, wanted: tuple[int, int], rules: str) -> Month:
    directory = session.directory
    jurisdiction = jurisdiction_of(directory, rules)
    if jurisdiction is None:
        raise CommandError(
            "without the rules no time can be counted", "name their file with --rules", ExitCode.UNCHECKED
        )
    since, until = _bounds(wanted, jurisdiction)
    handled = [
        Handled(
            told.case,
            told.applicant,
            told.owner,
            told.dataset,
            directory.terms.datasets[told.application.dataset].descriptor.sharing.sharing_class
            == SharingClass.SHARING_CLASS_NOT_SHARED,
        )
        for told in tell_all(directory, rules)
    ]
    moment = max(now(), directory.state.time)
    return Month(
        f"{wanted[0]:04}-{wanted[1]:02}",
        performances(handled, jurisdiction, since, until, moment),
        most_wanted(handled, since, until),
        await _spared(session, since, until),
    )


async def _spared(session: Session, since: int, until: int) -> int | None:
    """Answers that were released to this department; to everybody, where an auditor asks."""
    role = session.directory.role_of(session.party, now())
    count = 0
    if role == Role.ROLE_AUDITOR:
        async for _ in all_uses(session, since, until - 1):
            count += 1
        return count
    if role not in {Role.ROLE_DEPARTMENT, Role.ROLE_SYSTEM}:
        return None
    with bar("the access log") as advance:
        async for use in own_uses(session, advance):
            is_own = use.requester == str(session.party) or use.requester.startswith(f"{session.party}/")
            count += is_own and since <= use.time < until
    return count


def _parsed(text: str) -> tuple[int, int]:
    found = _MONTH.fullmatch(text)
    year, number = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= number <= 12 or not 2000 <= year < 9998:
        raise WrongUsageError(f"not a month: {text}", "write it as YYYY-MM, such as 2026-10")
    return year, number


def _bounds(month: tuple[int, int], jurisdiction: Jurisdiction) -> tuple[int, int]:
    """The first millisecond of a month and of the next one, in the zone of the rules."""
    year, number = month
    following = (year + 1, 1) if number == 12 else (year, number + 1)
    zone = jurisdiction.calendar.zone
    first, end = (datetime(*start, 1, tzinfo=zone) for start in (month, following))
    return int(first.timestamp()) * SECOND, int(end.timestamp()) * SECOND


def _show(found: Month) -> None:
    print_line(f"Applications and answers in {found.text}")
    print_line()
    if found.performances:
        print_table(COLUMNS, _rows(found.performances))
    else:
        print_line("No department was asked for anything.")
    print_line()
    if found.wanted:
        print_line("Most wanted, and not shared yet:")
        columns = ("DATASET", "DEPARTMENTS", "REFUSED", "UNANSWERED", "OWNER SAYS")
        print_table(columns, [_wanted_row(item) for item in found.wanted])
    else:
        print_line("Nothing that was applied for is still not shared.")
    print_line()
    if found.spared is None:
        print_line("Documents that nobody had to bring: not known here; auditors and requesters read the access log.")
    else:
        print_line(f"Documents that nobody had to bring, one for each released answer: {found.spared:,}")


def _wanted_row(item: Wanted) -> tuple[object, ...]:
    says = "not shared" if item.not_shared else None
    return item.dataset, item.departments, item.refused, item.unanswered, says


def _rows(found: Sequence[Performance]) -> list[tuple[object, ...]]:
    return [
        (
            rank,
            item.department.department,
            item.received,
            _percent(item.answer_rate),
            item.decided,
            _percent(item.on_time_rate),
            _percent(item.supply_rate),
            item.returned,
            item.refused,
            item.disputed,
            item.overdue,
            f"{item.rating:.1f}" if item.rating is not None else None,
            _percent(item.satisfaction),
        )
        for rank, item in enumerate(found, 1)
    ]


def _percent(rate: float | None) -> str | None:
    return f"{100 * rate:.0f} %" if rate is not None else None


def _described(found: Month) -> dict[str, object]:
    return {
        "month": found.text,
        "departments": [
            {
                "rank": rank,
                "department": str(item.department),
                "received": item.received,
                "answer_rate": item.answer_rate,
                "decided": item.decided,
                "on_time_rate": item.on_time_rate,
                "supplied": item.supplied,
                "supply_rate": item.supply_rate,
                "returned": item.returned,
                "refused": item.refused,
                "disputed": item.disputed,
                "overdue": item.overdue,
                "rating": item.rating,
                "satisfaction": item.satisfaction,
            }
            for rank, item in enumerate(found.performances, 1)
        ],
        "most_wanted": [
            {
                "dataset": item.dataset,
                "departments": item.departments,
                "refused": item.refused,
                "unanswered": item.unanswered,
                "not_shared": item.not_shared,
            }
            for item in found.wanted
        ],
        "documents_not_asked_for": found.spared,
    }
