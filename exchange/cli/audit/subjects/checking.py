"""An owner's answer against the access log: what the ledger claims to cover, and an entry for every row of it.

The log does not know whom an answer is about, so it cannot show that a row was left out. It shows that the ledger that
was read is the one that the log's answers came from, to its end, and that no row was made up or changed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from exchange.cli.audit.checking.checks import ledger_number, short
from exchange.cli.audit.checking.findings import Finding, plural
from exchange.cli.audit.checking.ledgers import Numbers
from exchange.cli.audit.checking.opening import RELEASED, SETTLING, OpenedEntry
from exchange.cli.audit.mirror.access_mirror import AccessMirror
from exchange.cli.audit.mirror.postings import Wanted
from exchange.cli.audit.searching.rows import ProvenEntry, proven_entries
from exchange.cli.frame.output import listed
from exchange.cli.frame.progress import Advance
from exchange.core.directory import Directory
from exchange.core.erasures import Erasures
from exchange.v1.request_pb2 import RequestHeader
from exchange.v1.subject_pb2 import SubjectAnswerHeader, SubjectDisclosure, SubjectRow


class Doubt(StrEnum):
    """How bad something is that was found."""

    WRONG = "FAIL"
    UNCHECKED = "not checked"
    ERASED = "erased"


@dataclass(frozen=True, slots=True)
class Remark:
    """Something about an owner's answer.

    Args:
        owner: the system.
        text: what, without a full stop.
        doubt: how bad it is.
    """

    owner: str
    text: str
    doubt: Doubt = Doubt.WRONG

    def __str__(self) -> str:
        return f"{self.doubt}  {short(self.owner)}: {self.text}"


@dataclass(frozen=True, slots=True)
class Seen:
    """One row of an answer, with the entries that the log has of it.

    Args:
        owner: the system.
        row: as the owner told it.
        asked: the request that the log keeps; None where there is none.
        entries: indexes in the log.
        released: whether the answer was released; otherwise it counts as possible access.
        directory_size: that it was decided under; 0 where the log has no entry.
    """

    owner: str
    row: SubjectRow
    asked: RequestHeader | None
    entries: tuple[int, ...]
    released: bool
    directory_size: int


def check_coverage(
    mirror: AccessMirror,
    erasures: Erasures,
    directory: Directory,
    header: SubjectAnswerHeader,
    disclosure: SubjectDisclosure,
    advance: Advance,
) -> Iterator[Remark]:
    """Compare what a ledger claims to be with all of its answers that the log has.

    Args:
        mirror: of the access log; erasures: which of its bodies may be missing.
        directory: says which keys are the owner's.
        header: of the answer, verified; disclosure: what was sealed in it.
        advance: told after each entry.
    """
    owner, last = header.answerer, disclosure.last_number
    numbers, highest = Numbers(1), 0
    # An entry without its body still has the answer's digest; the rows that were told say which number that has.
    told = {row.response_digest: row.number for row in disclosure.rows}
    erased: dict[bytes, int] = {}
    withheld = 0
    for kind in SETTLING:
        for item in proven_entries(mirror, Wanted({"provider": owner, "kind": kind}), erasures=erasures):
            if isinstance(item, Finding):
                yield Remark(owner, f"entry {item.index}: {item.text}")
                continue
            digest, number = item.entry.leaf.response_digest, ledger_number(directory, item.entry)
            if item.entry.is_withheld:
                withheld += digest not in told
                number = told.get(digest)
            if item.entry.erased_by is not None:
                erased.setdefault(digest, item.entry.erased_by)
                number = told.get(digest)
            if number is None:
                continue
            numbers.add(number)
            advance(number, max(last, number))
            highest = max(highest, number)
            yield from _compare(item, number, header, disclosure)
    gaps = [(first, min(stop, last)) for first, stop in numbers.gaps() if first <= last]
    gaps += [(highest + 1, last)] if highest < last else []
    if withheld:
        text = (
            f"{withheld} of its answers are here without a body, for want of a mandate: what is missing cannot be told"
        )
        yield Remark(owner, text, Doubt.UNCHECKED)
        return
    yield from _absent(owner, gaps, [index for digest, index in erased.items() if digest not in told])


def _absent(owner: str, gaps: Sequence[tuple[int, int]], erased: Sequence[int]) -> Iterator[Remark]:
    """Tell answers whose bodies were erased from those that the log does not have.

    Args:
        owner: the system.
        gaps: the numbers that no body in the log has, first and last of each run.
        erased: for each answer in the log whose body and number are gone, the entry of the directory that erased it.
    """
    if not gaps:
        return
    which = listed(f"answer {first}" if first == last else f"answers {first} to {last}" for first, last in gaps)
    missing = sum(last - first + 1 for first, last in gaps) - len(erased)
    if erased:
        by = listed(f"entry {index}" for index in sorted(set(erased)))
        has = f"the log has {plural(len(erased))} of it without a body, erased by {by} of the directory"
        yield Remark(owner, f"{which} of its ledger: {has}: which of them is which cannot be checked", Doubt.ERASED)
    if missing > 0:
        text = f"no entry of {which} of its ledger" if not erased else f"no entry of {missing} of these answers"
        yield Remark(owner, f"the log, as it is mirrored here, has {text}", Doubt.UNCHECKED)


def _compare(
    item: ProvenEntry, number: int, header: SubjectAnswerHeader, disclosure: SubjectDisclosure
) -> Iterator[Remark]:
    """One answer's own words, signed by the owner, against what the owner says of its ledger now."""
    answered, last, owner = item.entry.answered, disclosure.last_number, header.answerer
    if answered is None:
        return
    if number == last and answered.ledger_previous != disclosure.last_previous:
        yield Remark(
            owner, f"its ledger is another one than that of entry {item.index}: the chain before answer {last}"
        )
    elif number == last + 1 and answered.ledger_previous != (disclosure.last_chain or bytes(32)):
        yield Remark(owner, f"its ledger is another one than that of entry {item.index}: the chain after answer {last}")
    elif number > last and answered.answered_at < header.answered_at:
        yield Remark(
            owner, f"its ledger is said to end at answer {last}, and entry {item.index} is its answer {number}"
        )


