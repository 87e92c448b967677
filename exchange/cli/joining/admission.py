"""The two files that a new party and its parent exchange: the key request, and the admission that answers it.

Both are JSON of a fixed form. Whoever reads one trusts nothing in it: a request proves the possession of its keys, and
an admission fits the keys at home; a person compares the fingerprint (DESIGN section 3).
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from exchange.cli.frame.errors import CommandError, ExitCode
from exchange.cli.frame.times import DAY, SECOND, day_of
from exchange.core.entries import signing_key_statement
from exchange.core.errors import CoreError, DecodeError, SignatureError
from exchange.core.key_rules import possession_statement
from exchange.core.keys import Signer, is_signed, key_id, signing_key
from exchange.core.lifetimes import HEAD_START, key_lifetime
from exchange.core.names import Party
from exchange.core.wire import decode, encode
from exchange.home import Home, HomeError
from exchange.transport import PeerError, certificate_party
from exchange.v1.directory_pb2 import Key, KeyStatement, Role, Suite

REQUEST_FORMAT = "exchange.v1/key-request"
ADMISSION_FORMAT = "exchange.v1/admission"
MAX_FILE = 64 * 1024

ROLES: Mapping[str, Role.ValueType] = MappingProxyType(
    {
        "department": Role.ROLE_DEPARTMENT,
        "coordinator": Role.ROLE_COORDINATOR,
        "auditor": Role.ROLE_AUDITOR,
        "system": Role.ROLE_SYSTEM,
        "head": Role.ROLE_HEAD,
        "steward": Role.ROLE_STEWARD,
    }
)

BELOW_A_DEPARTMENT = frozenset({"system", "head", "steward"})
"""Roles whose names lie below a department, which admits them."""


class AdmissionError(CommandError):
    """A key request or an admission is not what it must be."""

    def __init__(self, message: str, hint: str = "", exit_code: int = ExitCode.REFUSED) -> None:
        super().__init__(message, hint, exit_code)


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """What a new party asks its parent to sign; everything in it is checked.

    Args:
        party: whose key; role: one of `ROLES`.
        statement: with proof of possession.
        key: as the statement has it.
        csr: PKCS #10, DER, with the party's name as its one URI.
    """

    party: Party
    role: str
    statement: KeyStatement
    key: Key
    csr: bytes

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the signing key, 32 bytes: what is read out by telephone."""
        return key_id(self.key.public_key)

    def encode(self) -> bytes:
        """The file's text."""
        return write_texts(
            REQUEST_FORMAT,
            party=str(self.party),
            role=self.role,
            key_statement=base64.b64encode(encode(self.statement)).decode(),
            csr=base64.b64encode(self.csr).decode(),
        )


@dataclass(frozen=True, slots=True)
class Admission:
    """What the parent gives back.

    Args:
        party: who is admitted.
        certificate: its TLS certificate and the authority's, PEM.
        trust: the text of the exchange's trust file.
    """

    party: Party
    certificate: bytes
    trust: str

    def encode(self) -> bytes:
        """The file's text."""
        certificate = self.certificate.decode()
        return write_texts(ADMISSION_FORMAT, party=str(self.party), certificate=certificate, trust=self.trust)


def role_of(party: Party, wanted: str = "") -> str:
    """The role that a name has: a system, a head of office or a steward lies below its department, all others do not.

    Raises:
        AdmissionError: the name cannot have that role.
    """
    role = wanted or ("system" if party.is_system else "department")
    if party.is_exchange or role not in ROLES or (role in BELOW_A_DEPARTMENT) != party.is_system:
        raise AdmissionError(
            f"{party} cannot have the role {role}",
            "a system is exchange://DOMAIN/DEPARTMENT/SYSTEM, a head or steward likewise, every other party exchange://DOMAIN/NAME",
            ExitCode.USAGE,
        )
    return role


def new_key_request(
    party: Party, role: str, signer: Signer, csr: bytes, now: int, predecessor: Signer | None = None
) -> KeyRequest:
    """Ask for a key to be signed and for a TLS certificate.

    Args:
        party: whose keys; role: one of `ROLES`.
        signer: holds the new signing key.
        csr: PKCS #10, DER, for the party's TLS key; see `Home.new_tls_request`.
        now: milliseconds.
        predecessor: the party's present key, which spares a later one its 72 hours; None where it is lost.
    """
    validity = (now - HEAD_START, now + key_lifetime(ROLES[role]))
    statement = signing_key_statement(
        party.domain, party, ROLES[role], signer, validity, csr=csr, predecessor=predecessor
    )
    return KeyRequest(party, role, statement, decode(Key, statement.statement), csr)


