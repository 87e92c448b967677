"""gRPC between the parties: method names, mTLS, limits, and who the peer is (DESIGN section 8)."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import version
from typing import Any, Final

import grpc
from cryptography import x509
from cryptography.x509.oid import NameOID

from exchange.core.envelope import DIGEST
from exchange.core.errors import CoreError, DecodeError
from exchange.core.names import Party
from exchange.core.protocol import SILENT, Announcement, announcement, parse_announcement
from exchange.core.wire import MAX_FRAME

SUBMIT: Final = "/exchange.v1.RelayService/Submit"
ATTACH: Final = "/exchange.v1.GatewayService/Attach"
APPEND: Final = "/exchange.v1.DirectoryService/Append"
RENEW: Final = "/exchange.v1.DirectoryService/Renew"
DIRECTORY_SYNC: Final = "/exchange.v1.DirectoryService/Sync"
DIRECTORY_PROVE: Final = "/exchange.v1.DirectoryService/Prove"
DIRECTORY_COSIGNED: Final = "/exchange.v1.DirectoryService/Cosigned"
ACCESS_SYNC: Final = "/exchange.v1.LogService/Sync"
ACCESS_READ: Final = "/exchange.v1.LogService/Read"
ACCESS_SEARCH: Final = "/exchange.v1.LogService/Search"
ACCESS_PROVE: Final = "/exchange.v1.LogService/Prove"
ACCESS_COSIGNED: Final = "/exchange.v1.LogService/Cosigned"
INVITE: Final = "/exchange.v1.InvitationService/Invite"
PENDING: Final = "/exchange.v1.InvitationService/Pending"
REJECT: Final = "/exchange.v1.InvitationService/Reject"
JOIN: Final = "/exchange.v1.JoiningService/Join"
HEALTH_CHECK: Final = "/grpc.health.v1.Health/Check"

CERTIFIED_METHODS: Final = (
    *(SUBMIT, ATTACH, APPEND, RENEW, DIRECTORY_SYNC, DIRECTORY_PROVE, DIRECTORY_COSIGNED),
    *(ACCESS_SYNC, ACCESS_READ, ACCESS_SEARCH, ACCESS_PROVE, ACCESS_COSIGNED, INVITE, PENDING, REJECT, HEALTH_CHECK),
)
"""What a broker serves to those who have a certificate."""

TIME_METADATA: Final = "exchange-time"
"""Initial metadata of a health check's answer: the broker's clock, milliseconds in decimal."""

ERROR_DOMAIN: Final = "exchange.v1"
TLS_VERSION: Final = b"TLSv1.3"
MAX_METADATA: Final = 16 * 1024

VERSIONS: Final = "exchange-version"
"""The metadata in which each side of a call says what it is, and which versions of the protocol it speaks."""

VERSION_UNSUPPORTED: Final = "VERSION_UNSUPPORTED"
"""The reason of a refusal, to whoever speaks no version that the broker speaks."""

PACKAGE: Final = "department-exchange"

_SHARED = (
    ("grpc.max_receive_message_length", MAX_FRAME),
    ("grpc.max_send_message_length", MAX_FRAME),
    # A signed refusal of 4 KiB in base64, with its reason twice beside it: beyond 8 KiB gRPC drops some by default.
    ("grpc.max_metadata_size", MAX_METADATA),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # Retries are the client's to decide, with the same bytes (DESIGN section 8).
    ("grpc.enable_retries", 0),
)
CHANNEL_OPTIONS: Final = (
    *_SHARED,
    # A broker that is back is found within seconds; gRPC alone would wait up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
)
SERVER_OPTIONS: Final = (
    *_SHARED,
    ("grpc.max_concurrent_streams", 256),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 30_000),
    ("grpc.server_handshake_timeout_ms", 10_000),
    # A second broker on the same port is a mistake, not load sharing.
    ("grpc.so_reuseport", 0),
)

MAX_JOIN: Final = 16 * 1024
JOIN_OPTIONS: Final = (
    *((name, value) for name, value in SERVER_OPTIONS if not name.startswith("grpc.max_")),
    # Whoever calls is nobody yet: one small message, and a connection that ends by itself.
    ("grpc.max_receive_message_length", MAX_JOIN),
    ("grpc.max_send_message_length", MAX_JOIN),
    ("grpc.max_metadata_size", 4 * 1024),
    ("grpc.max_concurrent_streams", 4),
    ("grpc.max_connection_idle_ms", 15_000),
    ("grpc.max_connection_age_ms", 60_000),
    ("grpc.max_connection_age_grace_ms", 5_000),
)
MOST_JOINS: Final = 64
"""Calls at once, over all connections."""


@cache
def own_announcement() -> Announcement:
    """What this program announces."""
    return announcement(version(PACKAGE))


def announced() -> tuple[tuple[str, str], ...]:
    """The metadata of this program's calls and answers."""
    return ((VERSIONS, str(own_announcement())),)


def announcement_in(metadata: Iterable[tuple[str, str | bytes]] | None) -> Announcement:
    """What a peer announced with its call or answer; `SILENT` where it said nothing.

    Raises:
        DecodeError: it said so twice, or in another form.
    """
    found = [value for name, value in metadata or () if name == VERSIONS]
    if not found:
        return SILENT
    if len(found) > 1 or not isinstance(found[0], str):
        raise DecodeError("versions are announced once, as text")
    return parse_announcement(found[0])