def match_row(mirror: AccessMirror, erasures: Erasures, owner: str, row: SubjectRow) -> tuple[Seen, tuple[Remark, ...]]:
    """Find the entries of a row, and compare what they say.

    Args:
        mirror: of the access log; erasures: which of its bodies may be missing.
        owner: the system whose answer it was.
        row: as the owner tells it.
    """
    found: list[ProvenEntry] = []
    remarks: list[Remark] = []
    for item in proven_entries(
        mirror, Wanted({"request_digest": row.request_digest, "provider": owner}), erasures=erasures
    ):
        if isinstance(item, Finding):
            remarks.append(Remark(owner, f"entry {item.index}: {item.text}"))
        elif item.entry.leaf.kind in SETTLING and item.entry.leaf.response_digest == row.response_digest:
            found.append(item)
    indexes = tuple(item.index for item in found)
    if not found:
        text = f"answer {row.number} has no entry in the log as it is mirrored here"
        remarks.append(Remark(owner, text, Doubt.WRONG if _should_be_here(mirror, row) else Doubt.UNCHECKED))
    elif stray := [index for index in row.entries if index not in indexes and index < mirror.checkpoint.size]:
        remarks.append(Remark(owner, f"answer {row.number} is said to have entry {stray[0]}, which is of another"))
    remarks += [Remark(owner, text) for item in found for text in _contradictions(row, item.entry)]
    remarks += [Remark(owner, text, Doubt.ERASED) for item in found for text in _erased(row, item)]
    asked = next((item.entry.asked for item in found if item.entry.asked is not None), None)
    released = any(item.entry.leaf.kind == RELEASED for item in found)
    size = max((item.entry.leaf.directory_size for item in found), default=0)
    return Seen(owner, row, asked, indexes, released, size), tuple(remarks)


def _should_be_here(mirror: AccessMirror, row: SubjectRow) -> bool:
    """Whether the owner names entries that this mirror would have."""
    return any(index < mirror.checkpoint.size for index in row.entries)


def _erased(row: SubjectRow, item: ProvenEntry) -> Iterator[str]:
    """What is not there to be compared any more."""
    if item.entry.erased_by is not None:
        by = f"the body of entry {item.index} was erased by entry {item.entry.erased_by} of the directory"
        yield f"answer {row.number}: {by}: who asked, and what for, is the owner's word alone"


def _contradictions(row: SubjectRow, entry: OpenedEntry) -> Iterator[str]:
    """What the signed request says otherwise than the row."""
    header, answered = entry.asked, entry.answered
    if answered is not None and answered.ledger_number != row.number:
        yield f"answer {row.number} is answer {answered.ledger_number} by its signed response"
    if header is None:
        return
    said = {
        "requester": (row.requester, header.requester),
        "officer": (row.officer, header.officer),
        "purpose": (row.purpose, header.purpose),
        "case": (row.case_id, header.case_id),
        "dataset": (row.dataset, header.dataset),
        "fields": (list(row.fields), list(header.fields)),
    }
    wrong = [name for name, (told, signed) in said.items() if told != signed]
    if wrong:
        yield f"answer {row.number} says otherwise than the request that the log keeps: {', '.join(wrong)}"
