"""What the index of a mirror says of an entry, and whether that is what leaf and body say."""

from collections.abc import Sequence
from typing import Final

from exchange.cli.audit.checking.opening import read_entry
from exchange.cli.audit.mirror.schema import COLUMNS, SUMMED_UP
from exchange.core.access import read_access_leaf
from exchange.core.errors import CoreError

FILE: Final = "access-mirror.db"
EVIDENCE: Final = "evidence"

_BUSY = 30.0
_NOTES: Final = "SELECT CAST(note AS BLOB) FROM checkpoints WHERE verified = ?"
PAGE: Final = 200
"""Rows of a search that are read at once."""


def columns_of(leaf: bytes, body: bytes) -> tuple[object, ...]:
    """What the index says of an entry, in the order of `COLUMNS`; as far as leaf and body can be read."""
    try:
        said = read_access_leaf(leaf)
    except CoreError:
        return (None,) * len(COLUMNS)
    about: tuple[object, ...] = (None,) * 4
    try:
        header = read_entry(leaf, body).asked
    except CoreError:
        header = None
    if header is not None:
        about = (header.dataset, header.officer, header.purpose, header.case_id)
    return (
        said.time,
        said.kind,
        SUMMED_UP if said.counts else said.code,
        said.requester,
        said.provider,
        said.request_id,
        said.request_digest,
        *about,
    )


def index_problem(stored: Sequence[object], expected: Sequence[object], names: Sequence[str] = COLUMNS) -> str:
    """Where an index says something else than leaf and body; empty where it does not."""
    wrong = [name for name, found, right in zip(names, stored, expected, strict=True) if found != right]
    return f"its index says something else than the entry: {', '.join(wrong)}" if wrong else ""
