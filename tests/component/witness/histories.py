"""A log with two histories, and requests to a witness about them."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from exchange.core.checkpoint import Checkpoint, sign_checkpoint
from exchange.core.cosignature import Cosigner
from exchange.core.merkle import Frontier, NodeId, consistency_proof, leaf_hash
from exchange.core.note import NoteSigner
from exchange.core.witnessing import AddCheckpoint, encode_add_checkpoint

ORIGIN = "city.test/access"
LOG = NoteSigner(ORIGIN, Ed25519PrivateKey.from_private_bytes(bytes([1] * 32)))
OTHER = NoteSigner("city.test/directory", Ed25519PrivateKey.from_private_bytes(bytes([2] * 32)))
COSIGNER = Cosigner("witness.test", Ed25519PrivateKey.from_private_bytes(bytes([3] * 32)))
TIME = 1_800_000_000


class History:
    """A log of numbered leaves; histories of two names differ from their first leaf on."""

    def __init__(self, name: str = "one", signer: NoteSigner = LOG) -> None:
        self._hashes = [leaf_hash(f"{name} {number}".encode()) for number in range(64)]
        self._signer = signer

    def checkpoint(self, size: int) -> Checkpoint:
        return Checkpoint(self._signer.name, size, Frontier().extend(self._hashes[:size])[0].root())

    def note(self, size: int) -> bytes:
        return sign_checkpoint(self.checkpoint(size), self._signer)

    def proof(self, old: int, new: int) -> tuple[bytes, ...]:
        _, nodes = Frontier().extend(self._hashes[:new])
        known = {NodeId(node.level, node.index): node.hash for node in nodes}
        return consistency_proof(old, new, lambda ids: [known[node] for node in ids])

    def request(self, old: int, new: int) -> bytes:
        return encode_add_checkpoint(AddCheckpoint(old, self.proof(old, new), self.note(new)))
