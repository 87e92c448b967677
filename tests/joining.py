"""Joining in memory: a world's directory, the invites of a broker over it, and key requests of newcomers."""

import hashlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from exchange.broker.authority import found_authority
from exchange.broker.invites import Invites
from exchange.core import entries
from exchange.core.names import Party
from exchange.core.wire import encode
from exchange.store.invites import MemoryInvites
from exchange.store.memory import MemoryLogStore
from exchange.store.ports import Log, StoredEntry
from exchange.v1.directory_pb2 import KeyStatement, Role
from exchange.v1.joining_pb2 import JoinState
from tests.certificates import AUTHORITY_KEY, NOW, csr, uri
from tests.memory import fixed, signer
from tests.world import DAY, EXCHANGE, ORIGIN, YEAR, World

SCHOOLS = Party(ORIGIN, "schools")
CODE = fixed("code of schools")
DEPARTMENT = Role.ROLE_DEPARTMENT
WAITING, APPROVED = JoinState.JOIN_STATE_WAITING, JoinState.JOIN_STATE_APPROVED


class WorldLogs:
    """A broker's logs as `Invites` sees them: a world's directory, and its entries."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.store = SimpleNamespace(entry=self._entry)

    @property
    def directory(self) -> Any:
        return self._world.directory

    def _entry(self, log: Log, index: int) -> StoredEntry:
        assert log is Log.DIRECTORY
        return StoredEntry(index, self._world.directory_log.leaves[index], b"")


class Office:
    """Invites over a world, with a clock that a test sets."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.now = world.now
        self.store = MemoryInvites(MemoryLogStore())
        logs: Any = WorldLogs(world)
        self.invites = Invites(self.store, logs, found_authority(AUTHORITY_KEY, ORIGIN, NOW), lambda: self.now)

    def invite(self, party: Party = SCHOOLS, role: Role.ValueType = DEPARTMENT, **changes: Any) -> bytes:
        """An invite for a week by the party's parent; returns its code."""
        code = changes.get("code", CODE)
        parent = changes.get("parent", party.parent or EXCHANGE)
        digest = changes.get("digest", hashlib.sha256(code).digest())
        self.invites.invite(parent, party, role, digest, changes.get("expires_at", self.now + 7 * DAY))
        return bytes(code)

    def join(self, request: "tuple[bytes, bytes]", code: bytes = CODE, party: Party | str = SCHOOLS) -> Any:
        """How it stands after a key request was handed in: the invite, and its standing."""
        return self.invites.join(str(party), code, *request)

    def approve(self, request: "tuple[bytes, bytes]", party: Party = SCHOOLS) -> None:
        """The parent signs and appends the key, as `exchange department approve` does."""
        statement = KeyStatement.FromString(request[0])
        parent = party.parent or EXCHANGE
        draft = entries.key_entry(parent, self.world.fresh(16), statement, request[1])
        applied = self.world.append(draft, parent)
        assert not applied.reason, applied.reason
        self.world.keys[party] = signer(str(party))


def key_request(
    world: World,
    party: Party = SCHOOLS,
    role: Role.ValueType = DEPARTMENT,
    change: Callable[[KeyStatement], None] | None = None,
    **changes: Any,
) -> tuple[bytes, bytes]:
    """The statement of a new key and the certificate request, as a newcomer hands them in."""
    request = changes.get("csr", _csr(party, changes.get("label", "")))
    key = signer(changes.get("label") or str(party))
    statement = entries.signing_key_statement(ORIGIN, party, role, key, (world.now, world.now + YEAR), csr=request)
    if change is not None:
        change(statement)
    return encode(statement), request


_KEYS: dict[str, ec.EllipticCurvePrivateKey] = {}
_REQUESTS: dict[tuple[str, str], bytes] = {}


def _csr(party: Party, label: str) -> bytes:
    # An ECDSA signature is another one each time: the same request has to be the same bytes.
    if (str(party), label) not in _REQUESTS:
        key = _KEYS.setdefault(label, ec.generate_private_key(ec.SECP256R1()))
        _REQUESTS[str(party), label] = csr([uri(party)], key)
    return _REQUESTS[str(party), label]


def public_key_of(certificate: bytes) -> Any:
    """The key that a certificate is for."""
    return x509.load_pem_x509_certificate(certificate).public_key()


def tls_key(label: str = "") -> Any:
    """The TLS key that `key_request` asks a certificate for."""
    return _KEYS[label].public_key()
