"""Bodies that a mandate came to cover after their leaves were mirrored: fetched once for each set of mandates."""

import hashlib
from collections.abc import Sequence

from exchange.cli.audit.checking.opening import open_entry
from exchange.cli.audit.checking.verification import LoggedEntry
from exchange.cli.audit.mirror.access_mirror import AccessMirror
from exchange.cli.audit.mirror.fetch import ask_page
from exchange.client.errors import EvidenceError
from exchange.client.session import Session
from exchange.core.access import read_access_leaf
from exchange.core.errors import CoreError
from exchange.core.reads import has_body, mandates_of, may_cover
from exchange.v1.log_pb2 import Record
from exchange.v1.people_pb2 import Mandate


async def fetch_bodies(session: Session, mirror: AccessMirror) -> int:
    """Fetch the bodies that the mirror lacks and a mandate may cover now.

    Args:
        session: of the auditor, its directory up to date.
        mirror: of the access log; only its verified entries are filled.

    Returns:
        How many came.

    Raises:
        EvidenceError: the broker sent another entry than the mirror has.
        RefusedError, UnavailableError: the broker does not answer.
    """
    mandates = list(mandates_of(session.directory.state, session.party, session.clock()))
    known = hashlib.sha256(b"".join(sorted(version.digest for version in mandates))).digest()
    if mirror.asked_under() == known:
        return 0
    said = [version.named for version in mandates if isinstance(version.named, Mandate)]
    start = filled = 0
    while (lacking := _next(mirror, said, start)) is not None:
        records = await ask_page(session, lacking)
        if not records:
            raise EvidenceError("the broker withholds entries of the access log that its log has signed")
        filled += _fill(mirror, lacking, records)
        start = records[-1].index + 1
    mirror.note_asked_under(known)
    return filled


def _next(mirror: AccessMirror, mandates: Sequence[Mandate], start: int) -> int | None:
    """The next entry without a body that a mandate may cover."""
    for entry in mirror.without_bodies(start, mirror.checkpoint.size):
        try:
            leaf = read_access_leaf(entry.leaf)
        except CoreError:
            continue
        if has_body(leaf) and any(may_cover(mandate, leaf) for mandate in mandates):
            return entry.index
    return None


def _fill(mirror: AccessMirror, start: int, records: Sequence[Record]) -> int:
    """Keep the bodies of one page, each the one that the mirrored leaf names."""
    last = min(records[-1].index + 1, mirror.checkpoint.size)
    lacking = {entry.index: entry.leaf for entry in mirror.without_bodies(start, last)}
    found = []
    for record in records:
        leaf = lacking.get(record.index)
        if leaf is None or not record.body:
            continue
        try:
            open_entry(read_access_leaf(leaf), record.body)
        except CoreError as error:
            raise EvidenceError(f"the broker sent another body than entry {record.index} names: {error}") from error
        found.append(LoggedEntry(record.index, leaf, record.body))
    mirror.fill(found)
    return len(found)
