"""`exchange log`: check a broker's logs, archive and migrate them, and erase what need not be kept any longer."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from exchange.cli.backups.breaking import DECLARE_EXAMPLE, declare_break
from exchange.cli.backups.recovering import RECOVER_EXAMPLE, recover
from exchange.cli.brokers.erasing import ERASE_EXAMPLE, command, erase
from exchange.cli.brokers.migrating import MIGRATE_EXAMPLE, migrate
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_group
from exchange.cli.frame.errors import CommandError, ExitCode, WrongUsageError, say
from exchange.cli.frame.homes import require_role
from exchange.cli.frame.output import clean, print_json, print_line, print_pairs
from exchange.cli.frame.progress import bar
from exchange.cli.frame.times import day_of, iso, now
from exchange.home import Home

if TYPE_CHECKING:
    from exchange.broker.fsck import LogCheck, Problem
    from exchange.store.inspection import InspectedStore, Inspection

SHOWN = 100
"""Problems that are listed; the rest are counted."""

app = new_group(
    "Check a broker's logs, and erase bodies that need not be kept any longer.",
    "exchange log fsck --home ./operator/broker",
)
app.command("erase", epilog=ERASE_EXAMPLE)(erase)
app.command("migrate", epilog=MIGRATE_EXAMPLE)(migrate)
app.command("recover", epilog=RECOVER_EXAMPLE)(recover)
app.command("declare-break", epilog=DECLARE_EXAMPLE)(declare_break)


_AGE = re.compile(r"([1-9][0-9]{0,3})([dy])")
_YEAR = 365


@dataclass(slots=True)
class Found:
    """What a check found: all that can be mended, all that cannot, and the first problems in full."""

    mendable: int = 0
    others: int = 0
    untrusted: bool = False
    first: "list[Problem]" = field(default_factory=list)

    def add(self, problem: "Problem") -> None:
        """Count a problem."""
        self.mendable += problem.mendable
        self.others += not problem.mendable
        self.untrusted = self.untrusted or problem.untrusted
        if len(self.first) < SHOWN:
            self.first.append(problem)

    @property
    def count(self) -> int:
        """How many problems there are."""
        return self.mendable + self.others


@app.command("fsck", epilog=example("exchange log fsck --home ./operator/broker --repair"))
def fsck(
    repair: Annotated[
        bool, typer.Option("--repair", help="Write nodes and index columns anew, where the leaves say what they are.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Rebuild nodes and indexes, and compare.

    Both logs' nodes and index columns are made anew from their leaves, and compared with what is stored. Heads,
    signed checkpoints, bodies, the order of times and the fold of the directory are checked too. A repair writes
    nodes, index columns and the database's own indexes alone, never a leaf, and only where the leaves make the root
    that the log has signed. With SQLite the broker must be stopped. With PostgreSQL brokers go on beside a check; a
    repair holds the log's lock, so that they release nothing until it is done.
    """
    from exchange.store.inspection import InspectedStore
    from exchange.store.ports import StoreError

    require_role(home, "broker", "the logs are in the folder broker that `exchange init` made")
    name = _database(home)
    try:
        with InspectedStore.opened(name) as store:
            with store.snapshot() as stored:
                sizes, found = check_logs(stored, home)
            mended = repair and found.mendable > 0 and not found.others
            if mended:
                sizes, again = _mend(store, home)
                if again.count:
                    found, mended = again, False
    except StoreError as error:
        hint = "stop the broker first: a running one has the database for itself" if isinstance(name, Path) else ""
        raise CommandError(str(error), hint, ExitCode.UNCHECKED) from error
    _print(sizes, found, mended=mended, as_json=as_json)
    raise typer.Exit(_exit_code(found, mended=mended))


