"""All answers to one request: verified, opened, compared with the log, and put together for the person who asked."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from exchange.cli.audit.checking.checks import short
from exchange.cli.audit.mirror.naming import Names, names_of
from exchange.cli.audit.subjects.checking import Doubt, Remark, Seen, check_coverage, match_row
from exchange.cli.audit.subjects.office import Office, key_of, read_file
from exchange.cli.frame.errors import CommandError, WrongUsageError
from exchange.cli.frame.progress import bar
from exchange.cli.frame.times import iso
from exchange.client.datasets import dataset_name
from exchange.core.envelope import SUBJECT_ANSWER, SUBJECT_REQUEST, Envelope, decode_envelope
from exchange.core.errors import CoreError
from exchange.core.subjects import open_answer, read_subject_request, verify_answer
from exchange.home import Home
from exchange.v1.subject_pb2 import SubjectAnswerHeader, SubjectDisclosure, SubjectRequest

NO_MIRROR = "not checked against the log: only an auditor's home has a mirror of it"


@dataclass(frozen=True, slots=True)
class Answered:
    """One owner's answer, verified and opened."""

    header: SubjectAnswerHeader
    disclosure: SubjectDisclosure


@dataclass(frozen=True, slots=True)
class Merged:
    """What came of all answers.

    Args:
        request: what was asked.
        rows: of all answers, by time.
        owners: who answered.
        missing: who gave answers in that time, and has not told yet.
        remarks: what does not hold, or could not be checked.
        size: entries of the log that it was compared with; None without a mirror.
    """

    request: SubjectRequest
    rows: tuple[Seen, ...]
    owners: tuple[str, ...]
    missing: tuple[str, ...]
    remarks: tuple[Remark, ...]
    size: int | None

    @property
    def is_wrong(self) -> bool:
        """Whether something contradicts the log or is not its signer's."""
        return any(remark.doubt == Doubt.WRONG for remark in self.remarks)

    @property
    def is_complete(self) -> bool:
        """Whether every owner has told, and all of it could be checked."""
        return not self.remarks and not self.missing and self.size is not None


def merge(home: Home, office: Office, request: Path, answers: Sequence[Path]) -> Merged:
    """Put the answers to a request together.

    Args:
        home: of the office that asked; it has the key.
        office: what the home has mirrored.
        request: the file that was handed out.
        answers: the files that came back.

    Raises:
        CommandError: the request is not one, or two answers are of one system.
        HomeError: this home did not ask.
    """
    try:
        envelope = decode_envelope(read_file(request), SUBJECT_REQUEST)
        asked = read_subject_request(envelope)
    except CoreError as error:
        raise CommandError(f"{request}: {error}", "name the file of `exchange-audit subject-request new`") from error
    remarks: list[Remark] = []
    opened = _opened(home, office, (envelope, asked), answers, remarks)
    rows = tuple(_rows(office, opened.values(), remarks))
    missing: tuple[str, ...] = ()
    size = None
    if office.access is not None:
        size = office.access.checkpoint.size
        owners = office.access.providers(asked.since or None, asked.until or None)
        missing = tuple(owner for owner in owners if owner not in opened)
    by_time = sorted(rows, key=lambda seen: (seen.row.time, seen.owner, seen.row.number))
    return Merged(asked, tuple(by_time), tuple(sorted(opened)), missing, tuple(remarks), size)


def _opened(
    home: Home,
    office: Office,
    request: tuple[Envelope, SubjectRequest],
    paths: Sequence[Path],
    remarks: list[Remark],
) -> dict[str, Answered]:
    """Every answer that is its owner's, by the owner's name."""
    envelope, asked = request
    origin = office.directory.origin
    key = key_of(home, asked.request_id)
    found: dict[str, Answered] = {}
    for path in paths:
        try:
            answer = decode_envelope(read_file(path), SUBJECT_ANSWER)
            _, header = verify_answer(office.directory, answer, envelope.digest)
            disclosure = open_answer(origin, answer, asked, key)
        except CoreError as error:
            remarks.append(Remark(str(home.party), f"{path}: {error}"))
            continue
        if header.answerer in found:
            raise WrongUsageError(f"{path}: a second answer of {header.answerer}", "name one for each system")
        found[header.answerer] = Answered(header, disclosure)
    return found


def _rows(office: Office, answers: Iterable[Answered], remarks: list[Remark]) -> Iterator[Seen]:
    for answer in answers:
        owner = answer.header.answerer
        if office.access is None:
            for row in answer.disclosure.rows:
                yield Seen(owner, row, None, tuple(row.entries), bool(row.entries), 0)
            continue
        with bar(f"the ledger of {short(owner)}") as advance:
            told = answer.header, answer.disclosure
            remarks += check_coverage(office.access, office.erasures, office.directory, *told, advance)
        for row in answer.disclosure.rows:
            seen, found = match_row(office.access, office.erasures, owner, row)
            remarks += found
            yield seen


def table(office: Office, merged: Merged) -> Iterator[tuple[object, ...]]:
    """Rows for the person who asked, in words rather than codes where the directory has any."""
    for seen in merged.rows:
        names = _names(office, seen)
        row = seen.row
        labels = [names.fields.get(name, name) for name in row.fields] if names is not None else list(row.fields)
        yield (
            iso(row.time).removesuffix("Z").replace("T", " "),
            short(row.requester),
            row.officer,
            (names.purpose if names is not None else "") or row.purpose,
            row.case_id,
            _dataset(office, seen),
            ", ".join(labels),
            _outcome(seen),
            ", ".join(str(index) for index in seen.entries) or "none",
        )


def described(office: Office, merged: Merged) -> dict[str, object]:
    """The same for programs."""
    return {
        "request_id": merged.request.request_id,
        "subject": merged.request.subject,
        "asked_by": merged.request.asked_by,
        "rows": [
            {
                "time": iso(seen.row.time),
                "owner": seen.owner,
                "ledger_number": seen.row.number,
                "requester": seen.row.requester,
                "officer": seen.row.officer,
                "purpose": seen.row.purpose,
                "case": seen.row.case_id,
                "dataset": _dataset(office, seen),
                "fields": list(seen.row.fields),
                "asked": seen.row.asked,
                "found": seen.row.told,
                "released": seen.released,
                "log_entries": list(seen.entries),
            }
            for seen in merged.rows
        ],
        "answered": list(merged.owners),
        "missing": list(merged.missing),
        "remarks": [{"owner": item.owner, "level": item.doubt.value, "text": item.text} for item in merged.remarks],
        "complete": merged.is_complete,
        "verified_to": merged.size,
    }


def _names(office: Office, seen: Seen) -> Names | None:
    directory = office.history.at(seen.directory_size) if seen.directory_size else None
    return names_of(directory, seen.asked) if directory is not None and seen.asked is not None else None


def _dataset(office: Office, seen: Seen) -> str:
    terms = office.directory.terms.datasets.get(seen.row.dataset)
    return dataset_name(terms) if terms is not None else seen.row.dataset.hex()


def _outcome(seen: Seen) -> str:
    if not seen.row.told:
        return "asked for, nothing found" if seen.released else "asked for, nothing found, not released"
    return "received" if seen.released else "not released: possible access"