def read_key_request(data: bytes, now: int) -> KeyRequest:
    """Read a key request, and check every claim in it.

    Args:
        data: the file; now: milliseconds.

    Raises:
        AdmissionError: the text names the part that does not hold.
    """
    values = read_texts(data, REQUEST_FORMAT, "a key request", ("party", "role", "key_statement", "csr"))
    statement, csr = base64_of(values, "key_statement"), base64_of(values, "csr")
    return key_request_of(values["party"], values["role"], statement, csr, now)


def key_request_of(name: str, role: str, key_statement: bytes, csr: bytes, now: int) -> KeyRequest:
    """A key request out of its parts, with every claim in it checked.

    Args:
        name: the party's; role: one of `ROLES`.
        key_statement: a serialised KeyStatement; csr: PKCS #10, DER.
        now: milliseconds.

    Raises:
        AdmissionError: the text names the part that does not hold.
    """
    try:
        party = Party.parse(name)
        statement = decode(KeyStatement, key_statement, MAX_FILE)
        key = decode(Key, statement.statement, MAX_FILE)
    except CoreError as error:
        raise AdmissionError(f"the key request cannot be read: {error}") from error
    request = KeyRequest(party, role_of(party, role), statement, key, csr)
    _check_key(request, now)
    _check_certificate_request(request)
    return request


def read_admission(data: bytes) -> Admission:
    """Read an admission; whether it fits a home is for `check_certificate` to say.

    Raises:
        AdmissionError: not an admission.
    """
    values = read_texts(data, ADMISSION_FORMAT, "an admission", ("party", "certificate", "trust"))
    try:
        party = Party.parse(values["party"])
    except CoreError as error:
        raise AdmissionError(f"the admission cannot be read: {error}") from error
    return Admission(party, values["certificate"].encode(), values["trust"])


def check_certificate(admission: Admission, authority: str, public_key: ec.EllipticCurvePublicKey, now: int) -> None:
    """Check that a certificate is the authority's, for this name and this TLS key, and valid.

    Args:
        authority: certificates of the TLS authority, PEM, out of the trust file.
        public_key: of the party's own TLS key; now: milliseconds.

    Raises:
        AdmissionError: the text says what does not fit.
    """
    try:
        named = certificate_party(admission.certificate)
        certificate = x509.load_pem_x509_certificate(admission.certificate)
        issuers = x509.load_pem_x509_certificates(authority.encode())
    except (PeerError, ValueError) as error:
        raise AdmissionError(f"the certificate cannot be read: {error}") from error
    if named != admission.party:
        raise AdmissionError(f"the certificate is of {named}, not of {admission.party}")
    if _spki(certificate.public_key()) != _spki(public_key):
        raise AdmissionError(
            "the certificate is for another TLS key than the one in this home",
            "send this home's own request.json, and install what comes back for it; a home that has been renewed"
            " since makes another request with `exchange key rotate`",
        )
    if not any(_is_issued_by(certificate, issuer) for issuer in issuers):
        raise AdmissionError(
            "the certificate is not signed by the exchange's TLS authority", exit_code=ExitCode.UNTRUSTED
        )
    moment = datetime.fromtimestamp(now / SECOND, UTC)
    if not certificate.not_valid_before_utc <= moment <= certificate.not_valid_after_utc:
        raise AdmissionError("the certificate is not valid now", "check this machine's clock", ExitCode.UNCHECKED)


def tls_public_key(home: Home) -> ec.EllipticCurvePublicKey:
    """The public half of a home's TLS key.

    Raises:
        HomeError: none here, or of another kind.
    """
    key = home.private_key("tls")
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise HomeError(f"{home.keys / 'tls.pem'} is not a P-256 key")
    return key.public_key()


def certificate_end(certificate: bytes) -> int:
    """When the first certificate of a PEM file expires, milliseconds."""
    return int(x509.load_pem_x509_certificate(certificate).not_valid_after_utc.timestamp() * SECOND)


