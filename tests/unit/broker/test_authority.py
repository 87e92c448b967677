"""Certificate requests are judged strictly; a certificate says one name, and serves only where it is meant to."""

import datetime
from collections.abc import Sequence

import pytest
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from exchange.broker.authority import AUTHORITY_DAYS, CERTIFICATE_DAYS, Authority, found_authority, read_csr
from exchange.core.errors import DecodeError
from exchange.core.names import Party
from exchange.transport import certificate_key, certificate_party
from tests.certificates import AUTHORITY_KEY, KEY, KEY_ID, NOW, RSA_KEY, csr, uri
from tests.world import BROKER, MARRIAGE, ORIGIN, REGISTRY


@pytest.fixture
def authority() -> Authority:
    return found_authority(AUTHORITY_KEY, ORIGIN, NOW)


def issued(authority: Authority, party: Party = REGISTRY, hosts: Sequence[str] = ()) -> x509.Certificate:
    chain = x509.load_pem_x509_certificates(authority.issue(csr([uri(party)]), party, KEY_ID, NOW, hosts))
    assert chain[1:] == [authority.certificate]
    return chain[0]


def names_of(certificate: x509.Certificate) -> list[x509.GeneralName]:
    return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)


def usages_of(certificate: x509.Certificate) -> set[x509.ObjectIdentifier]:
    return set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def with_another_curve(data: bytes) -> bytes:
    """The request with prime192v1 in place of P-256: a curve that nobody here can load."""
    assert data.count(bytes.fromhex("06082a8648ce3d030107")) == 1
    return data.replace(bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06082a8648ce3d030101"))


BAD_REQUESTS: dict[str, bytes] = {
    "no names": csr([]),
    "a common name only": csr([], common_name=str(REGISTRY)),
    "a DNS name": csr([x509.DNSName("registry.city.example")]),
    "a DNS name beside the URI": csr([uri(REGISTRY), x509.DNSName("localhost")]),
    "an address beside the URI": csr([uri(REGISTRY), x509.RFC822Name("a@city.example")]),
    "another party": csr([uri(MARRIAGE)]),
    "its department": csr([uri(REGISTRY.parent)]),
    "a party of another exchange": csr([uri("exchange://other.example/population/registry")]),
    "a foreign URI": csr([uri("https://city.example/population/registry")]),
    "two URIs": csr([uri(REGISTRY), uri(MARRIAGE)]),
    "the same URI twice": csr([uri(REGISTRY), uri(REGISTRY)]),
    "an RSA key": csr(key=RSA_KEY),
    "an Ed25519 key": csr(key=ed25519.Ed25519PrivateKey.generate()),
    "a P-384 key": csr(key=ec.generate_private_key(ec.SECP384R1())),
    "a curve that nobody knows": with_another_curve(csr()),
    "a broken signature": csr()[:-1] + bytes([csr()[-1] ^ 1]),
    "another request's signature": csr()[:-64] + csr(common_name="x")[-64:],
    "nothing": b"",
    "no DER": b"-----BEGIN CERTIFICATE REQUEST-----",
    "half of it": csr()[: len(csr()) // 2],
    "more than it": csr() + b"\0",
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_a_request_that_is_not_the_partys_own_is_refused(authority: Authority, case: str) -> None:
    with pytest.raises(DecodeError):
        read_csr(BAD_REQUESTS[case], REGISTRY)
    with pytest.raises(DecodeError):
        authority.issue(BAD_REQUESTS[case], REGISTRY, KEY_ID, NOW)


@pytest.mark.parametrize("error", [UnsupportedAlgorithm, x509.InvalidVersion, x509.UnsupportedGeneralNameType])
def test_a_request_that_cryptography_does_not_know_is_malformed(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fail(_data: bytes) -> None:
        raise error("unknown", 7) if error is x509.InvalidVersion else error("unknown")

    monkeypatch.setattr(x509, "load_der_x509_csr", fail)
    with pytest.raises(DecodeError, match="cannot be read"):
        read_csr(csr(), REGISTRY)


def test_a_request_that_is_the_partys_own_is_taken() -> None:
    assert read_csr(csr(common_name="people may write here what they like"), REGISTRY)


@pytest.mark.parametrize(
    "party", [REGISTRY, REGISTRY.parent, Party(ORIGIN), Party(ORIGIN, "d" * 63, "s" * 63)], ids=str
)
def test_a_partys_certificate_names_it_alone_and_serves_no_one(authority: Authority, party: Party) -> None:
    certificate = issued(authority, party)
    assert names_of(certificate) == [uri(party)]
    assert usages_of(certificate) == {ExtendedKeyUsageOID.CLIENT_AUTH}
    assert certificate_party(certificate.public_bytes(Encoding.PEM)) == party
    assert certificate_key(certificate.public_bytes(Encoding.PEM)) == KEY_ID
    assert certificate.public_key() == KEY.public_key()


def test_a_brokers_certificate_has_one_uri_beside_its_hosts(authority: Authority) -> None:
    certificate = issued(authority, BROKER, ["broker.city.example", "127.0.0.1", "::1"])
    names = names_of(certificate)
    assert [name for name in names if isinstance(name, x509.UniformResourceIdentifier)] == [uri(BROKER)]
    assert [str(name.value) for name in names[1:]] == ["broker.city.example", "127.0.0.1", "::1"]
    assert usages_of(certificate) == {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}


def test_only_the_key_is_taken_from_a_request(authority: Authority) -> None:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    builder = builder.add_extension(x509.SubjectAlternativeName([uri(REGISTRY)]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    request = builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)
    certificate = x509.load_pem_x509_certificate(authority.issue(request, REGISTRY, KEY_ID, NOW))
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert usages_of(certificate) == {ExtendedKeyUsageOID.CLIENT_AUTH}


def test_a_certificate_verifies_against_its_authority_and_is_short_lived(authority: Authority) -> None:
    certificate = issued(authority)
    certificate.verify_directly_issued_by(authority.certificate)
    assert certificate.not_valid_before_utc <= NOW
    assert certificate.not_valid_after_utc - NOW == datetime.timedelta(days=CERTIFICATE_DAYS)
    assert authority.certificate.not_valid_after_utc - NOW == datetime.timedelta(days=AUTHORITY_DAYS)


def test_the_authority_signs_leaves_and_nothing_below_them(authority: Authority) -> None:
    constraints = authority.certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.value.ca, constraints.value.path_length, constraints.critical) == (True, 0, True)
    usage = authority.certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.key_cert_sign, usage.digital_signature) == (True, False)


def test_no_two_certificates_have_one_serial_number(authority: Authority) -> None:
    assert issued(authority).serial_number != issued(authority).serial_number
