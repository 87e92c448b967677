"""`exchange-audit verify full`, `range` and `entry`: recompute everything, in the mirror or in a copied database."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.audit.checking.findings import Finding, Level, plural, span
from exchange.cli.audit.checking.policies import PolicyOption, Standing, read_policy, standing
from exchange.cli.audit.checking.tree import Expected, ProvenLeaves, TreeCheck, WholeTree
from exchange.cli.audit.mirror.offline import AuditHome, erasures_of, is_mirrored, opened_home
from exchange.cli.audit.mirror.seen import compare, keep_evidence
from exchange.cli.audit.mirror.sources import LogName, LogOption, log_standing, mirrored_log
from exchange.cli.audit.verify.database import BrokerDatabase
from exchange.cli.audit.verify.outcome import Copy, Outcome, print_outcome, verified
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example
from exchange.cli.frame.errors import WrongUsageError, say
from exchange.client.errors import BrokenLogError
from exchange.core.checkpoint import Checkpoint
from exchange.core.note import Verifier
from exchange.core.policy import Policy
from exchange.core.trust import Trust
from exchange.home import Home

_RANGE = re.compile(r"([0-9]{1,18}):([0-9]{1,18})")

Range = tuple[int, int]

Heads = Mapping[LogName, tuple[Checkpoint | None, Sequence[Finding]]]
"""The signed checkpoint of each log that is read, and what is wrong with it."""

DatabaseOption = Annotated[
    Path | None,
    typer.Option(
        "--database",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="A copy of the broker's SQLite database, not the mirror.",
    ),
]

FULL_EXAMPLE = example(
    "exchange-audit verify full --home ./audit-office",
    "exchange-audit verify full --database ./copy/exchange.db --home ./audit-office",
)
RANGE_EXAMPLE = example("exchange-audit verify range 1000:2000 --home ./audit-office")
ENTRY_EXAMPLE = example(
    "exchange-audit verify entry 17 --home ./audit-office",
    "exchange-audit verify entry 4 --log directory --home ./audit-office",
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be verified.

    Args:
        log: whose entries; with those of the access log goes the directory.
        range: first entry and the one behind the last; None for all.
    """

    log: LogName
    range: Range | None

    def bounds(self, size: int) -> Range:
        """The entries that a log of a size has of it.

        Raises:
            WrongUsageError: none.
        """
        if self.range is None:
            return 0, size
        first, stop = self.range
        if first >= size:
            raise WrongUsageError(f"the {self.log} log has {plural(size)} here, and none from {first} on")
        return first, min(stop, size)