def _check_key(request: KeyRequest, now: int) -> None:
    key = request.key
    if key.party != str(request.party) or key.role != ROLES[request.role]:
        raise AdmissionError(f"the key statement is not of {request.party} as {request.role}")
    if key.suite != Suite.SUITE_ECDSA_P256_SHA256:
        raise AdmissionError("the key is not a signing key (ECDSA P-256)")
    try:
        proof = possession_statement(request.party.domain, request.statement.statement)
        proven = is_signed(key.public_key, proof, request.statement.possession)
    except SignatureError as error:
        raise AdmissionError(f"the key cannot be used: {error}") from error
    if not proven:
        raise AdmissionError("the proof of possession does not verify: whoever made this does not hold the key")
    longest = key_lifetime(ROLES[request.role]) + HEAD_START
    if not 0 < key.not_after - key.not_before <= longest:
        raise AdmissionError(f"the key's validity is not 1 to {longest // DAY} days")
    if not key.not_before <= now + HEAD_START or key.not_after <= now:
        raise AdmissionError(
            f"the key is valid from {day_of(key.not_before)} until {day_of(key.not_after)}, and not now",
            "check the clocks, or make a new home",
        )


def _check_certificate_request(request: KeyRequest) -> None:
    if hashlib.sha256(request.csr).digest() != request.statement.csr_sha256:
        raise AdmissionError("the certificate request is not the one that the key statement names")
    try:
        csr = x509.load_der_x509_csr(request.csr)
        signed, public_key, extensions = csr.is_signature_valid, csr.public_key(), tuple(csr.extensions)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise AdmissionError("the certificate request cannot be read as PKCS #10") from error
    if not signed:
        raise AdmissionError("the certificate request's signature does not verify")
    _check_tls_key(public_key, request.key.public_key)
    names = [item.value for item in extensions]
    wanted = [x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(request.party))])]
    # A certificate names one party, and nothing that the authority did not think of.
    if names != wanted or len(csr.subject.rdns):
        raise AdmissionError(f"the certificate request must name {request.party} as its one URI, and nothing else")


def _check_tls_key(public_key: object, signing: bytes) -> None:
    try:
        signing_key(_spki(public_key))
    except SignatureError as error:
        raise AdmissionError(f"the TLS key cannot be used: {error}") from error
    if _spki(public_key) == signing:
        raise AdmissionError("the TLS key must not be the signing key")


def _is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _spki(public_key: object) -> bytes:
    encoder = getattr(public_key, "public_bytes")  # noqa: B009 - every kind of key has it; signing_key() judges the kind
    encoded: bytes = encoder(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded


def write_texts(format: str, **values: str) -> bytes:
    """A file of named texts, JSON; `read_texts` reads it back."""
    return (json.dumps({"format": format, **values}, indent=2) + "\n").encode()


def read_texts(data: bytes, format: str, what: str, keys: tuple[str, ...], most: int = MAX_FILE) -> dict[str, str]:
    """Read a JSON object with exactly these keys, each once, and each a text.

    Args:
        data: the file; format: the value of `format` in it; what: it is, for errors.
        keys: beside `format`; most: bytes that the file may have.

    Raises:
        AdmissionError: it is none.
    """
    if len(data) > most:
        raise AdmissionError(f"the file is too long for {what}", exit_code=ExitCode.USAGE)
    try:
        values = json.loads(data, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise AdmissionError(f"the file is not {what}: {error}", exit_code=ExitCode.USAGE) from error
    if not isinstance(values, dict) or values.get("format") != format:
        raise AdmissionError(f"the file is not {what}", exit_code=ExitCode.USAGE)
    if set(values) != {"format", *keys} or not all(isinstance(value, str) for value in values.values()):
        text = f"{what} has exactly these texts: format, {', '.join(keys)}"
        raise AdmissionError(text, exit_code=ExitCode.USAGE)
    return values


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise DecodeError("a name occurs twice")
    return values


def base64_of(values: Mapping[str, str], name: str) -> bytes:
    """A value that is Base64, in its one form.

    Raises:
        AdmissionError: it is not.
    """
    try:
        data = base64.b64decode(values[name], validate=True)
    except (binascii.Error, ValueError) as error:
        raise AdmissionError(f"{name}: not Base64") from error
    if base64.b64encode(data).decode() != values[name]:
        raise AdmissionError(f"{name}: not Base64 in its one form")
    return data
