"""What a test keeps in memory instead of on disk: keys that never change, and a log with its tree."""

import copy
import hashlib
from collections.abc import Iterable
from functools import cache

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from exchange.core.checkpoint import Checkpoint, sign_checkpoint
from exchange.core.keys import SEALING_PRIVATE, EcdsaSigner, sealing_public_bytes
from exchange.core.merkle import Frontier, NodeId, consistency_proof, inclusion_proof, leaf_hash
from exchange.core.note import NoteSigner
from exchange.core.state import Version
from exchange.v1.envelope_pb2 import Receipt

_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def fixed(label: str, size: int = 32) -> bytes:
    """Bytes that depend on a label alone, instead of random ones."""
    return hashlib.shake_256(label.encode()).digest(size)


@cache
def signer(label: str) -> EcdsaSigner:
    """The P-256 key of a label, always the same."""
    scalar = int.from_bytes(fixed(f"p256 {label}"), "big") % (_P256_ORDER - 1) + 1
    return EcdsaSigner.of(ec.derive_private_key(scalar, ec.SECP256R1()))


def sealing_private(label: str) -> bytes:
    """The sealing private key of a label, 96 bytes."""
    return fixed(f"sealing {label}", SEALING_PRIVATE)


@cache
def sealing_public(label: str) -> bytes:
    """The public half of `sealing_private`, 1,216 bytes."""
    return sealing_public_bytes(sealing_private(label))


class LoggedBodies:
    """The bodies of a log, except some; remembers which were asked for."""

    def __init__(self, log: "MemoryLog", *without: int) -> None:
        self.log, self.without = log, without
        self.asked: list[int] = []

    def body(self, version: Version) -> bytes:
        """As `exchange.core.reopening.Bodies` says."""
        self.asked.append(version.index)
        return b"" if version.index in self.without else self.log.bodies[version.index]


class MemoryLog:
    """One log in memory: leaves, bodies, the tree, and checkpoints of any size it had."""

    def __init__(self, name: str) -> None:
        self.signer = NoteSigner(name, Ed25519PrivateKey.from_private_bytes(fixed(f"log {name}")))
        self.leaves: list[bytes] = []
        self.bodies: list[bytes] = []
        self.roots: list[bytes] = [Frontier().root()]
        self.frontier = Frontier()
        self.nodes: dict[NodeId, bytes] = {}

    @property
    def size(self) -> int:
        """Number of leaves."""
        return len(self.leaves)

    def append(self, leaf: bytes, body: bytes = b"") -> int:
        """Add a leaf with its body, and return its index."""
        self.frontier, complete = self.frontier.extend([leaf_hash(leaf)])
        self.nodes |= {NodeId(node.level, node.index): node.hash for node in complete}
        self.leaves.append(leaf)
        self.bodies.append(body)
        self.roots.append(self.frontier.root())
        return self.size - 1

    def checkpoint(self, size: int | None = None) -> bytes:
        """The signed checkpoint of the log, now or as it was at a size."""
        size = self.size if size is None else size
        return sign_checkpoint(Checkpoint(self.signer.name, size, self.roots[size]), self.signer)

    def receipt(self, index: int, size: int | None = None) -> Receipt:
        """The proof that an entry is in the log, now or as it was at a size."""
        size = self.size if size is None else size
        path = inclusion_proof(index, size, self._read)
        return Receipt(index=index, leaf=self.leaves[index], path=path, checkpoint=self.checkpoint(size))

    def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """The proof that the log of one size begins with the log of an earlier one."""
        return consistency_proof(old, new, self._read)

    def copy(self) -> "MemoryLog":
        """Another log with the same history."""
        twin = copy.copy(self)
        twin.leaves, twin.bodies, twin.roots = list(self.leaves), list(self.bodies), list(self.roots)
        twin.nodes = dict(self.nodes)
        return twin

    def _read(self, wanted: Iterable[NodeId]) -> list[bytes]:
        return [self.nodes[node] for node in wanted]
