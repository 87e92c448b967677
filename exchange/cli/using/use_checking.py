"""Records of use against the access log: which released answers they leave out."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from exchange.cli.frame.times import now
from exchange.cli.using.use_standing import ledger_of
from exchange.client.session import Session
from exchange.client.uses import Use, all_uses, own_uses
from exchange.core.directory import Directory
from exchange.core.names import Party
from exchange.core.use_records import Selection, Shortcoming, selection_of, shortcomings
from exchange.core.wire import MAX_TIME
from exchange.v1.directory_pb2 import Role
from exchange.v1.use_pb2 import UseKind, UseRecord, UseReport

SLACK = 15 * 60_000
"""Milliseconds by which an answer may be recorded after its entry: the lifetime of a request, and two clocks."""

NOT_COMPARED = "not compared with the access log: the provider, or an auditor, can do that"


@dataclass(frozen=True, slots=True)
class Compared:
    """What came of it.

    Args:
        answers: that are recorded; wanted: that the log released, and that should be.
        caveat: why they were not compared; empty where they were.
    """

    answers: int
    wanted: int
    shortcomings: tuple[Shortcoming, ...]
    caveat: str = ""


async def compare_own(session: Session, home: Path, is_old: Callable[[int], bool]) -> Compared:
    """Compare a home's own ledger with the entries of its party.

    Args:
        is_old: whether an answer of a time, milliseconds, need not be recorded any longer.

    Raises: as `own_uses`, and `ledger_of`.
    """
    uses = [use async for use in own_uses(session, _silent) if use.requester == str(session.party)]
    return _compared(ledger_of(home), uses, [use for use in uses if not is_old(use.time)], is_whole=True)


async def compare(
    session: Session, report: UseReport, records: Iterable[UseRecord], is_old: Callable[[int], bool]
) -> Compared:
    """Compare a verified report with what this party may see of the log.

    Args:
        is_old: as for `compare_own`.

    Raises: as `own_uses` and `all_uses`.
    """
    role = session.directory.role_of(session.party, now())
    if role == Role.ROLE_AUDITOR:
        found = [use async for use in all_uses(session, 0, MAX_TIME)]
        is_whole = True
    elif role in {Role.ROLE_DEPARTMENT, Role.ROLE_SYSTEM}:
        found = [use async for use in own_uses(session, _silent)]
        is_whole = _sees_all(session.directory, session.party, report)
    else:
        return Compared(sum(1 for item in records if item.kind == UseKind.USE_KIND_ANSWERED), 0, (), NOT_COMPARED)
    uses = [use for use in found if use.requester == report.requester]
    limits = selection_of(report)
    wanted = [use for use in uses if _must_be_in(use, limits, report.made_at) and not is_old(use.time)]
    return _compared(records, uses, wanted, is_whole=is_whole)


def _compared(records: Iterable[UseRecord], uses: list[Use], wanted: list[Use], *, is_whole: bool) -> Compared:
    known = list(records)
    released = {use.index: use.request_digest for use in uses}
    found = shortcomings(known, released, [use.index for use in wanted], is_whole=is_whole)
    answers = sum(1 for item in known if item.kind == UseKind.USE_KIND_ANSWERED)
    return Compared(answers, len(wanted), tuple(found))


def _must_be_in(use: Use, limits: Selection, made_at: int) -> bool:
    """Whether an answer lies within the limits beyond doubt; one whose body is erased lies within none."""
    if limits.agreement not in (b"", use.agreement) or limits.dataset not in (b"", use.dataset):
        return False
    # A record may be later than its entry: by the edges of a period it may lie on the other side.
    since = limits.since + SLACK if limits.since else 0
    until = limits.until - SLACK if limits.until < made_at else made_at
    return since <= use.time <= until


def _sees_all(directory: Directory, party: Party, report: UseReport) -> bool:
    """Whether every answer that a report could name has an entry that this party sees: those of its own datasets."""
    own = party.own_department
    agreement = directory.agreement(report.agreement)
    if agreement is not None:
        return agreement.version.owner == own
    dataset = directory.terms.datasets.get(report.dataset)
    if dataset is not None:
        return dataset.version.owner == own
    return Party.parse(report.requester).own_department == own


def _silent(_done: int, _total: int) -> None:
    """Nobody waits for long."""
