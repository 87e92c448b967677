"""`exchange log`: check the logs of a stopped broker."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from exchange.cli.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_group
from exchange.cli.audit.progress import bar
from exchange.cli.errors import CommandError, ExitCode, say
from exchange.cli.homes import require_role
from exchange.cli.output import clean, print_json, print_line, print_pairs
from exchange.home import Home

if TYPE_CHECKING:
    from exchange.broker.fsck import LogCheck, Problem
    from exchange.store.inspection import InspectedFile

SHOWN = 100
"""Problems that are listed; the rest are counted."""

app = new_group("Check the logs of a stopped broker.", "exchange log fsck --home ./operator/broker")


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
    """Rebuild both logs' nodes and index columns from their leaves, and compare them with what is stored.

    The broker must be stopped. Heads, signed checkpoints, bodies, the order of times and the fold of the directory are
    checked too. A repair writes nodes and index columns alone, never a leaf, and only where the leaves make the root
    that the log has signed.
    """
    from exchange.store.inspection import InspectedFile
    from exchange.store.ports import StoreError

    require_role(home, "broker", "the logs are in the folder broker that `exchange init` made")
    try:
        with InspectedFile.opened(_database(home)) as file:
            sizes, found = _check(file, home)
            mended = repair and found.mendable > 0 and not found.others
            if mended:
                _mend(file, home)
                sizes, again = _check(file, home)
                if again.count:
                    found, mended = again, False
    except StoreError as error:
        hint = "stop the broker first: a running one has the database for itself"
        raise CommandError(str(error), hint, ExitCode.UNCHECKED) from error
    _print(sizes, found, mended=mended, as_json=as_json)
    raise typer.Exit(_exit_code(found, mended=mended))


def _database(home: Path) -> Path:
    from exchange.broker.config import load_config

    return home / load_config(home).database


def _checks(file: "InspectedFile", home: Path) -> "Iterator[LogCheck]":
    """The directory, then the access log, which is judged by the directory's size."""
    from exchange.broker.fsck import AccessReader, DirectoryReader, LogCheck
    from exchange.core.directory import Directory
    from exchange.store.ports import Log

    trust, heads = Home(home).trust, file.heads()
    directory = DirectoryReader(Directory.genesis(trust.name, trust.root_key))
    yield LogCheck(file, Log.DIRECTORY, trust.directory_log, directory)
    size = heads[Log.DIRECTORY].size if Log.DIRECTORY in heads else 0
    yield LogCheck(file, Log.ACCESS, trust.access_log, AccessReader(size))


def _check(file: "InspectedFile", home: Path) -> tuple[dict[str, int], Found]:
    from exchange.broker.fsck import damages

    found, sizes = Found(), dict[str, int]()
    for problem in damages(file):
        found.add(problem)
    for check in _checks(file, home):
        with bar(check.name) as advance:
            for problem in check.walk(advance):
                found.add(problem)
        sizes[check.name] = check.size
    return sizes, found


def _mend(file: "InspectedFile", home: Path) -> None:
    file.rebuild_indexes()
    with file.mending():
        for check in _checks(file, home):
            with bar(f"mending {check.name}") as advance:
                check.mend(advance)


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
