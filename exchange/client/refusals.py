"""Whether a refusal is one: signed by a broker or by the provider, and about this message (DESIGN section 6)."""

from exchange.client.errors import RefusedError
from exchange.core.access import read_refusal
from exchange.core.directory import Directory
from exchange.core.envelope import Envelope
from exchange.core.errors import CoreError
from exchange.core.names import Party
from exchange.core.signed import signing_record
from exchange.core.state import KeyRecord
from exchange.v1.access_pb2 import Refusal
from exchange.v1.directory_pb2 import Role


def verify_refusal(
    error: RefusedError, directory: Directory, digests: frozenset[bytes], now: int, provider: Party | None = None
) -> RefusedError:
    """Check a refusal's signature, signer and request.

    Args:
        error: as the call raised it.
        directory: the snapshot to check under.
        digests: what it may name: the message's digest, or the SHA-256 of its bytes.
        now: milliseconds.
        provider: the system that may refuse beside a broker.

    Returns:
        The refusal as it was signed, `verified`; or the error as it came, with the reason in `unverified`.
    """
    if error.refusal is None:
        return error
    try:
        record = signing_record(directory.state, error.refusal, now)
        refusal = read_refusal(error.refusal)
    except CoreError as problem:
        return _unverified(error, str(problem))
    problem_text = _mismatch(refusal, record, digests, provider)
    if problem_text:
        return _unverified(error, problem_text)
    # What was signed counts, not what the broker wrote beside it.
    return RefusedError(
        refusal.reason,
        code=refusal.code,
        check=refusal.check,
        refuser=refusal.refuser,
        refusal=error.refusal,
        verified=True,
    )


def knows_signer(directory: Directory, envelope: Envelope) -> bool:
    """Whether the key that signed is in the directory; where it is not, the mirror may only be old."""
    return envelope.key_id in directory.state.keys


def refused_size(error: RefusedError) -> int:
    """The size of the directory that a verified refusal was decided under."""
    if not error.verified or error.refusal is None:
        return 0
    return read_refusal(error.refusal).directory_size


def _mismatch(refusal: Refusal, record: KeyRecord, digests: frozenset[bytes], provider: Party | None) -> str:
    if record.role != Role.ROLE_BROKER and record.party != provider:
        return f"{record.party} is neither a broker nor the provider"
    if refusal.refuser != str(record.party):
        return f"signed by {record.party}, but in the name of another"
    if refusal.request_digest not in digests:
        return "it refuses another message"
    return ""


def _unverified(error: RefusedError, why: str) -> RefusedError:
    return RefusedError(error.reason, code=error.code, label=error.label, refusal=error.refusal, unverified=why)