@app.command("retain", epilog=example("exchange log retain --older-than 3y --home ./operator/broker"))
def retain(
    older_than: Annotated[
        str, typer.Option(metavar="AGE", help="In days or years, 1095d or 3y; by default what broker.toml keeps.")
    ] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show which bodies need not be kept longer.

    They are those of the access log, and it says how they are erased. Nothing is erased here: that takes the
    signature of a coordinator, whose command is printed for each range. Leaves and the tree always stay. What a
    hold in HOME/holds.toml names is left out.
    """
    from exchange.broker.config import load_config
    from exchange.broker.retention import DAY, portions, read_holds
    from exchange.store.inspection import Inspection
    from exchange.store.ports import StoreError

    require_role(home, "broker", "the logs are in the folder broker that `exchange init` made")
    config = load_config(home)
    days = _days(older_than, config.retention_days)
    before, holds = now() - days * DAY, read_holds(home)
    try:
        with Inspection.watched(_database(home)) as stored:
            ranges = list(portions(stored.kept(stored.since(before)), holds))
    except StoreError as error:
        raise CommandError(str(error), "", ExitCode.UNCHECKED) from error
    if as_json:
        described = [{"first": first, "end": end} for first, end in ranges]
        held = [asdict(hold) for hold in holds]
        print_json({"before": iso(before), "days": days, "ranges": described, "holds": held})
        return
    _print_ranges(ranges, days, before)
    for hold in holds:
        print_line(f"on hold: entries {hold.first} to {hold.end - 1}, {clean(hold.name)}")


@app.command(
    "archive",
    epilog=example(
        "exchange log archive ./archive --month 2026-10 --home ./operator/broker",
        "exchange log archive ./archive --verify --home ./operator/broker",
    ),
)
def archive(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The archive: it goes on from month to month.")],
    month: Annotated[str, typer.Option(metavar="YYYY-MM", help="The month to archive, in UTC; it must be over.")] = "",
    verify: Annotated[bool, typer.Option("--verify", help="Verify the archive by itself; any home will do.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Write a month of the access log to files.

    They are a C2SP tlog-tiles tree of the log so far, and a Parquet file of the month's entries. The broker may be
    running. With --verify, the archive is read from its first entry to its last: the tree makes the root that the
    log signed, and each month goes on where the one before it ended. It holds bodies: what retention says of them
    is true of it too.
    """
    if bool(month) == verify:
        raise WrongUsageError("either --month or --verify", "--month 2026-10 writes, --verify reads what was written")
    if verify:
        _verify_archive(folder, home, as_json)
        return
    from exchange.cli.brokers.archiving import archive_month, parse_month
    from exchange.store.inspection import Inspection
    from exchange.store.ports import StoreError

    require_role(home, "broker", "the logs are in the folder broker that `exchange init` made")
    wanted = parse_month(month)
    try:
        with Inspection.watched(_database(home)) as stored:
            archived = archive_month(stored, Home(home).trust.access_log, wanted, folder, now())
    except StoreError as error:
        raise CommandError(str(error), "", ExitCode.UNCHECKED) from error
    count = archived.end - archived.first
    if as_json:
        print_json({"month": str(wanted), "first": archived.first, "end": archived.end, "root": archived.root})
        return
    entries = f"{count} entries, {archived.first} to {archived.end - 1}" if count else "no entries"
    print_line(f"Archived {wanted}: {entries}, in {folder / wanted.file}")
    print_line(f"Next: exchange log archive {folder} --verify --home {home}")


def _verify_archive(folder: Path, home: Path, as_json: bool) -> None:
    from exchange.cli.brokers.archive_check import ArchiveCheck

    check = ArchiveCheck(folder, Home(home).trust.access_log)
    with bar("verifying") as advance:
        problems = list(islice(check.walk(advance), SHOWN))
    found = check.verdict
    if as_json:
        months = [{"month": str(item.month), "first": item.first, "end": item.end} for item in found.months]
        described = {"log": found.checkpoint.origin, "size": found.checkpoint.size, "months": months}
        print_json(described | {"rows": found.rows, "without_body": found.erased, "problems": problems})
    else:
        for problem in problems:
            print_line(f"FAIL  {clean(problem)}")
        span = f"{found.months[0].month} to {found.months[-1].month}" if found.months else "no month"
        size = found.checkpoint.size
        print_line(f"{found.checkpoint.origin}: {size} entries in the tree; {span}, {found.rows} entries")
        if found.erased:
            print_line(f"{found.erased} of them were erased before they were archived")
        verdict = "NOT VERIFIED" if problems else "verified: the tree makes the signed root, and the months go on"
        print_line(verdict)
    raise typer.Exit(ExitCode.REFUSED if problems else ExitCode.DONE)


def _days(older_than: str, least: int) -> int:
    match = _AGE.fullmatch(older_than) if older_than else None
    if older_than and match is None:
        raise WrongUsageError(f"--older-than: not an age: {older_than}", "in days or years: 1095d or 3y")
    days = int(match[1]) * (_YEAR if match[2] == "y" else 1) if match is not None else least
    if days < least:
        hint = "retention_days in broker.toml says how long; a broker refuses any signature for less"
        raise WrongUsageError(f"--older-than: this broker keeps bodies for {least} days", hint)
    return days


def _print_ranges(ranges: Sequence[tuple[int, int]], days: int, before: int) -> None:
    count = sum(end - first for first, end in ranges)
    entries = "1 entry has a body" if count == 1 else f"{count} entries have bodies"
    print_line(f"{entries} older than {days} days, from before {day_of(before)}")
    if ranges:
        print_line("A coordinator erases them with")
    for first, end in ranges:
        print_line(f"  {command(first, end)}")


def _database(home: Path) -> Path | str:
    from exchange.broker.config import load_config

    return load_config(home).store_name(home)


def _checks(stored: "Inspection", home: Path) -> "Iterator[LogCheck]":
    """The directory, then the access log, which is judged by what the directory has become by then."""
    from exchange.broker.fsck import AccessReader, DirectoryReader, LogCheck
    from exchange.core.directory import Directory
    from exchange.store.ports import Log

    trust = Home(home).trust
    directory = DirectoryReader(Directory.genesis(trust.name, trust.root_key))
    yield LogCheck(stored, Log.DIRECTORY, trust.directory_log, directory)
    yield LogCheck(stored, Log.ACCESS, trust.access_log, AccessReader(directory))


def check_logs(stored: "Inspection", home: Path) -> tuple[dict[str, int], Found]:
    """Make nodes and index columns anew from the leaves, and compare.

    Args:
        stored: one state of both logs.
        home: has the trust file.

    Returns:
        How many entries each log has, and what is wrong.
    """
    from exchange.broker.fsck import damages

    found, sizes = Found(), dict[str, int]()
    for problem in damages(stored):
        found.add(problem)
    for check in _checks(stored, home):
        with bar(check.name) as advance:
            for problem in check.walk(advance):
                found.add(problem)
        sizes[check.name] = check.size
    return sizes, found


class _NotMendedError(Exception):
    """Something is wrong after a repair: none of it is kept."""

    def __init__(self, sizes: dict[str, int], found: Found) -> None:
        super().__init__("a repair did not mend everything")
        self.sizes, self.found = sizes, found


def _mend(store: "InspectedStore", home: Path) -> tuple[dict[str, int], Found]:
    """Mend, and check what has come of it, all in one transaction: where anything is wrong still, nothing is kept."""
    try:
        with store.mending() as stored:
            stored.rebuild_indexes()
            for check in _checks(stored, home):
                with bar(f"mending {check.name}") as advance:
                    check.mend(advance)
            stored.restore_indexes()
            sizes, found = check_logs(stored, home)
            if found.count:
                raise _NotMendedError(sizes, found)
    except _NotMendedError as error:
        return error.sizes, error.found
    return sizes, found


def _exit_code(found: Found, *, mended: bool) -> int:
    if mended or not found.count:
        return ExitCode.DONE
    return ExitCode.UNTRUSTED if found.untrusted else ExitCode.REFUSED


def _print(sizes: Mapping[str, int], found: Found, *, mended: bool, as_json: bool) -> None:
    if as_json:
        problems = [
            {"log": problem.log or None, "index": problem.index, "text": problem.text, "mendable": problem.mendable}
            for problem in found.first
        ]
        described = {
            "logs": [{"log": name, "entries": size} for name, size in sizes.items()],
            "problems": problems,
            "more": found.count - len(problems),
            "mended": mended,
        }
        print_json(described)
        return
    print_pairs({name: f"{size} {'entry' if size == 1 else 'entries'}" for name, size in sizes.items()})
    for problem in found.first:
        print_line(f"{'mended' if mended else 'FAIL'}  {clean(str(problem))}")
    if found.count > len(found.first):
        print_line(f"and {found.count - len(found.first)} more")
    if not found.count:
        print_line("nodes, index columns, heads and checkpoints are those of the leaves")
    elif mended:
        print_line("nodes and index columns were written anew; the leaves make the root that was signed")
    elif found.others:
        say("hint: nothing was written: keep a copy of the database, and restore it or ask the auditors for theirs")
    else:
        say("hint: `exchange log fsck --repair` writes nodes and index columns anew, and no leaf")
