import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding

from exchange.cli.frame.times import DAY, YEAR
from exchange.cli.joining.admission import (
    Admission,
    AdmissionError,
    KeyRequest,
    new_key_request,
    read_admission,
    read_key_request,
    role_of,
)
from exchange.core.entries import signing_key_statement
from exchange.core.keys import EcdsaSigner
from exchange.core.names import Party
from exchange.core.wire import decode, encode
from exchange.home import Home
from exchange.v1.directory_pb2 import Key, KeyStatement, Role

NOW = 1_800_000_000_000
HEALTH = Party("city.example", "health")
CLINIC = Party("city.example", "health", "clinic")
POLICE = Party("city.example", "police")


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


SIGNING, TLS, OTHER = new_key(), new_key(), new_key()
SIGNER = EcdsaSigner.of(SIGNING)


def certificate_request(key: Any, names: list[x509.GeneralName], subject: str = "", *more: x509.ExtensionType) -> bytes:
    attributes = [x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)] if subject else []
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(attributes))
    for extension in ([x509.SubjectAlternativeName(names)] if names else []) + list(more):
        builder = builder.add_extension(extension, critical=False)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(Encoding.DER)


def uri(party: Party) -> x509.GeneralName:
    return x509.UniformResourceIdentifier(str(party))


def valid(party: Party = HEALTH, role: str = "department") -> KeyRequest:
    return new_key_request(party, role, SIGNER, certificate_request(TLS, [uri(party)]), NOW)


def with_csr(csr: bytes) -> KeyRequest:
    """A request whose statement names this certificate request: only the certificate request itself is wrong."""
    return new_key_request(HEALTH, "department", SIGNER, csr, NOW)


def with_key(party: Party = HEALTH, role: Role.ValueType = Role.ROLE_DEPARTMENT, **changes: int) -> KeyRequest:
    """A request whose statement says something else than it should, with a proof of possession that holds."""
    validity = (changes.get("not_before", NOW), changes.get("not_after", NOW + YEAR))
    csr = certificate_request(TLS, [uri(HEALTH)])
    statement = signing_key_statement(party.domain, party, role, SIGNER, validity, csr=csr)
    return KeyRequest(HEALTH, "department", statement, decode(Key, statement.statement), csr)


def with_possession(possession: bytes) -> KeyRequest:
    request = valid()
    statement = KeyStatement()
    statement.CopyFrom(request.statement)
    statement.possession = possession
    return replace(request, statement=statement)


def edited(**changes: Any) -> bytes:
    values = json.loads(valid().encode()) | changes
    return json.dumps({name: value for name, value in values.items() if value is not None}).encode()


@pytest.mark.parametrize(("party", "role"), [(HEALTH, "department"), (CLINIC, "system"), (POLICE, "auditor")])
def test_a_request_is_read_back_the_same(party: Party, role: str) -> None:
    request = valid(party, role)
    assert read_key_request(request.encode(), NOW) == request


@pytest.mark.parametrize(("role", "years"), [("department", 5), ("coordinator", 1), ("auditor", 1)])
def test_a_department_key_is_valid_for_five_years_and_others_for_one(role: str, years: int) -> None:
    assert valid(HEALTH, role).key.not_after == NOW + years * YEAR


def test_the_request_of_a_home_can_be_read(tmp_path: Path) -> None:
    home = Home.create(tmp_path / "home", HEALTH, "department")
    home.new_private_key("signing")
    request = new_key_request(HEALTH, "department", home.signer(), home.new_tls_request(), NOW)
    assert read_key_request(request.encode(), NOW).party == HEALTH


