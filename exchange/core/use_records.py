"""A requester's ledger of use: what it was told, what it did with it, when it was destroyed (Decree 809, art. 27, 29).

Each record is chained to the one before it. A report is a file between offices: the requesting system signs it, and
whoever knows which answers were released to it sees which of them the report leaves out.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from exchange.core.directory import Directory
from exchange.core.envelope import DIGEST, USE_REPORT, Draft, Envelope
from exchange.core.errors import CoreError, DecodeError
from exchange.core.names import is_case_id, is_code, is_field, is_officer
from exchange.core.signed import signing_record
from exchange.core.state import MAX_TEXT, OBJECT_ID, KeyRecord
from exchange.core.wire import MAX_TIME, decode, encode
from exchange.v1.directory_pb2 import Role
from exchange.v1.use_pb2 import UseKind, UseRecord, UseReport

RETENTION = "use.records.retention"
START = bytes(DIGEST)
"""The chain hash before the first record."""

MAX_REPORT = 64 * 1024 * 1024
"""Bytes of the longest signed report."""

_DAY = 86_400_000
_ANSWERED, _USED, _DISPOSED = UseKind.USE_KIND_ANSWERED, UseKind.USE_KIND_USED, UseKind.USE_KIND_DISPOSED


class UseRecordError(CoreError):
    """A record of use does not say what a record of its kind says."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which answers are meant; what is empty limits nothing. Times are milliseconds, inclusive."""

    agreement: bytes = b""
    dataset: bytes = b""
    since: int = 0
    until: int = MAX_TIME

    def has(self, answer: UseRecord) -> bool:
        """Whether an answer is one of them."""
        return (
            self.agreement in (b"", answer.agreement)
            and self.dataset in (b"", answer.dataset)
            and self.since <= answer.time <= self.until
        )