def full(
    database: DatabaseOption = None,
    policy: PolicyOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Verify both logs whole: trees, checkpoints, bodies, signatures, and that every release was granted.

    It asks nobody. Each access entry is judged under the directory as it stood then, by the keys in HOME/trust.toml.
    A copy of the broker's database is compared with the mirror too: older, rolled back or forked, it ends with 4.
    """
    _verify(home, database, policy, Asked(LogName.ACCESS, None), as_json)


def range_(
    range_: Annotated[str, typer.Argument(metavar="A:B", help="Entries A to before B.")],
    log: LogOption = LogName.ACCESS,
    database: DatabaseOption = None,
    policy: PolicyOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Verify a range of the access log and the directory that it was decided under, or a range of the directory.

    What was released twice, or never settled, shows only over the whole log. Of the directory all is read, since what
    an entry may say depends on those before it; what else is wrong there is for `verify full` to tell.
    """
    _verify(home, database, policy, Asked(log, _parsed(range_)), as_json)


def entry(
    index: Annotated[int, typer.Argument(min=0, metavar="INDEX", help="The entry.")],
    log: LogOption = LogName.ACCESS,
    database: DatabaseOption = None,
    policy: PolicyOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Verify one entry: of the access log, with the directory that it was decided under, or of the directory.

    `exchange-audit show` tells the story of an access entry.
    """
    _verify(home, database, policy, Asked(log, (index, index + 1)), as_json)


def parsed_range(text: str, what: str) -> Range:
    """Read A:B, the entries A to before B.

    Raises:
        WrongUsageError: not a range, or an empty one; `what` says where it was typed.
    """
    match = _RANGE.fullmatch(text)
    if match is None or int(match[1]) >= int(match[2]):
        raise WrongUsageError(f"{what}: not a range: {text}", "write it as A:B, such as 0:1000 for the first thousand")
    return int(match[1]), int(match[2])


def _parsed(text: str) -> Range:
    return parsed_range(text, "A:B")


def _verify(home: Path, database: Path | None, named: Path | None, asked: Asked, as_json: bool) -> None:
    trust = Home(home).trust
    policy = read_policy(home, trust, named)
    if database is None:
        with opened_home(home) as place:
            copy, bounds = _mirror_copy(place, policy, asked)
            outcome = _outcome(copy, asked, bounds)
            print_outcome(outcome, as_json)
            if outcome.is_verified:
                place.end()
    else:
        with BrokerDatabase.opened(database) as file, _mirror_beside(home) as known:
            copy, bounds = _database_copy(file, trust, policy, known, asked)
            outcome = _outcome(copy, asked, bounds)
            print_outcome(outcome, as_json)
            if known is not None and outcome.is_verified:
                _remember(home, known, copy)
    raise typer.Exit(outcome.exit_code)


def _outcome(copy: Copy, asked: Asked, bounds: Range) -> Outcome:
    tree: TreeCheck = WholeTree(copy.access) if asked.range is None else ProvenLeaves(copy.access, asked.range[0])
    return verified(copy, tree, (asked.range,) if asked.range is not None else None, (bounds,), asked.log)


def _mirror_copy(place: AuditHome, policy: Policy | None, asked: Asked) -> tuple[Copy, Range]:
    logs = {name: mirrored_log(place, name) for name in LogName}
    size, stored = place.access.checkpoint.size, place.access.size
    bounds = asked.bounds(logs[asked.log].checkpoint.size)
    rows = bounds if asked.log is LogName.ACCESS else (0, 0)
    text = f"{span(size, stored - 1)}: not verified yet, a sync was interrupted: run `exchange-audit sync`"
    is_told = stored > size and asked.log is LogName.ACCESS
    ends = {LogName.DIRECTORY: place.directory.checkpoint.size, asked.log: bounds[1]}
    standings = {name: log_standing(logs[name], policy).beside(end) for name, end in ends.items()}
    copy = Copy(
        place.trust,
        place.directory.expected(),
        replace(place.access.expected(), seen=place.access.seen()),
        iter(place.directory.entries),
        place.access.rows(*rows),
        rows[1] - rows[0],
        place.erasures(),
        (standings[LogName.DIRECTORY], standings.get(LogName.ACCESS)),
        (Finding(place.access.origin, None, text, Level.WARNING),) if is_told else (),
    )
    return copy, bounds


@contextmanager
def _mirror_beside(home: Path) -> Iterator[AuditHome | None]:
    """The mirror that a database is compared with, where the home has one."""
    if not is_mirrored(home):
        say("this home has no mirror: nothing tells whether the copy was rolled back or forked")
        yield None
        return
    with opened_home(home) as place:
        yield place


def _database_copy(
    file: BrokerDatabase, trust: Trust, policy: Policy | None, known: AuditHome | None, asked: Asked
) -> tuple[Copy, Range]:
    verifiers = {LogName.DIRECTORY: trust.directory_log, LogName.ACCESS: trust.access_log}
    # With an access entry the directory is verified, but not the other way round.
    read = tuple(LogName) if asked.log is LogName.ACCESS else (LogName.DIRECTORY,)
    heads = {log: file.check_head(log, verifiers[log]) for log in read}
    expected = {log: _expected(file, log, verifiers[log].name, heads) for log in LogName}
    if known is not None:
        mirrored, access = known.directory, known.access
        seen = {LogName.DIRECTORY: (mirrored.checkpoint,), LogName.ACCESS: access.seen()}
        leaves = {LogName.DIRECTORY: mirrored.leaf_hash, LogName.ACCESS: access.leaf_node}
        expected = {log: replace(item, seen=seen[log], known=leaves[log]) for log, item in expected.items()}
    head = heads[asked.log][0]
    bounds = asked.bounds(head.size if head is not None else 0)
    is_whole = asked.log is LogName.ACCESS and asked.range is None
    rows = bounds if asked.log is LogName.ACCESS else (0, 0)
    copy = Copy(
        trust,
        expected[LogName.DIRECTORY],
        expected[LogName.ACCESS],
        file.rows("directory"),
        file.rows("access") if is_whole else file.rows("access", *rows),
        file.count("access") if is_whole else rows[1] - rows[0],
        erasures_of(trust, lambda: file.rows("directory")),
        (
            _database_standing(file, LogName.DIRECTORY, trust.directory_log, policy, heads),
            _database_standing(file, LogName.ACCESS, trust.access_log, policy, heads),
        ),
        tuple(finding for _, findings in heads.values() for finding in findings),
    )
    return copy, bounds


def _expected(file: BrokerDatabase, log: LogName, origin: str, heads: Heads) -> Expected:
    checkpoint, _ = heads.get(log, (None, ()))
    return Expected(origin, checkpoint, nodes=lambda place: file.node(log, place))


def _remember(home: Path, known: AuditHome, copy: Copy) -> None:
    """What the copy's log has signed binds the log of the mirror."""
    try:
        for name, item in zip((LogName.DIRECTORY, LogName.ACCESS), copy.standings, strict=True):
            if item is not None:
                compare(known, name, item.checkpoint, item.note)
    except BrokenLogError as error:
        keep_evidence(Home(home), error)
        raise


def _database_standing(
    file: BrokerDatabase, log: LogName, verifier: Verifier, policy: Policy | None, heads: Heads
) -> Standing | None:
    head, (checkpoint, _) = file.head(log), heads.get(log, (None, ()))
    return standing(head.note, verifier, policy) if head is not None and checkpoint is not None else None
