"""The founding of an exchange: root, broker, logs, TLS authority, the first entry, the anchor."""

import datetime
import secrets
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from exchange.broker.anchor import Anchor
from exchange.broker.authority import Authority, found_authority
from exchange.broker.config import BrokerConfig, encode_config, new_config
from exchange.core.checkpoint import Checkpoint, sign_checkpoint
from exchange.core.directory import Directory
from exchange.core.entries import directory_leaf, key_entry, signing_key_statement
from exchange.core.envelope import Envelope, sign
from exchange.core.keys import key_id
from exchange.core.lifetimes import BROKER_KEY
from exchange.core.merkle import Frontier, leaf_hash
from exchange.core.names import Party
from exchange.core.note import NoteSigner
from exchange.core.state import OBJECT_ID
from exchange.core.trust import Trust, encode_trust
from exchange.home import ROOT, Home, HomeError, write_file
from exchange.store.ports import Batch, Head, Log, NewEntry, StoreError
from exchange.store.postgres import PostgresDatabase
from exchange.store.sql import SqlLogStore
from exchange.v1.directory_pb2 import Role

LOG_KEYS = {Log.DIRECTORY: "directory-log", Log.ACCESS: "access-log"}
AUTHORITY_KEY = "tls-authority"
AUTHORITY_FILE = "tls-authority.pem"


def found(
    path: Path,
    name: str,
    listen: str,
    hosts: Sequence[str],
    now: int,
    database: str = "exchange.db",
    join_listen: str = "",
) -> Trust:
    """Found an exchange: the operator's home at `path`, the broker's in its folder `broker`.

    The operator's home holds the root key, which belongs offline; the broker's holds its own key, the log keys and the
    TLS authority.

    Args:
        path: a folder that is nobody's home yet.
        name: the exchange's name.
        listen: HOST:PORT of the broker.
        hosts: DNS names and addresses for its certificate.
        now: milliseconds.
        database: a SQLite file in the broker's home, or the URL of an empty PostgreSQL database.
        join_listen: HOST:PORT where it takes invites; empty takes none.

    Returns:
        What every party is to trust, also written as trust.toml.

    Raises:
        HomeError: a home is taken, an address is none, or something cannot be written.
        NameFormatError: `name` is not a domain.
    """
    root = Party(name)
    config = new_config(listen, hosts, database, join_listen)
    if config.is_shared:
        _check_empty(config)
    operator = Home.create(path, root, ROOT, finished=False)
    broker = Home.create(path / "broker", Party(name, "broker"), "broker")
    for home in (operator, broker):
        home.new_private_key("signing")
    authority = _authority(broker, name, now)
    signers = {log: _log_key(broker, log, name) for log in Log}
    trust = Trust(
        name,
        operator.signer().public_key,
        signers[Log.DIRECTORY].verifier,
        signers[Log.ACCESS].verifier,
        authority.pem.decode(),
        (listen,),
    )
    for home, names in ((operator, ()), (broker, tuple(hosts))):
        home.write("trust.toml", encode_trust(trust).encode())
        key = key_id(home.signer().public_key)
        home.write("tls.pem", authority.issue(home.new_tls_request(), home.party, key, moment(now), names))
    write_config(broker, config)
    _write_logs(operator, broker, config, signers, now)
    operator.finish()
    return trust


def log_signers(broker: Home) -> dict[Log, NoteSigner]:
    """The note keys of both logs, out of a broker's home.

    Raises:
        HomeError: one is missing, or of another kind.
    """
    return {log: _log_signer(broker, log) for log in Log}


def load_authority(broker: Home) -> Authority:
    """The TLS authority, out of a broker's home.

    Raises:
        HomeError: its key or certificate is missing or unreadable.
    """
    key = broker.private_key(AUTHORITY_KEY)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise HomeError(f"the TLS authority's key in {broker.keys} is of another kind")
    try:
        certificate = broker.read(AUTHORITY_FILE, "restore it from this home's backup")
        return Authority(key, x509.load_pem_x509_certificate(certificate))
    except ValueError as error:
        raise HomeError(f"{broker.path / AUTHORITY_FILE} cannot be read as a certificate") from error


