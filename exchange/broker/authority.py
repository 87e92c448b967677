"""The TLS authority: it turns certificate requests into certificates. X.509 is for TLS only (DESIGN section 3)."""

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from exchange.core.errors import DecodeError
from exchange.core.lifetimes import DAY, TLS_AUTHORITY, TLS_CERTIFICATE
from exchange.core.names import Party

CERTIFICATE_DAYS = TLS_CERTIFICATE // DAY
AUTHORITY_DAYS = TLS_AUTHORITY // DAY
_BACKDATED = datetime.timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Authority:
    """The exchange's TLS authority: its key, and its own certificate."""

    private_key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> bytes:
        """Its certificate, PEM."""
        return self.certificate.public_bytes(Encoding.PEM)

    def issue(self, csr: bytes, party: Party, key: bytes, now: datetime.datetime, hosts: Sequence[str] = ()) -> bytes:
        """A certificate for a party, with the authority's behind it, PEM.

        Args:
            csr: PKCS #10, DER; only its key is taken from it.
            party: becomes the one URI name.
            key: id of the signing key that it comes with; once that is revoked, the certificate is good for nothing.
            now: aware.
            hosts: DNS names and addresses, for brokers alone.

        Raises:
            DecodeError: `read_csr` refuses the request.
        """
        request = read_csr(csr, party)
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(str(party))]
        names.extend(_host(host) for host in hosts)
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if hosts:
            usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
        builder = (
            _builder(request.public_key(), _subject(str(party), key.hex()), now, CERTIFICATE_DAYS)
            .issuer_name(self.certificate.subject)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        )
        certificate = builder.sign(self.private_key, hashes.SHA256())
        return certificate.public_bytes(Encoding.PEM) + self.pem


def found_authority(private_key: ec.EllipticCurvePrivateKey, name: str, now: datetime.datetime) -> Authority:
    """A new authority of the exchange `name`, valid ten years."""
    subject = _subject(f"{name} TLS authority")
    builder = (
        _builder(private_key.public_key(), subject, now, AUTHORITY_DAYS)
        .issuer_name(subject)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private_key.public_key()), critical=False)
        .add_extension(_AUTHORITY_USAGE, critical=True)
    )
    return Authority(private_key, builder.sign(private_key, hashes.SHA256()))


def read_csr(csr: bytes, party: Party) -> x509.CertificateSigningRequest:
    """Read a certificate request and check that it is a party's own.

    Raises:
        DecodeError: not PKCS #10, not signed by its own P-256 key, or its names are not just the party's URI.
    """
    try:
        request = x509.load_der_x509_csr(csr)
        signed = request.is_signature_valid
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        key = request.public_key()
    except Exception as error:
        # Of many kinds, and not all documented: an unknown key, curve, version, name, extension.
        raise DecodeError("the certificate request cannot be read, or names nobody") from error
    if not signed or not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise DecodeError("the certificate request is not signed by a P-256 key of its own")
    if list(names) != [x509.UniformResourceIdentifier(str(party))]:
        raise DecodeError(f"the certificate request must name {party} as its one URI, and nothing else")
    return request


_AUTHORITY_USAGE = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def _builder(key: object, subject: x509.Name, now: datetime.datetime, days: int) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key)  # type: ignore[arg-type]
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _subject(common_name: str, serial: str = "") -> x509.Name:
    # RFC 5280 bounds both at 64 characters; the common name is for people, nothing reads it.
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name[-64:])]
    if serial:
        attributes.append(x509.NameAttribute(NameOID.SERIAL_NUMBER, serial))
    return x509.Name(attributes)


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
