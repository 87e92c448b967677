"""One row of an export: what an entry says, with its index and its leaf hash."""

import uuid
from dataclasses import dataclass, fields

from exchange.cli.audit.checking.opening import OpenedEntry
from exchange.cli.audit.searching.rows import ProvenEntry, dataset_of, operation_of
from exchange.cli.frame.times import iso
from exchange.core.access import code_name, kind_name
from exchange.core.directory import Directory
from exchange.core.merkle import leaf_hash
from exchange.core.wire import encode


@dataclass(frozen=True, slots=True)
class ExportRow:
    """An entry as other programs read it; an empty text is one that the entry does not have.

    Args:
        log_index: its place in the access log.
        leaf_hash: hexadecimal (RFC 9162 section 2.1.1): what proves the row.
        time: ISO 8601 in UTC; time_ms: the same in milliseconds.
        kind, code: released, unreleased, refused or read, and why.
        requester, provider: parties.
        request_id: a UUID.
        request_digest, response_digest, refusal_digest: hexadecimal.
        directory_size: of the directory that it was decided under.
        dataset: DEPARTMENT/CODE; dataset_id: its object id, hexadecimal.
        agreement: its message digest, hexadecimal.
        operation, fields: what was asked; the fields with spaces between them.
        officer, purpose, case: as the requester named them.
        ledger_number: the provider's own number of the answer; 0 where there is none.
        mandate: of a read, its message digest, hexadecimal.
        read_first, read_end, bodies_read: the entries whose bodies an auditor was given, and how many; 0 otherwise.
    """

    log_index: int
    leaf_hash: str
    time: str
    time_ms: int
    kind: str
    code: str
    requester: str
    provider: str
    request_id: str
    request_digest: str
    response_digest: str
    refusal_digest: str
    directory_size: int
    dataset: str
    dataset_id: str
    agreement: str
    operation: str
    fields: str
    officer: str
    purpose: str
    case: str
    ledger_number: int
    mandate: str
    read_first: int
    read_end: int
    bodies_read: int


COLUMNS = tuple(field.name for field in fields(ExportRow))
NUMBERS = frozenset(field.name for field in fields(ExportRow) if field.type is int)


def export_row(directory: Directory, found: ProvenEntry) -> ExportRow:
    """The row of a proven entry.

    Args:
        directory: names datasets.
        found: its leaf is the one that the tree holds.
    """
    entry = found.entry
    leaf = entry.leaf
    return ExportRow(
        log_index=found.index,
        # Strict decoding lets one encoding of a leaf in: this is the leaf that was proven, byte for byte.
        leaf_hash=leaf_hash(encode(leaf)).hex(),
        time=iso(leaf.time),
        time_ms=leaf.time,
        kind=kind_name(leaf.kind),
        code=code_name(leaf.code) if leaf.code else "",
        requester=leaf.requester,
        provider=leaf.provider,
        request_id=str(uuid.UUID(bytes=leaf.request_id)) if leaf.request_id else "",
        request_digest=leaf.request_digest.hex(),
        response_digest=leaf.response_digest.hex(),
        refusal_digest=leaf.refusal_digest.hex(),
        directory_size=leaf.directory_size,
        ledger_number=entry.answered.ledger_number if entry.answered is not None else 0,
        mandate=leaf.read.mandate.hex(),
        read_first=leaf.read.first,
        read_end=leaf.read.end,
        bodies_read=leaf.read.bodies,
        **_asked(directory, entry),
    )


def _asked(directory: Directory, entry: OpenedEntry) -> dict[str, str]:
    header = entry.asked
    if header is None:
        return dict.fromkeys(
            ("dataset", "dataset_id", "agreement", "operation", "fields", "officer", "purpose", "case"), ""
        )
    return {
        "dataset": dataset_of(directory, header),
        "dataset_id": header.dataset.hex(),
        "agreement": header.agreement.hex(),
        "operation": operation_of(header),
        "fields": " ".join(header.fields),
        "officer": header.officer,
        "purpose": header.purpose,
        "case": header.case_id,
    }