def _authority(broker: Home, name: str, now: int) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    broker.new_private_key(AUTHORITY_KEY, key)
    authority = found_authority(key, name, moment(now))
    broker.write(AUTHORITY_FILE, authority.pem)
    return authority


def _log_key(broker: Home, log: Log, name: str) -> NoteSigner:
    key = ed25519.Ed25519PrivateKey.generate()
    broker.new_private_key(LOG_KEYS[log], key)
    return NoteSigner(f"{name}/{log.value}", key)


def _log_signer(broker: Home, log: Log) -> NoteSigner:
    key = broker.private_key(LOG_KEYS[log])
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise HomeError(f"the {log.value} log's key in {broker.keys} is of another kind")
    return NoteSigner(f"{broker.trust.name}/{log.value}", key)


def _write_logs(operator: Home, broker: Home, config: BrokerConfig, signers: dict[Log, NoteSigner], now: int) -> None:
    """Entry 0 of the directory names the broker; both logs get their first checkpoint, and the anchor is placed."""
    name = config.store_name(broker.path)
    try:
        store = SqlLogStore.create(name)
    except StoreError as error:
        raise HomeError(f"cannot make {'the log store' if config.is_shared else name}: {error}") from error
    try:
        with store.locked() as transaction:
            transaction.append(_first(Log.DIRECTORY, [_broker_entry(operator, broker, now)], signers, now))
            transaction.append(_first(Log.ACCESS, [], signers, now))
        verifiers = {log: signer.verifier for log, signer in signers.items()}
        Anchor(broker.path / config.anchor, store, verifiers).place()
    finally:
        store.close()


def _broker_entry(operator: Home, broker: Home, now: int) -> NewEntry:
    """The broker's key, signed by the root."""
    leaf = directory_leaf(broker_key_entry(operator, broker, now), now)
    _, applied = Directory.genesis(broker.trust.name, operator.signer().public_key).apply(leaf, b"")
    if applied.reason:
        raise HomeError(f"the first entry breaks a rule: {applied.reason}")
    return NewEntry(leaf, b"", None)


def broker_key_entry(operator: Home, broker: Home, now: int) -> Envelope:
    """A broker's key, signed by the root: an entry of the directory.

    Args:
        operator: the root's home; broker: has a signing key, and the trust file.
        now: milliseconds.

    Raises:
        HomeError: a key is missing.
    """
    name = broker.trust.name
    validity = (now, now + BROKER_KEY)
    statement = signing_key_statement(name, broker.party, Role.ROLE_BROKER, broker.signer(), validity)
    return sign(operator.signer(), name, key_entry(operator.party, secrets.token_bytes(OBJECT_ID), statement))


def write_config(broker: Home, config: BrokerConfig) -> None:
    """Write a new broker.toml, for its owner alone: it may be told the database's password one day.

    Raises:
        HomeError: it cannot be written.
    """
    write_file(broker.path / "broker.toml", encode_config(config).encode(), 0o600)


def _check_empty(config: BrokerConfig) -> None:
    """Before any key is made: a founding that stops halfway has to be begun anew."""
    try:
        PostgresDatabase.check_empty(config.database)
    except StoreError as error:
        raise HomeError(f"cannot make the log store: {error}") from error


def _first(log: Log, entries: list[NewEntry], signers: dict[Log, NoteSigner], now: int) -> Batch:
    frontier, nodes = Frontier().extend([leaf_hash(entry.leaf) for entry in entries])
    signer = signers[log]
    checkpoint = sign_checkpoint(Checkpoint(signer.name, frontier.size, frontier.root()), signer)
    return Batch(log, 0, tuple(entries), nodes, Head(log, frontier.size, checkpoint, now if entries else 0))


def moment(now: int) -> datetime.datetime:
    """A time in milliseconds as an aware datetime."""
    return datetime.datetime.fromtimestamp(now / 1000, datetime.UTC)
