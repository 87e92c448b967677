"""What a party's ledger of use asks of it now: data to be destroyed, notices of corrections to be acknowledged."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from exchange.client.use_file import FILE, UseFile
from exchange.core.correction import Correction, Notice
from exchange.core.corrections import notices_for
from exchange.core.directory import Directory
from exchange.core.names import Party
from exchange.core.use_records import Due, dues
from exchange.v1.use_pb2 import UseRecord


@dataclass(frozen=True, slots=True)
class Affected:
    """A notice, and which answers of this home's own ledger it is about; none in the home of a steward."""

    correction: Correction
    notice: Notice
    answers: tuple[UseRecord, ...]


def ledger_of(home: Path) -> list[UseRecord]:
    """Every record of a home's ledger; none where nothing was asked from there.

    Raises:
        EvidenceError, UnavailableError: it was altered, or cannot be read.
    """
    path = home / FILE
    return list(UseFile(path).records()) if path.exists() else []


def waiting_notices(directory: Directory, party: Party, home: Path) -> list[Affected]:
    """The notices that nobody has acknowledged: to a system those about its own requests, to a steward all.

    Raises: as `ledger_of`.
    """
    waiting = [item for item in notices_for(directory.terms, party.own_department) if item[1].acknowledged is None]
    # Most of the time there is none, and the ledger need not be read.
    records = ledger_of(home) if waiting else []
    found = [
        Affected(correction, notice, tuple(record for record in records if record.request_id in set(notice.requests)))
        for correction, notice in waiting
    ]
    return [item for item in found if item.answers or not party.is_system]


def waiting_dues(directory: Directory, home: Path, now: int) -> list[Due]:
    """What should be destroyed by now, milliseconds.

    Raises: as `ledger_of`.
    """
    return dues(directory, ledger_of(home), now)


def notice_line(affected: Sequence[Affected]) -> str:
    """How many notices wait, in a line; empty for none."""
    if not affected:
        return ""
    many = f"{len(affected)} corrections concern" if len(affected) > 1 else "1 correction concerns"
    return f"{many} records that came here: see `exchange use corrections`"


def due_line(found: Sequence[Due]) -> str:
    """How much is to be destroyed, in a line; empty for nothing."""
    if not found:
        return ""
    many = f"data of {len(found)} cases is" if len(found) > 1 else "data of 1 case is"
    return f"{many} to be destroyed: see `exchange use due`"
