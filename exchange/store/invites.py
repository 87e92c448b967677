"""Where a broker keeps invites: who may join, by which code, and what they handed in.

Nothing here is trust. A party is admitted by the KEY entry that its parent signs; whoever could write here could make
a parent look at a key request, which a person compares by telephone.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Row

from exchange.store import schema
from exchange.store.memory import MemoryLogStore
from exchange.store.sql import SqlLogStore


@dataclass(frozen=True, slots=True)
class Invite:
    """An invite and what came of it. Times are milliseconds, 0 where it has not happened.

    Args:
        party: who is invited; a name has one invite, the last one.
        parent: who invited.
        role: a `Role`.
        code_sha256: of the one-time code, 32 bytes.
        invited_at: when; expires_at: after which no key request is taken any more.
        joined_at: when a key request came.
        statement: of that request, a serialised KeyStatement; csr: PKCS #10, DER.
        rejected_at: when the parent said no; reason: why.
        certificate: PEM, once issued: kept until the party has fetched it.
    """

    party: str
    parent: str
    role: int
    code_sha256: bytes
    invited_at: int
    expires_at: int
    joined_at: int = 0
    statement: bytes = b""
    csr: bytes = b""
    rejected_at: int = 0
    reason: str = ""
    certificate: bytes = b""


class InviteStore(Protocol):
    """Invites, each replaced as a whole. Any thread may call, and is blocked.

    Durability: as a log's batch, once `replace` has returned. Concurrency: `replace` is a compare-and-swap, against
    other processes that share the database too. Not promised: that anything in here was checked.

    Raises:
        StoreError: from any method, when the database failed; as `LogStore`.
    """

    def find(self, party: str) -> Invite | None:
        """Reads the invite of a name."""

    def of_parent(self, parent: str) -> tuple[Invite, ...]:
        """Reads all invites of a parent, by name."""

    def replace(self, party: str, before: Invite | None, after: Invite | None) -> bool:
        """Puts an invite in another's place.

        Args:
            party: whose.
            before: what must stand there now; None is nothing.
            after: what is to stand there; None is nothing.

        Returns:
            False where something else than `before` stands there: nothing was changed.
        """


class SqlInvites:
    """Invites in a log store's database; see `InviteStore`.

    Args:
        store: its append lock is taken for a write.
    """

    def __init__(self, store: SqlLogStore) -> None:
        self._store = store

    def find(self, party: str) -> Invite | None:
        """See `InviteStore.find`."""
        return next(map(_invite, self._store.rows(schema.INVITE, of_party=party)), None)

    def of_parent(self, parent: str) -> tuple[Invite, ...]:
        """See `InviteStore.of_parent`."""
        return tuple(map(_invite, self._store.rows(schema.INVITES_OF, of_parent=parent)))

    def replace(self, party: str, before: Invite | None, after: Invite | None) -> bool:
        """See `InviteStore.replace`."""
        with self._store.locked() as transaction:
            found = transaction.rows(schema.INVITE, of_party=party)
            if next(map(_invite, found), None) != before:
                return False
            transaction.change(schema.FORGET_INVITE, of_party=party)
            if after is not None:
                transaction.change(schema.ADD_INVITE, **_columns(after))
        return True


class MemoryInvites:
    """Invites in a dictionary, for unit tests; see `InviteStore`.

    Args:
        store: its append lock is taken for a write.
    """

    def __init__(self, store: MemoryLogStore) -> None:
        self._store = store
        self._invites: dict[str, Invite] = {}

    def find(self, party: str) -> Invite | None:
        """See `InviteStore.find`."""
        return self._invites.get(party)

    def of_parent(self, parent: str) -> tuple[Invite, ...]:
        """See `InviteStore.of_parent`."""
        return tuple(invite for _, invite in sorted(self._invites.items()) if invite.parent == parent)

    def replace(self, party: str, before: Invite | None, after: Invite | None) -> bool:
        """See `InviteStore.replace`."""
        with self._store.locked():
            if self._invites.get(party) != before:
                return False
            self._invites.pop(party, None)
            if after is not None:
                self._invites[party] = after
        return True


def _invite(row: Row[*tuple[Any, ...]]) -> Invite:
    return Invite(**row._asdict())


def _columns(invite: Invite) -> dict[str, object]:
    return {name: getattr(invite, name) for name in schema.INVITES.columns.keys()}  # noqa: SIM118 - no dictionary
