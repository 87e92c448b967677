"""What the bodies of entries say they are about: an index that is kept beside a state (ADR 0009).

References stand in bodies alone. A row follows from one body and from the leaves, whatever other bodies say: rows are
added as bodies come, and none of them is ever wrong later. No signed digest covers them: they are believed as the
bodies are, and lead only to bodies that are checked again, in the order of their entries.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from struct import iter_unpack
from typing import Protocol

from exchange.core.chunks import CHUNK, record_at
from exchange.core.corrections import CORRECTION_ACTIONS
from exchange.core.errors import CoreError
from exchange.core.names import Party
from exchange.core.opening import checked_body, named_party
from exchange.core.review import REVIEW_ACTIONS
from exchange.core.state import MAX_ENTRY, OBJECT_ID, State, Version
from exchange.core.steps import read_step
from exchange.core.wire import decode
from exchange.v1.directory_pb2 import Agreement, Application, EntryKind
from exchange.v1.procedure_pb2 import Action, Step

KEY = 1 + OBJECT_ID
INDEX = 8
ROW = KEY + INDEX
_INDEXES = f">{KEY}xQ"

CASE, DISPUTE, CORRECTION, _APPLIED, _CATALOGUE = (bytes((number,)) for number in range(1, 6))
"""How a key begins; after it come an application's object id, a dispute's, a correction's; a hash; zeros."""

CATALOGUE_KEY = _CATALOGUE + bytes(OBJECT_ID)
"""Of all that is about datasets: they, their reviews, standing approvals and the consents to them."""

_APPLICATION = EntryKind.ENTRY_KIND_APPLICATION
_AGREEMENT = EntryKind.ENTRY_KIND_AGREEMENT
_STEP = EntryKind.ENTRY_KIND_STEP
_OF_CATALOGUE = frozenset({EntryKind.ENTRY_KIND_DATASET, EntryKind.ENTRY_KIND_STANDING_APPROVAL})
_WITH_BODIES = _OF_CATALOGUE | {_APPLICATION, _AGREEMENT, _STEP}
_OF_DISPUTES = frozenset({Action.ACTION_ESCALATE, Action.ACTION_SETTLE})
_OF_EITHER = frozenset({Action.ACTION_EXTEND, Action.ACTION_CONSENT_ANSWER})


class Bodies(Protocol):
    """Where the bodies of entries are kept."""

    def body(self, version: Version) -> bytes:
        """The body of a version, or empty where it is not at hand; what this raises, every lookup may raise."""
        ...


@dataclass(frozen=True, slots=True)
class Belongings:
    """The index.

    Args:
        rows: ascending, each once: a key of 17 bytes, then the index of an entry whose body is about it (8 bytes,
            big-endian).
    """

    rows: bytes = b""

    @classmethod
    def of(cls, rows: Iterable[bytes]) -> "Belongings":
        """The index of rows in any order."""
        return cls(b"".join(sorted(set(rows))))

    def __iter__(self) -> Iterator[bytes]:
        """Its rows."""
        return (self.rows[start : start + ROW] for start in range(0, len(self.rows), ROW))

    def about(self, key: bytes) -> list[int]:
        """The indexes of the bodies about a key, ascending."""
        found: list[int] = []
        # Bodies name what they like: a key of another length has no rows.
        place = self._place(key) * ROW if len(key) == KEY else len(self.rows)
        while self.rows[place : place + KEY] == key:
            found.append(int.from_bytes(self.rows[place + KEY : place + ROW], "big"))
            place += ROW
        return found

    def keys(self, kind: bytes) -> Iterator[bytes]:
        """Every key of a kind, each once."""
        before = b""
        for place in range(self._place(kind), len(self.rows) // ROW):
            key = self.rows[place * ROW : place * ROW + KEY]
            if not key.startswith(kind):
                return
            if key != before:
                yield key
            before = key

    def marks(self, size: int) -> bytearray:
        """Which of the first so many entries have a body with rows: one byte each, 1 for those that do."""
        marks = bytearray(size)
        for (index,) in iter_unpack(_INDEXES, self.rows):
            if index < size:
                marks[index] = 1
        return marks

    def _place(self, key: bytes) -> int:
        """The first row that is not below a key."""
        rows = self.rows
        return bisect_left(range(len(rows) // ROW), key, key=lambda place: rows[place * ROW : place * ROW + len(key)])


def applied_key(dataset: bytes, department: Party) -> bytes:
    """Of the applications for a dataset, by its object id, in the name of a department or its systems."""
    return _APPLIED + hashlib.sha256(dataset + str(department).encode()).digest()[:OBJECT_ID]


def keys_of(state: State, version: Version, attachment: bytes) -> tuple[bytes, ...]:
    """What a body is about; nothing where it cannot be read.

    Args:
        state: with `version` folded in, and anything that came later.
        version: of the body.
        attachment: 32 bytes of salt, then the serialised body.
    """
    if version.kind in _OF_CATALOGUE:
        return (CATALOGUE_KEY,)
    with suppress(CoreError):
        body = checked_body(version, attachment)
        if version.kind == _APPLICATION:
            said = decode(Application, body, MAX_ENTRY)
            return CASE + version.object_id, applied_key(said.dataset, named_party(said.grantee).own_department)
        if version.kind == _AGREEMENT:
            application = state.versions.get(decode(Agreement, body, MAX_ENTRY).application)
            is_known = application is not None and application.kind == _APPLICATION
            return (CASE + application.object_id,) if application is not None and is_known else ()
        if version.kind == _STEP:
            return _keys_of_step(state, read_step(body))
    return ()


def _keys_of_step(state: State, step: Step) -> tuple[bytes, ...]:
    if step.action in CORRECTION_ACTIONS:
        return (CORRECTION + step.subject,)
    if step.action in REVIEW_ACTIONS or (step.action in _OF_EITHER and _is_dataset(state, step.subject)):
        return (CATALOGUE_KEY,)
    if step.action == Action.ACTION_OPEN_DISPUTE:
        return CASE + step.about, DISPUTE + step.subject
    return ((DISPUTE if step.action in _OF_DISPUTES else CASE) + step.subject,)


def _is_dataset(state: State, object_id: bytes) -> bool:
    """Whether an object id is a dataset's, erased or not."""
    history = state.histories.get(object_id, ())
    return bool(history) and state.versions[history[0]].kind == EntryKind.ENTRY_KIND_DATASET


def rows_of(state: State, bodies: Mapping[int, bytes]) -> Iterator[bytes]:
    """The rows of some bodies, by the indexes of their entries."""
    for index, body in bodies.items():
        record = record_at(state.chunks, index)
        if isinstance(record, Version):
            yield from _rows(state, record, body)


def rows_since(state: State, bodies: Bodies, start: int) -> Iterator[bytes]:
    """The rows of all bodies at hand.

    Args:
        state: of which every body is read.
        bodies: those at hand.
        start: index of the first entry whose body is read.
    """
    for number in sorted(state.chunks):
        if (number + 1) * CHUNK <= start:
            continue
        for record in state.chunks[number].records:
            if isinstance(record, Version) and record.index >= start and record.kind in _WITH_BODIES:
                body = bodies.body(record)
                yield from _rows(state, record, body) if body else ()


def _rows(state: State, version: Version, body: bytes) -> Iterator[bytes]:
    return (key + version.index.to_bytes(INDEX, "big") for key in keys_of(state, version, body))
