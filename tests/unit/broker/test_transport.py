import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from exchange.broker.authority import found_authority
from exchange.core.wire import MAX_FRAME
from exchange.transport import (
    CHANNEL_OPTIONS,
    JOIN_OPTIONS,
    MAX_JOIN,
    SERVER_OPTIONS,
    PeerError,
    TlsIdentity,
    certificate_party,
    check_tls,
    peer_key,
    peer_party,
)
from tests.certificates import AUTHORITY_KEY, KEY, KEY_ID, NOW, csr, uri
from tests.world import BROKER, ORIGIN, REGISTRY


def test_a_certificate_names_the_party_that_tls_shows() -> None:
    authority = found_authority(AUTHORITY_KEY, ORIGIN, NOW)
    pem = authority.issue(csr([uri(BROKER)]), BROKER, KEY_ID, NOW, ["localhost"])
    shown = {"ssl_tls_version": [b"TLSv1.3"], "peer_uri": [str(BROKER).encode()]}
    assert certificate_party(pem) == peer_party(shown) == BROKER
    assert peer_key({"x509_pem_cert": [pem]}) == KEY_ID


def of_subject(*serials: str) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.SERIAL_NUMBER, serial) for serial in serials])
    builder = x509.CertificateBuilder(name, name, KEY.public_key(), 1, NOW, NOW + datetime.timedelta(days=1))
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.PEM)


@pytest.mark.parametrize(
    "shown",
    [
        {},
        {"x509_pem_cert": [b"rubbish"]},
        {"x509_pem_cert": [of_subject()]},
        {"x509_pem_cert": [of_subject("ab")]},
        {"x509_pem_cert": [of_subject("x" * 64)]},
        {"x509_pem_cert": [of_subject("ab" * 32, "cd" * 32)]},
        {"x509_pem_cert": [of_subject("ab" * 32)] * 2},
    ],
    ids=["nothing", "rubbish", "no serial number", "short", "no hex", "two", "two certificates"],
)
def test_a_certificate_that_does_not_say_which_key_it_came_with_is_refused(shown: dict[str, list[bytes]]) -> None:
    with pytest.raises(PeerError):
        peer_key(shown)


def self_signed(*names: x509.GeneralName) -> bytes:
    name = x509.Name([])
    builder = x509.CertificateBuilder(name, name, KEY.public_key(), 1, NOW, NOW + datetime.timedelta(days=1))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.PEM)


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"rubbish",
        self_signed(),
        self_signed(x509.DNSName("city.example")),
        self_signed(uri(REGISTRY), uri(BROKER)),
        self_signed(uri("https://city.example")),
    ],
    ids=["nothing", "rubbish", "no names", "a DNS name", "two URIs", "another URI"],
)
def test_a_certificate_that_names_no_party_is_refused(pem: bytes) -> None:
    with pytest.raises(PeerError):
        certificate_party(pem)


def test_an_identity_does_not_show_its_key() -> None:
    assert "secret" not in repr(TlsIdentity(b"secret", b"certificate", b"authority"))


@pytest.mark.parametrize("options", [CHANNEL_OPTIONS, SERVER_OPTIONS])
def test_messages_are_bounded_both_ways_and_grpc_retries_nothing(options: tuple[tuple[str, int], ...]) -> None:
    settings = dict(options)
    assert settings["grpc.max_receive_message_length"] == settings["grpc.max_send_message_length"] == MAX_FRAME
    assert settings["grpc.enable_retries"] == 0


@pytest.mark.parametrize("version", [(b"TLSv1.2",), (), (b"TLSv1.3", b"TLSv1.2")])
def test_who_shows_no_certificate_still_speaks_the_newest_tls(version: tuple[bytes, ...]) -> None:
    with pytest.raises(PeerError, match=r"TLS 1\.3 is required"):
        check_tls({"ssl_tls_version": version})
    check_tls({"ssl_tls_version": (b"TLSv1.3",)})


def test_what_nobody_known_may_send_is_small_and_its_connections_end() -> None:
    options = dict(JOIN_OPTIONS)
    assert len(options) == len(JOIN_OPTIONS)
    assert options["grpc.max_receive_message_length"] == MAX_JOIN < MAX_FRAME
    for name in ("grpc.max_connection_idle_ms", "grpc.max_connection_age_ms", "grpc.server_handshake_timeout_ms"):
        assert 0 < options[name] <= 60_000
    assert options["grpc.so_reuseport"] == 0
