"""Witnesses of a test: their keys, a policy over them, and checkpoints that they cosigned."""

from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from exchange.core.cosignature import Cosigner
from exchange.core.note import open_note
from exchange.core.policy import Policy, PolicyGroup, PolicyWitness, encode_policy
from tests.memory import MemoryLog, fixed

NAMES = ("archive", "bureau", "university")
WITNESSES = {
    name: Cosigner(f"witness.{name}.example", Ed25519PrivateKey.from_private_bytes(fixed(f"witness {name}")))
    for name in NAMES
}
TWO_OF_THREE = encode_policy(
    Policy(
        witnesses=tuple(PolicyWitness(name, witness.verifier) for name, witness in WITNESSES.items()),
        groups=(PolicyGroup("two-of-three", 2, NAMES),),
        quorum="two-of-three",
    )
)


def cosigned(log: MemoryLog, names: Sequence[str], time: int, size: int | None = None) -> bytes:
    """A log's checkpoint, cosigned by some witnesses at a moment, in seconds."""
    note = log.checkpoint(size)
    text = open_note(note, (log.signer.verifier,)).text.encode()
    return note + "".join(str(WITNESSES[name].cosign(text, time)) for name in names).encode()
