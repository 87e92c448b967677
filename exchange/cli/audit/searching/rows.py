"""Rows as an auditor sees them: read again from leaf and body, and proven against the signed checkpoint."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from exchange.cli.audit.checking.checks import counts_of, short
from exchange.cli.audit.checking.findings import Finding, plural
from exchange.cli.audit.checking.opening import READ, OpenedEntry, read_entry
from exchange.cli.audit.checking.tree import Expected, prove
from exchange.cli.audit.checking.verification import LoggedEntry
from exchange.cli.audit.mirror.access_mirror import PAGE, AccessMirror
from exchange.cli.audit.mirror.postings import Wanted
from exchange.cli.frame.times import iso
from exchange.client.datasets import dataset_name
from exchange.core.access import code_name, kind_name
from exchange.core.directory import Directory
from exchange.core.erasures import Erasures
from exchange.core.errors import CoreError, NameFormatError
from exchange.v1.access_pb2 import AccessLeaf
from exchange.v1.request_pb2 import Operation, RequestHeader

COLUMNS = ("index", "time (UTC)", "kind", "code", "requester", "provider/dataset", "officer", "purpose", "case")


@dataclass(frozen=True, slots=True)
class ProvenEntry:
    """An entry that the signed checkpoint holds, with the body that its leaf names."""

    index: int
    entry: OpenedEntry


def proven(expected: Expected, stored: LoggedEntry, erasures: Erasures) -> ProvenEntry | str:
    """Prove a stored entry.

    Args:
        expected: the signed checkpoint, and nodes that nobody has to believe.
        stored: as the mirror has it.
        erasures: which bodies may be missing.

    Returns:
        The entry, or what is wrong with it.
    """
    problem = prove(expected, stored.index, stored.leaf)
    if problem:
        return problem
    try:
        return ProvenEntry(stored.index, read_entry(stored.leaf, stored.body, stored.index, erasures))
    except CoreError as error:
        return str(error)


def proven_entries(
    mirror: AccessMirror, wanted: Wanted, start: int = 0, page: int = PAGE, erasures: Erasures | None = None
) -> Iterator[ProvenEntry | Finding]:
    """The mirrored entries that fit, by the index, each proven; or what is wrong with one. Read page by page.

    Args:
        mirror: of the access log.
        wanted: what the index is asked for; what the entry itself says is the caller's to compare.
        start: the first index to look at.
        page: rows that are read at once.
        erasures: which bodies may be missing.
    """
    erasures = erasures or Erasures()
    for stored in mirror.find(wanted, start, min(page, PAGE)):
        expected = mirror.expected_of(entry.index for entry in stored)
        for entry in stored:
            result = proven(expected, entry, erasures)
            if isinstance(result, str):
                yield Finding(mirror.origin, entry.index, result)
                continue
            if entry.index_problem:
                yield Finding(mirror.origin, entry.index, entry.index_problem)
            yield result


def row(directory: Directory, found: ProvenEntry) -> tuple[object, ...]:
    """The cells of a row, in the order of `COLUMNS`."""
    leaf, header = found.entry.leaf, found.entry.asked
    about: tuple[str | None, ...] = (None, None, None)
    if header is not None:
        about = (header.officer, header.purpose, header.case_id)
    elif leaf.kind == READ:
        about = (None, None, f"mandate {leaf.read.mandate.hex()[:12]}")
    return (
        found.index,
        iso(leaf.time).removesuffix("Z").replace("T", " "),
        kind_name(leaf.kind),
        code_name(leaf.code) if leaf.code else counts_of(leaf) or None,
        shortened(leaf.requester),
        dataset_of(directory, header) if header is not None else read_of(leaf) or shortened(leaf.provider),
        *about,
    )


def described(directory: Directory, found: ProvenEntry) -> dict[str, object]:
    """The same for programs, and more of it."""
    leaf, header = found.entry.leaf, found.entry.asked
    record: dict[str, object] = {
        "index": found.index,
        "time": iso(leaf.time),
        "time_ms": leaf.time,
        "kind": kind_name(leaf.kind),
        "code": code_name(leaf.code) if leaf.code else None,
        "requester": leaf.requester or None,
        "provider": leaf.provider or None,
        "request_id": str(uuid.UUID(bytes=leaf.request_id)) if leaf.request_id else None,
        "request_digest": leaf.request_digest or None,
        "response_digest": leaf.response_digest or None,
        "refusal_digest": leaf.refusal_digest or None,
        "directory_size": leaf.directory_size,
    }
    if found.entry.erased_by is not None:
        record["erased_by"] = found.entry.erased_by
    if found.entry.is_withheld:
        record["withheld"] = True
    if leaf.kind == READ:
        record |= {
            "mandate": leaf.read.mandate,
            "first": leaf.read.first,
            "end": leaf.read.end,
            "bodies": leaf.read.bodies,
            "query_sha256": leaf.read.query_sha256 or None,
        }
    if leaf.counts:
        record |= {
            "counts": {code_name(item.code): item.count for item in leaf.counts},
            "since": iso(leaf.since),
            "until": iso(leaf.until),
            "refusals_root": leaf.refusals_root,
            "refuser": leaf.refuser,
        }
    if header is not None:
        record |= {
            "dataset": dataset_of(directory, header),
            "agreement": header.agreement,
            "operation": operation_of(header),
            "fields": list(header.fields),
            "officer": header.officer,
            "purpose": header.purpose,
            "case": header.case_id,
        }
    return record


def read_of(leaf: AccessLeaf) -> str:
    """What an auditor read, in words; empty for any other entry."""
    if leaf.kind != READ:
        return ""
    read = leaf.read
    how = "searched" if read.query_sha256 else "read"
    return f"{how}: {plural(read.bodies, 'bodies', 'body')} of {read.first}:{read.end}"


def dataset_of(directory: Directory, header: RequestHeader) -> str:
    """DEPARTMENT/CODE as the directory has it, ended or not; else the object id."""
    terms = directory.terms.datasets.get(header.dataset)
    return dataset_name(terms) if terms is not None else header.dataset.hex()


def operation_of(header: RequestHeader) -> str:
    """LOOKUP or QUERY."""
    return Operation.Name(header.operation).removeprefix("OPERATION_")


def shortened(name: str) -> str | None:
    """A party without the exchange's name; what is no party's name stays as it is."""
    try:
        return short(name) if name else None
    except NameFormatError:
        return name
