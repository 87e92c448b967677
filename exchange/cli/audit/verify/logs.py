"""`exchange-audit verify full`, `range` and `entry`: recompute everything, in the mirror or in a copied database."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.application import DEFAULT_HOME, HomeOption, JsonOption, example
from exchange.cli.audit.checking.findings import Finding, Level, plural, span
from exchange.cli.audit.checking.policies import PolicyOption, Standing, read_policy, standing
from exchange.cli.audit.checking.tree import Expected, ProvenLeaves, TreeCheck, WholeTree
from exchange.cli.audit.mirror.offline import AuditHome, erasures_of, is_mirrored, opened_home
from exchange.cli.audit.mirror.seen import compare, keep_evidence
from exchange.cli.audit.mirror.sources import LogName, log_standing, mirrored_log
from exchange.cli.audit.verify.database import BrokerDatabase
from exchange.cli.audit.verify.outcome import Copy, Outcome, print_outcome, verified
from exchange.cli.errors import WrongUsageError, say
from exchange.client.errors import BrokenLogError
from exchange.core.note import Verifier
from exchange.core.policy import Policy
from exchange.core.trust import Trust
from exchange.home import Home

_RANGE = re.compile(r"([0-9]{1,18}):([0-9]{1,18})")

Range = tuple[int, int]

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
ENTRY_EXAMPLE = example("exchange-audit verify entry 17 --home ./audit-office")


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
    _verify(home, database, policy, None, as_json)


def range_(
    range_: Annotated[str, typer.Argument(metavar="A:B", help="Access entries A to before B.")],
    database: DatabaseOption = None,
    policy: PolicyOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Verify a range of the access log, and the directory that it was decided under.

    What was released twice, or never settled, shows only over the whole log.
    """
    _verify(home, database, policy, _parsed(range_), as_json)


def entry(
    index: Annotated[int, typer.Argument(min=0, metavar="INDEX", help="An access entry.")],
    database: DatabaseOption = None,
    policy: PolicyOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Verify one entry of the access log, and the directory that it was decided under; `show` tells its story."""
    _verify(home, database, policy, (index, index + 1), as_json)


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


def _verify(home: Path, database: Path | None, named: Path | None, asked: Range | None, as_json: bool) -> None:
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


def _outcome(copy: Copy, asked: Range | None, bounds: Range) -> Outcome:
    tree: TreeCheck = WholeTree(copy.access) if asked is None else ProvenLeaves(copy.access, asked[0])
    return verified(copy, tree, (asked,) if asked is not None else None, (bounds,))


def _mirror_copy(place: AuditHome, policy: Policy | None, asked: Range | None) -> tuple[Copy, Range]:
    size, stored = place.access.checkpoint.size, place.access.size
    start, stop = bounds = _bounded(asked, size)
    text = f"{span(size, stored - 1)}: not verified yet, a sync was interrupted: run `exchange-audit sync`"
    copy = Copy(
        place.trust,
        place.directory.expected(),
        replace(place.access.expected(), seen=place.access.seen()),
        iter(place.directory.entries),
        place.access.rows(start, stop),
        stop - start,
        place.erasures(),
        (
            log_standing(mirrored_log(place, LogName.DIRECTORY), policy).beside(place.directory.checkpoint.size),
            log_standing(mirrored_log(place, LogName.ACCESS), policy).beside(stop),
        ),
        (Finding(place.access.origin, None, text, Level.WARNING),) if stored > size else (),
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
    file: BrokerDatabase, trust: Trust, policy: Policy | None, known: AuditHome | None, asked: Range | None
) -> tuple[Copy, Range]:
    directory, problems = file.check_head("directory", trust.directory_log)
    access, more = file.check_head("access", trust.access_log)
    expected = (
        Expected(trust.directory_log.name, directory, nodes=lambda place: file.node("directory", place)),
        Expected(trust.access_log.name, access, nodes=lambda place: file.node("access", place)),
    )
    if known is not None:
        mirrored = known.directory
        expected = (
            replace(expected[0], seen=(mirrored.checkpoint,), known=mirrored.leaf_hash),
            replace(expected[1], seen=known.access.seen(), known=known.access.leaf_node),
        )
    bounds = _bounded(asked, access.size if access is not None else 0)
    rows = file.rows("access", *bounds) if asked is not None else file.rows("access")
    count = bounds[1] - bounds[0] if asked is not None else file.count("access")
    standings = (
        _database_standing(file, "directory", trust.directory_log, policy) if directory is not None else None,
        _database_standing(file, "access", trust.access_log, policy) if access is not None else None,
    )
    erasures = erasures_of(trust, lambda: file.rows("directory"))
    copy = Copy(trust, *expected, file.rows("directory"), rows, count, erasures, standings, (*problems, *more))
    return copy, bounds


def _remember(home: Path, known: AuditHome, copy: Copy) -> None:
    """What the copy's log has signed binds the log of the mirror."""
    try:
        for name, item in zip((LogName.DIRECTORY, LogName.ACCESS), copy.standings, strict=True):
            if item is not None:
                compare(known, name, item.checkpoint, item.note)
    except BrokenLogError as error:
        keep_evidence(Home(home), error)
        raise


def _database_standing(file: BrokerDatabase, log: str, verifier: Verifier, policy: Policy | None) -> Standing | None:
    head = file.head(log)
    return standing(head.note, verifier, policy) if head is not None else None


def _bounded(asked: Range | None, size: int) -> Range:
    if asked is None:
        return 0, size
    if asked[0] >= size:
        raise WrongUsageError(f"the access log has {plural(size)} here, and none from {asked[0]} on")
    return asked[0], min(asked[1], size)
