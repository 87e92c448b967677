"""What the worked example chooses, and how its values are collected under the names that the document uses."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from exchange.core.checkpoint import Checkpoint, encode_checkpoint, sign_checkpoint
from exchange.core.envelope import Draft, Envelope, batch_statement, pae, sign
from exchange.core.keys import EcdsaSigner
from exchange.core.merkle import Frontier, NodeId, consistency_proof, inclusion_proof, leaf_hash, root_of
from exchange.core.note import NoteSigner

TEXTS = {
    "exchange": "city.example",
    "root": "exchange://city.example",
    "broker": "exchange://city.example/broker",
    "coordinator": "exchange://city.example/data-bureau",
    "owner": "exchange://city.example/population",
    "provider": "exchange://city.example/population/registry",
    "applicant": "exchange://city.example/housing",
    "requester": "exchange://city.example/housing/applications",
    "purpose": "housing.allocation",
    "purpose_label": "住房分配",
    "purpose_label_en": "Housing allocation",
    "legal_basis": "Housing Act, article 12",
    "scenario": "Queue for public housing",
    "dataset_code": "residents",
    "dataset_title": "常住人口",
    "officer": "officer-7",
    "case_id": "ZF-2027-0001",
    "lookup_key": "110101199003074610",
    "rows": '[{"name":"王芳","address":"和平路 1 号"}]',
    "refused_field": "birth_date",
    "refused_reason": "the agreement does not grant the field birth_date",
    "overloaded_reason": "too many requests at once: slow down and send it again",
}
NUMBERS = {
    "keys_not_before": 1_800_000_000_000,
    "keys_not_after": 1_900_000_000_000,
    "sealing_not_after": 1_802_592_000_000,
    "first_entry_time": 1_800_000_000_000,
    "agreement_not_after": 1_831_536_000_000,
    "issued_at": 1_800_000_060_000,
    "expires_at": 1_800_000_360_000,
    "answered_at": 1_800_000_060_020,
    "released_at": 1_800_000_060_040,
}
FIELDS = (("id_number", 1), ("name", 1), ("birth_date", 4), ("address", 1))
ASKED = ("name", "address")
SIGNERS = ("root", "broker", "coordinator", "owner", "provider", "applicant", "requester")
DIRECTORY_SIZE = 11


@dataclass
class Example:
    """Secrets as they were drawn and values as they were computed, each under the name that the document uses."""

    secrets: dict[str, bytes] = field(default_factory=dict)
    values: dict[str, bytes] = field(default_factory=dict)
    signers: dict[str, EcdsaSigner] = field(default_factory=dict)

    def secret(self, name: str, size: int = 32) -> bytes:
        """What would be random: SHAKE-256 of the name."""
        return self.secrets.setdefault(name, hashlib.shake_256(f"worked example {name}".encode()).digest(size))

    def keep(self, name: str, value: bytes) -> bytes:
        """Record a value under its name."""
        assert name not in self.values, name
        self.values[name] = value
        return value

    def signed(self, name: str, signer: str, draft: Draft) -> Envelope:
        """Sign a message alone, and record every step."""
        envelope = sign(self.signers[signer], TEXTS["exchange"], draft)
        self.keep(f"{name}.payload", draft.payload)
        self.keep(f"{name}.pae", pae(draft.kind, draft.payload))
        self.keep(f"{name}.digest", envelope.digest)
        self.keep(f"{name}.statement", batch_statement(TEXTS["exchange"], envelope.key_id, 1, envelope.digest))
        self.keep(f"{name}.signature", envelope.signature)
        self.keep(f"{name}.frame", envelope.encode())
        return envelope


@dataclass
class Log:
    """One log: its note key, its leaves, and every checkpoint and proof that follows from them."""

    example: Example
    name: str
    leaves: list[bytes] = field(default_factory=list)

    @property
    def signer(self) -> NoteSigner:
        """The log's note key."""
        private = Ed25519PrivateKey.from_private_bytes(self.example.secret(f"logs.{self.name}.private"))
        return NoteSigner(f"{TEXTS['exchange']}/{self.name}", private)

    def add(self, leaf: bytes) -> None:
        """Append a leaf, and record it with its hash."""
        number = len(self.leaves)
        self.example.keep(f"{self.name}.leaf_{number}", leaf)
        self.example.keep(f"{self.name}.leaf_hash_{number}", leaf_hash(leaf))
        self.leaves.append(leaf)

    def checkpoint(self, size: int) -> bytes:
        """Record root, note text and note of a size; returns the note."""
        root = root_of([leaf_hash(leaf) for leaf in self.leaves[:size]])
        checkpoint = Checkpoint(self.signer.name, size, root)
        self.example.keep(f"{self.name}.root_{size}", root)
        self.example.keep(f"{self.name}.text_{size}", encode_checkpoint(checkpoint).encode())
        return self.example.keep(f"{self.name}.checkpoint_{size}", sign_checkpoint(checkpoint, self.signer))

    def inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        """Record the inclusion path of a leaf."""
        return self._kept(f"path_{index}_{size}", inclusion_proof(index, size, self._read))

    def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """Record the proof that the log only grew."""
        return self._kept(f"consistency_{old}_{new}", consistency_proof(old, new, self._read))

    def _kept(self, name: str, path: tuple[bytes, ...]) -> tuple[bytes, ...]:
        self.example.keep(f"{self.name}.{name}", b"".join(path))
        return path

    def _read(self, wanted: Sequence[NodeId]) -> list[bytes]:
        _, nodes = Frontier().extend([leaf_hash(leaf) for leaf in self.leaves])
        known = {NodeId(node.level, node.index): node.hash for node in nodes}
        return [known[node] for node in wanted]
