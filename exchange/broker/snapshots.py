"""Snapshots: every so many entries the broker signs what the directory folds to (DESIGN section 7)."""

import secrets
from dataclasses import dataclass

from exchange.core.directory import Directory
from exchange.core.entries import snapshot_entry
from exchange.core.envelope import Envelope, sign
from exchange.core.keys import Signer
from exchange.core.names import Party
from exchange.core.snapshot import EVERY, state_digest
from exchange.core.state import OBJECT_ID
from exchange.store.ports import StoreFatalError


class DirectoryDiffersError(StoreFatalError):
    """The directory folds to another state here than a broker signed: this program or that one is wrong."""


@dataclass(frozen=True, slots=True)
class Snapshots:
    """Signs snapshots.

    Args:
        signer: this broker's own key; party: its name.
        every: entries from one snapshot to the next.
    """

    signer: Signer
    party: Party
    every: int = EVERY

    def due(self, directory: Directory) -> Envelope | None:
        """The signed entry that is to follow a directory; None where none is due."""
        if not directory.size or directory.size % self.every:
            return None
        digest = state_digest(directory.state)
        draft = snapshot_entry(self.party, secrets.token_bytes(OBJECT_ID), directory.size, digest)
        return sign(self.signer, directory.origin, draft)
