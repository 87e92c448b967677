"""The renewal of a TLS certificate: what its signing key says, and whether that holds (DESIGN section 3)."""

from exchange.core.envelope import pae, prefixed
from exchange.core.errors import CoreError
from exchange.core.keys import Signer, is_signed, key_id
from exchange.core.lifetimes import HEAD_START, utc
from exchange.core.names import Party
from exchange.core.state import KeyRecord, State, is_signing
from exchange.core.wire import MAX_TIME
from exchange.v1.log_pb2 import RenewRequest

RENEWAL = "exchange.v1/renewal"


class RenewalError(CoreError):
    """A certificate cannot be renewed as asked; the text says why, and what to do."""


def renewal_statement(origin: str, request: RenewRequest) -> bytes:
    """What the signing key signs: PAE("exchange.v1/renewal", uint16 length ‖ origin ‖ key_id ‖ uint64 time ‖ csr)."""
    return pae(RENEWAL, prefixed(origin) + request.key_id + request.time.to_bytes(8, "big") + request.csr)


def renewal_request(origin: str, signer: Signer, csr: bytes, now: int) -> RenewRequest:
    """Ask for a new certificate.

    Args:
        origin: the exchange's name.
        signer: the party's signing key, which the certificate will be good for.
        csr: PKCS #10, DER; now: milliseconds.
    """
    request = RenewRequest(csr=csr, key_id=key_id(signer.public_key), time=now)
    request.signature = signer.sign(renewal_statement(origin, request))
    return request


def check_renewal(state: State, peer: Party, request: RenewRequest, now: int) -> KeyRecord:
    """Whose key asks, and that it stands.

    Args:
        state: the directory's.
        peer: whom TLS authenticated.
        request: as it came; now: milliseconds.

    Returns:
        The record of the key that the certificate will be good for.

    Raises:
        RenewalError: unknown, another party's, revoked or expired; or the two clocks are too far apart.
        SignatureError: the key cannot be used.
    """
    record = state.keys.get(request.key_id)
    if record is None or not is_signing(record) or record.party != peer:
        raise RenewalError(f"{peer} has no such signing key in the directory")
    if request.time > MAX_TIME or not is_signed(
        record.public_key, renewal_statement(state.origin, request), request.signature
    ):
        raise RenewalError("the renewal is not signed by the key that it names")
    # A revoked key cannot renew itself.
    if record.revoked_index is not None:
        raise RenewalError(f"this key of {peer} is revoked: no certificate is issued for it")
    if abs(request.time - now) > HEAD_START:
        raise RenewalError(
            f"the clock of {peer} says {utc(request.time)}, and this broker's {utc(now)}: set the clock that is"
            " wrong, and renew again"
        )
    if now > record.not_after:
        raise RenewalError(f"this key of {peer} has expired: no certificate is issued for it")
    return record
