"""How a home's keys are succeeded: the new one is made beside the old one, and takes its place in one step at the end.

Whatever moment the power fails at, a home holds a key that works: the old one stays in use until what the new one needs
is durable, and the same command again goes on from there.

    keys/signing-next.pem   until the directory holds it, and it is in force; then it becomes keys/signing.pem
    keys/tls-next.pem       until tls.pem is its certificate; then it becomes keys/tls.pem
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec

from exchange.core.errors import CoreError
from exchange.core.expiry import Certificate, Kind
from exchange.core.keys import EcdsaSigner, key_id
from exchange.core.lifetimes import HEAD_START, TLS_RENEWAL
from exchange.core.names import Party
from exchange.core.state import State
from exchange.home import NEXT, Home, HomeError, PrivateKey
from exchange.transport import PeerError, certificate_party

_SECOND = 1000
_UNTRUSTED = 5


def next_signer(home: Home) -> EcdsaSigner | None:
    """The signing key that waits to take the present one's place; None without one.

    Raises:
        HomeError: it cannot be read.
    """
    return _signer(home, f"signing{NEXT}") if _exists(home, f"signing{NEXT}") else None


def make_next_signer(home: Home) -> EcdsaSigner:
    """The signing key that waits; made here if there is none.

    Raises:
        HomeError: it cannot be written or read.
    """
    if not _exists(home, f"signing{NEXT}"):
        home.new_private_key(f"signing{NEXT}")
    return _signer(home, f"signing{NEXT}")


def discard_next_signer(home: Home) -> None:
    """Give up the signing key that waits: the directory refused it, or holds it revoked."""
    (home.keys / f"signing{NEXT}.pem").unlink(missing_ok=True)


def adopt_signer(home: Home, state: State, now: int) -> bool:
    """Put the waiting signing key in its place once it is in force; where it is revoked, give it up.

    Args:
        state: the directory's; now: milliseconds.

    Returns:
        Whether the home signs with another key from here on.

    Raises:
        HomeError: a key cannot be read or moved.
    """
    following = next_signer(home)
    record = state.keys.get(key_id(following.public_key)) if following is not None else None
    if record is None:
        return False
    if record.revoked_index is not None:
        discard_next_signer(home)
        return False
    # Without any other key there is nothing to go on with meanwhile.
    if not record.is_valid(now) and _exists(home, "signing"):
        return False
    home.adopt_key("signing")
    return True


def next_tls_request(home: Home) -> bytes:
    """A certificate request of a TLS key that is to take the present one's place, made here if there is none.

    Raises:
        HomeError: the key cannot be written or read.
    """
    name = f"tls{NEXT}"
    return home.tls_request(home.private_key(name) if _exists(home, name) else home.new_private_key(name))


def install_certificate(home: Home, pem: bytes, now: int) -> None:
    """Put a renewed certificate here, and the TLS key that it is for.

    Args:
        home: of the party.
        pem: the certificate, and its authority's; now: milliseconds.

    Raises:
        HomeError: it is not this party's, for no TLS key of this home, not of the exchange's authority, or not valid
            now; nothing has changed then.
    """
    key = _check(home, pem, now)
    # The commit point: `Home.tls_identity` goes on from here.
    home.write("tls.pem", pem)
    if key == f"tls{NEXT}":
        home.adopt_key("tls")


def is_for(pem: bytes, key: PrivateKey) -> bool:
    """Whether a certificate, PEM, is for the public half of a key; False too where it cannot be read."""
    try:
        return x509.load_pem_x509_certificate(pem).public_key() == key.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False


def certificate_end(home: Home) -> int:
    """When the home's TLS certificate ends, milliseconds.

    Raises:
        HomeError: there is none, or it cannot be read.
    """
    return end_of(home.certificate(), str(home.path / "tls.pem"))


def end_of(pem: bytes, where: str) -> int:
    """When the first certificate of a PEM file ends, milliseconds.

    Raises:
        HomeError: it cannot be read; `where` is named.
    """
    try:
        return int(x509.load_pem_x509_certificate(pem).not_valid_after_utc.timestamp() * _SECOND)
    except ValueError as error:
        raise HomeError(f"{where} is not a certificate") from error


def is_certificate_due(home: Home, now: int) -> bool:
    """Whether the TLS certificate is in the last third of its life.

    Raises:
        HomeError: there is none, or it cannot be read.
    """
    return certificate_end(home) - now <= TLS_RENEWAL


def certificates_of(home: Home) -> tuple[Certificate, ...]:
    """The certificates at home that can expire: the party's, and the exchange's TLS authority.

    A broker and a system have theirs renewed by the service that runs from the home.

    Raises:
        HomeError: one cannot be read.
    """
    found = []
    if (home.path / "tls.pem").exists():
        renews = home.role in {"broker", "system"}
        found.append(Certificate(Kind.TLS_CERTIFICATE, home.party, certificate_end(home), renews))
    if (home.path / "trust.toml").exists():
        end = end_of(home.trust.tls_ca.encode(), "the TLS authority in trust.toml")
        found.append(Certificate(Kind.TLS_AUTHORITY, Party(home.party.domain), end, renews=False))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells that a home's TLS certificate or signing key was replaced, by whomever."""

    certificate: tuple[int, int]
    signing: tuple[int, int]

    @classmethod
    def of(cls, home: Home) -> "Stamp":
        """As the files are now."""
        return cls(_stamp(home, "tls.pem"), _stamp(home, "keys/signing.pem"))


def _stamp(home: Home, name: str) -> tuple[int, int]:
    try:
        found = (home.path / name).stat()
    except OSError:
        return 0, 0
    return found.st_ino, found.st_mtime_ns


def _exists(home: Home, name: str) -> bool:
    return (home.keys / f"{name}.pem").exists()


def _signer(home: Home, name: str) -> EcdsaSigner:
    key = home.private_key(name)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise HomeError(f"{home.keys / name}.pem is not a P-256 key")
    return EcdsaSigner.of(key)


def _check(home: Home, pem: bytes, now: int) -> str:
    """The name of the TLS key that a certificate is for, if everything fits."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        issuers = x509.load_pem_x509_certificates(home.trust.tls_ca.encode())
        named = certificate_party(pem)
    except (PeerError, CoreError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise HomeError(f"the renewed certificate cannot be read: {error}") from error
    if named != home.party:
        raise HomeError(f"the renewed certificate is of {named}, not of {home.party}")
    if not any(_is_issued_by(certificate, issuer) for issuer in issuers):
        text = "the renewed certificate is not signed by the exchange's TLS authority"
        raise HomeError(text, "nothing was changed", _UNTRUSTED)
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not begins.timestamp() * _SECOND - HEAD_START <= now <= ends.timestamp() * _SECOND:
        raise HomeError(
            f"the renewed certificate is valid from {begins:%Y-%m-%d %H:%M} to {ends:%Y-%m-%d %H:%M} UTC, and this"
            f" machine's clock says {datetime.fromtimestamp(now / _SECOND, UTC):%Y-%m-%d %H:%M} UTC",
            "set this machine's clock, and renew again; nothing was changed",
        )
    return _key_of(home, pem)


def _key_of(home: Home, pem: bytes) -> str:
    for name in (f"tls{NEXT}", "tls"):
        if _exists(home, name) and is_for(pem, home.private_key(name)):
            return name
    raise HomeError("the renewed certificate is for another TLS key than those in this home", "nothing was changed")


def _is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