@dataclass(frozen=True, slots=True)
class Due:
    """Data that should be destroyed, of one case under one agreement.

    Args:
        answers: that handed it over, and are not disposed of.
        reason: why the purpose is met.
    """

    answers: tuple[UseRecord, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Shortcoming:
    """What a report does not tell as the log does: the entry's index, and what is wrong."""

    index: int
    detail: str


def chained(previous: bytes, record: bytes) -> bytes:
    """The chain hash after a record: SHA-256(previous || record), 32 bytes."""
    return hashlib.sha256(previous + record).digest()


def read_record(data: bytes) -> UseRecord:
    """Read a record.

    Raises:
        CoreError: malformed, or not what a record of its kind says.
    """
    record = decode(UseRecord, data)
    check_record(record)
    return record


def check_record(record: UseRecord) -> None:
    """Whether a record says what one of its kind says, and nothing else.

    Raises:
        UseRecordError: it does not.
    """
    names = {field.name for field, _ in record.ListFields()}
    extra = names - _COMMON - _FIELDS.get(record.kind, frozenset())
    if record.kind not in _FIELDS or extra or not record.number or record.time > MAX_TIME:
        raise UseRecordError("a record of use of an unknown form")
    if len(record.request_id) not in (0, OBJECT_ID) or len(record.dataset) not in (0, OBJECT_ID):
        raise UseRecordError("an id in the record has an impossible length")
    if len(record.agreement) not in (0, DIGEST) or len(record.request_digest) not in (0, DIGEST):
        raise UseRecordError("a digest in the record has an impossible length")
    if not names & _ABOUT:
        raise UseRecordError("it names the case, the request, the purpose or the agreement that it is about")
    _check_words(record)


def _check_words(record: UseRecord) -> None:
    if (record.case_id and not is_case_id(record.case_id)) or (record.purpose and not is_code(record.purpose)):
        raise UseRecordError("the case or the purpose is not in its form")
    if not is_officer(record.officer):
        raise UseRecordError("who it was is said by a pseudonym: letters, digits, dots, underscores and hyphens")
    if any(len(text) > MAX_TEXT for text in (record.effect, record.process, record.place, record.manner)):
        raise UseRecordError(f"a text has at most {MAX_TEXT:,} characters")
    if record.kind == _ANSWERED and not (record.request_digest and all(map(is_field, record.fields))):
        raise UseRecordError("the record of an answer names its request and its fields")
    if record.kind == _USED and not (record.effect or record.process or record.place):
        raise UseRecordError("what was done is said in words")
    if record.kind == _DISPOSED and not (record.manner and 0 < record.disposed_at <= MAX_TIME):
        raise UseRecordError("how and when data was destroyed is said")


def concerns(record: UseRecord, answer: UseRecord) -> bool:
    """Whether what was used or destroyed is what an answer handed over before."""
    return record.number > answer.number and all(
        not getattr(record, name) or getattr(record, name) == getattr(answer, name) for name in _ABOUT
    )


def selected(records: Iterable[UseRecord], selection: Selection) -> list[UseRecord]:
    """The answers that are meant, with everything that concerns one of them, by number."""
    known = list(records)
    answers = [record for record in known if record.kind == _ANSWERED and selection.has(record)]
    others = (record for record in known if record.kind != _ANSWERED)
    found = answers + [record for record in others if any(concerns(record, answer) for answer in answers)]
    return sorted(found, key=lambda record: record.number)


def kept_answers(records: Sequence[UseRecord]) -> list[UseRecord]:
    """The answers whose data was not destroyed."""
    disposals = [record for record in records if record.kind == _DISPOSED]
    answers = (record for record in records if record.kind == _ANSWERED)
    return [answer for answer in answers if not any(concerns(record, answer) for record in disposals)]


def dues(directory: Directory, records: Sequence[UseRecord], now: int) -> list[Due]:
    """What should be destroyed: the purpose is met, and nobody recorded that it was (Decree 809, article 27).

    Args:
        now: milliseconds.
    """
    groups: dict[tuple[bytes, str, str], list[UseRecord]] = {}
    for answer in kept_answers(records):
        reason = _met(directory, answer, now)
        if reason:
            groups.setdefault((answer.agreement, answer.case_id, reason), []).append(answer)
    return [Due(tuple(answers), reason) for (_, _, reason), answers in groups.items()]


def _met(directory: Directory, answer: UseRecord, now: int) -> str:
    agreement = directory.agreement(answer.agreement)
    if directory.state.purpose(answer.purpose) is None:
        return "the purpose is no longer registered"
    if agreement is None:
        return ""
    if not directory.stands(agreement):
        return "the agreement has ended"
    if agreement.not_after < now:
        return "the agreement's term is over"
    if agreement.retention_days and answer.time + agreement.retention_days * _DAY < now:
        return f"{agreement.retention_days} days are over for which it may be kept"
    return ""


def report_draft(report: UseReport) -> Draft:
    """An unsigned report."""
    return Draft(USE_REPORT, encode(report))


def verify_report(directory: Directory, envelope: Envelope) -> tuple[KeyRecord, UseReport, tuple[UseRecord, ...]]:
    """Check a signed report: who signs it, and that its records are of its ledger and within what it is limited to.

    Args:
        directory: as it is now.
        envelope: its frame checked.

    Returns:
        The signer's key, the report, and its records, by number.

    Raises:
        CoreError: malformed, altered, or not signed by the system that it names.
    """
    if envelope.kind != USE_REPORT or envelope.attachments:
        raise DecodeError("not a report of use")
    report = decode(UseReport, envelope.payload, MAX_REPORT)
    if max(report.made_at, report.since, report.until) > MAX_TIME:
        raise DecodeError("a time in the report is out of range")
    key = signing_record(directory.state, envelope, report.made_at)
    if key.role != Role.ROLE_SYSTEM or report.requester != str(key.party):
        raise DecodeError(f"signed by {key.party}, which is not the system that the report names")
    if len(report.last_chain) != (DIGEST if report.last_number else 0):
        raise DecodeError("the report's chain hash has an impossible length")
    records = tuple(map(read_record, report.records))
    numbers = [record.number for record in records]
    if numbers != sorted(set(numbers)) or any(not report.first_number <= n <= report.last_number for n in numbers):
        raise DecodeError("the report's records are not those of the ledger that it claims to be of")
    limits = selection_of(report)
    if any(record.kind == _ANSWERED and not limits.has(record) for record in records):
        raise DecodeError("the report has answers beyond what it is limited to")
    return key, report, records


def selection_of(report: UseReport) -> Selection:
    """What a report is limited to."""
    return Selection(report.agreement, report.dataset, report.since, report.until or MAX_TIME)


def shortcomings(
    records: Iterable[UseRecord], released: Mapping[int, bytes], wanted: Iterable[int], *, is_whole: bool
) -> list[Shortcoming]:
    """What records of use leave out, or say otherwise than the access log.

    Args:
        records: of a report, or of a ledger.
        released: of each answer that was released to the requester: the index of its entry, and the request's digest.
        wanted: indexes of those that the records must have.
        is_whole: whether `released` has every answer that the records could name: then one more is wrong.
    """
    told = {record.log_index: record for record in records if record.kind == _ANSWERED}
    found = [Shortcoming(index, "released, and not recorded") for index in wanted if index not in told]
    # What came after the log was read is not compared.
    last = max(released, default=-1)
    for index, record in told.items():
        if index in released and released[index] != record.request_digest:
            found.append(Shortcoming(index, f"record {record.number} is of another request than the entry"))
        if is_whole and index not in released and index <= last:
            found.append(Shortcoming(index, f"record {record.number} names an entry that the log does not have for it"))
    return sorted(found, key=lambda item: item.index)


_COMMON = frozenset({"format", "number", "time", "kind", "officer"})
_ABOUT = frozenset({"request_id", "dataset", "agreement", "purpose", "case_id"})
_FIELDS = {
    _ANSWERED: _ABOUT | {"request_digest", "fields", "rows", "log_index"},
    _USED: _ABOUT | {"effect", "process", "place"},
    _DISPOSED: _ABOUT | {"manner", "disposed_at"},
}