WRONG_REQUESTS: dict[str, tuple[Callable[[], bytes], str]] = {
    "not JSON": (lambda: b"{", "not a key request"),
    "not Unicode": (lambda: b"\xff\xfe\xff", "not a key request"),
    "nested without end": (lambda: b"[" * 60_000, "not a key request"),
    "a list": (lambda: b"[]", "not a key request"),
    "too long": (lambda: b" " * 65_537, "too long"),
    "a key twice": (lambda: edited()[:-1] + b', "party": "x"}', "a name occurs twice"),
    "an admission": (lambda: Admission(HEALTH, b"", "").encode(), "not a key request"),
    "an unknown key": (lambda: edited(more="x"), "exactly these texts"),
    "a missing key": (lambda: edited(csr=None), "exactly these texts"),
    "a number": (lambda: edited(role=3), "exactly these texts"),
    "not Base64": (lambda: edited(csr="§"), "csr: not Base64"),
    "Base64 in another form": (lambda: edited(csr="QR=="), "not Base64 in its one form"),
    "a malformed name": (lambda: edited(party="health"), "not a party's name"),
    "a malformed statement": (lambda: edited(key_statement="AAAA"), "cannot be parsed"),
    "another party": (lambda: edited(party=str(POLICE)), f"not of {POLICE}"),
    "another role": (lambda: edited(role="auditor"), "not of exchange://city.example/health as auditor"),
    "an unknown role": (lambda: edited(role="root"), "cannot have the role root"),
    "a role that its name cannot have": (lambda: edited(role="system"), "cannot have the role system"),
    "a statement of another party": (lambda: with_key(POLICE).encode(), "not of exchange://city.example/health"),
    "a statement of another role": (lambda: with_key(role=Role.ROLE_BROKER).encode(), "as department"),
    "a key without end": (lambda: with_key(not_after=NOW + 20 * YEAR).encode(), "validity is not 1 to 1825 days"),
    "a validity that runs backwards": (lambda: with_key(not_after=NOW - DAY).encode(), "validity is not"),
    "an expired key": (lambda: with_key(not_before=NOW - YEAR, not_after=NOW - DAY).encode(), "and not now"),
    "a key of next year": (lambda: with_key(not_before=NOW + DAY).encode(), "and not now"),
    "no proof of possession": (lambda: with_possession(b"").encode(), "possession does not verify"),
    "somebody else's proof": (lambda: with_possession(EcdsaSigner.of(OTHER).sign(b"x")).encode(), "possession"),
    "a proof for another exchange": (
        lambda: with_possession(
            signing_key_statement("other.example", HEALTH, Role.ROLE_DEPARTMENT, SIGNER, (NOW, NOW + YEAR)).possession
        ).encode(),
        "possession",
    ),
    "another certificate request": (
        lambda: replace(valid(), csr=certificate_request(OTHER, [uri(HEALTH)])).encode(),
        "not the one that the key statement names",
    ),
    "no certificate request": (lambda: with_csr(b"").encode(), "not the one that the key statement names"),
    "not PKCS #10": (lambda: with_csr(b"x").encode(), "cannot be read as PKCS #10"),
    "a certificate request of another party": (
        lambda: with_csr(certificate_request(TLS, [uri(POLICE)])).encode(),
        "as its one URI",
    ),
    "two names": (lambda: with_csr(certificate_request(TLS, [uri(HEALTH), uri(POLICE)])).encode(), "as its one URI"),
    "a DNS name beside it": (
        lambda: with_csr(certificate_request(TLS, [uri(HEALTH), x509.DNSName("broker.city.example")])).encode(),
        "as its one URI",
    ),
    "no name": (lambda: with_csr(certificate_request(TLS, [])).encode(), "as its one URI"),
    "a common name": (lambda: with_csr(certificate_request(TLS, [uri(HEALTH)], "broker")).encode(), "as its one URI"),
    "an authority's rights": (
        lambda: with_csr(
            certificate_request(TLS, [uri(HEALTH)], "", x509.BasicConstraints(ca=True, path_length=None))
        ).encode(),
        "nothing else",
    ),
    "a broken signature": (
        lambda: with_csr(certificate_request(TLS, [uri(HEALTH)])[:-1] + b"\x00").encode(),
        "signature does not verify",
    ),
    "a TLS key of another kind": (
        lambda: with_csr(certificate_request(ed25519.Ed25519PrivateKey.generate(), [uri(HEALTH)])).encode(),
        "the TLS key cannot be used",
    ),
    "one key for both": (
        lambda: with_csr(certificate_request(SIGNING, [uri(HEALTH)])).encode(),
        "must not be the signing key",
    ),
}


@pytest.mark.parametrize("name", WRONG_REQUESTS)
def test_refuses_a_key_request_with(name: str) -> None:
    make, message = WRONG_REQUESTS[name]
    with pytest.raises(AdmissionError) as caught:
        read_key_request(make(), NOW)
    assert message in str(caught.value)


def test_no_single_changed_byte_of_a_request_passes() -> None:
    request = valid()
    for name in ("key_statement", "csr"):
        data = base64.b64decode(json.loads(request.encode())[name])
        for position in range(0, len(data), 7):
            altered = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
            with pytest.raises(AdmissionError):
                read_key_request(edited(**{name: base64.b64encode(altered).decode()}), NOW)


@pytest.mark.parametrize(
    ("party", "wanted"), [(HEALTH, "system"), (CLINIC, "department"), (HEALTH, "broker"), (Party("city.example"), "")]
)
def test_a_name_that_cannot_have_a_role_is_wrong_usage(party: Party, wanted: str) -> None:
    with pytest.raises(AdmissionError) as caught:
        role_of(party, wanted)
    assert caught.value.exit_code == 2


def test_a_role_follows_from_the_name() -> None:
    assert (role_of(HEALTH), role_of(CLINIC), role_of(HEALTH, "auditor")) == ("department", "system", "auditor")


def test_an_admission_is_read_back_the_same() -> None:
    admission = Admission(HEALTH, b"PEM", 'name = "city.example"\n')
    assert read_admission(admission.encode()) == admission


def test_the_statement_names_the_certificate_request() -> None:
    request = valid()
    assert request.statement.csr_sha256 == hashlib.sha256(request.csr).digest()
    assert encode(request.statement)