class PeerError(Exception):
    """The peer's TLS session does not say who it is."""


@dataclass(frozen=True, slots=True)
class TlsIdentity:
    """What a party shows and trusts in TLS, each as PEM."""

    private_key: bytes
    certificate: bytes
    authority: bytes

    def __repr__(self) -> str:
        return "TlsIdentity(…)"


def open_channel(address: str, identity: TlsIdentity) -> grpc.aio.Channel:
    """A channel to a broker with mutual TLS; call it within an event loop, and close it."""
    credentials = grpc.ssl_channel_credentials(
        root_certificates=identity.authority,
        private_key=identity.private_key,
        certificate_chain=identity.certificate,
    )
    return grpc.aio.secure_channel(address, credentials, options=CHANNEL_OPTIONS)


def server_credentials(identity: TlsIdentity) -> grpc.ServerCredentials:
    """Credentials of a server that asks every peer for a certificate."""
    return grpc.ssl_server_credentials(
        [(identity.private_key, identity.certificate)],
        root_certificates=identity.authority,
        require_client_auth=True,
    )


def renewed_credentials(
    read: Callable[[], TlsIdentity | None], identity: TlsIdentity, *, mutual: bool = True
) -> grpc.ServerCredentials:
    """Credentials of a server whose certificate is renewed while it runs; connections that stand are not touched.

    Args:
        read: called before each handshake, on a thread of gRPC's; a new identity, or None where nothing has changed.
        identity: the one to begin with.
        mutual: whether every peer is asked for a certificate; where not, none is.
    """

    def fetch() -> Any:
        # The stubs know no None, which gRPC takes for "as before".
        renewed = read()
        return _server_configuration(renewed) if renewed is not None else None

    return grpc.dynamic_ssl_server_credentials(
        _server_configuration(identity), fetch, require_client_authentication=mutual
    )


def _server_configuration(identity: TlsIdentity) -> grpc.ServerCertificateConfiguration:
    pairs = [(identity.private_key, identity.certificate)]
    return grpc.ssl_server_certificate_configuration(pairs, root_certificates=identity.authority)


def open_anonymous_channel(address: str, authority: bytes) -> grpc.aio.Channel:
    """A channel to a broker that shows its certificate and gets none; call it within an event loop, and close it.

    Args:
        address: HOST:PORT.
        authority: certificates of the TLS authority, PEM.
    """
    credentials = grpc.ssl_channel_credentials(root_certificates=authority)
    return grpc.aio.secure_channel(address, credentials, options=CHANNEL_OPTIONS)


def check_tls(auth: Mapping[str, Iterable[bytes]]) -> None:
    """Refuse a session that is not TLS 1.3; gRPC cannot be told to speak nothing else, so every call is checked.

    Args:
        auth: `auth_context()` of a server call.

    Raises:
        PeerError: it is not.
    """
    if tuple(auth.get("ssl_tls_version", ())) != (TLS_VERSION,):
        raise PeerError("TLS 1.3 is required")


def peer_party(auth: Mapping[str, Iterable[bytes]]) -> Party:
    """Who a peer is: the one URI name in its certificate, never its common name.

    Args:
        auth: `auth_context()` of a server call.

    Raises:
        PeerError: not TLS 1.3, no certificate, or not exactly one URI name that is a party's.
    """
    check_tls(auth)
    names = tuple(auth.get("peer_uri", ()))
    if len(names) != 1:
        raise PeerError("the certificate must name exactly one party as a URI")
    try:
        return Party.parse(names[0].decode())
    except (CoreError, UnicodeDecodeError) as error:
        raise PeerError("the certificate's URI is not a party's name") from error


def peer_key(auth: Mapping[str, Iterable[bytes]]) -> bytes:
    """The id of the signing key that a peer's certificate came with.

    Args:
        auth: `auth_context()` of a server call.

    Raises:
        PeerError: no certificate, or one that does not say.
    """
    certificates = tuple(auth.get("x509_pem_cert", ()))
    if len(certificates) != 1:
        raise PeerError("the peer shows no certificate")
    return certificate_key(certificates[0])


@lru_cache(maxsize=1024)
def certificate_key(pem: bytes) -> bytes:
    """The id of the signing key that a certificate came with: in hex, its subject's serialNumber (2.5.4.5).

    Raises:
        PeerError: not a certificate, or it does not say.
    """
    try:
        subject = x509.load_pem_x509_certificate(pem).subject
        [attribute] = subject.get_attributes_for_oid(NameOID.SERIAL_NUMBER)
        key = bytes.fromhex(str(attribute.value))
    except ValueError as error:
        raise PeerError("the certificate does not say which key it came with: have a new one issued") from error
    if len(key) != DIGEST:
        raise PeerError("the certificate does not say which key it came with: have a new one issued")
    return key


def certificate_party(pem: bytes) -> Party:
    """The party that a certificate names, by the same rule as `peer_party`.

    Raises:
        PeerError: not a certificate, or not exactly one URI name that is a party's.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        if len(uris) != 1:
            raise PeerError("the certificate must name exactly one party as a URI")
        return Party.parse(uris[0])
    except (ValueError, x509.ExtensionNotFound) as error:
        raise PeerError("the certificate does not name a party") from error
