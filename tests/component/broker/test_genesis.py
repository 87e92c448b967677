"""The founding: every key in the one home it belongs to, and a directory that begins with the broker."""

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from exchange.broker.anchor import Anchor, AnchorError
from exchange.broker.genesis import found, load_authority, log_signers
from exchange.core.checkpoint import open_checkpoint
from exchange.core.directory import Directory
from exchange.core.errors import NameFormatError
from exchange.core.keys import key_id
from exchange.core.names import Party
from exchange.core.trust import Trust, parse_trust
from exchange.home import Home, HomeError
from exchange.store.ports import Log
from exchange.store.sql import SqlLogStore
from exchange.transport import certificate_key, certificate_party
from exchange.v1.directory_pb2 import Role
from tests.world import START

NAME, LISTEN, HOSTS = "town.example", "127.0.0.1:7443", ("127.0.0.1", "localhost", "broker.town.example")
ROOT, BROKER = Party(NAME), Party(NAME, "broker")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("operator") / "home"
    before = os.umask(0)
    try:
        found(path, NAME, LISTEN, HOSTS, START)
    finally:
        os.umask(before)
    return path


@pytest.fixture
def operator(path: Path) -> Home:
    return Home(path)


@pytest.fixture
def broker(path: Path) -> Home:
    return Home(path / "broker")


@pytest.fixture
def store(broker: Home) -> Iterator[SqlLogStore]:
    store = SqlLogStore.open(broker.path / "exchange.db")
    yield store
    store.close()


def test_each_home_has_its_own_keys_and_no_others(operator: Home, broker: Home) -> None:
    assert {path.name for path in operator.keys.iterdir()} == {"signing.pem", "tls.pem"}
    assert {path.name for path in broker.keys.iterdir()} == {
        *("signing.pem", "tls.pem", "tls-authority.pem"),
        *("directory-log.pem", "access-log.pem"),
    }
    assert operator.signer().public_key != broker.signer().public_key


def test_keys_are_for_their_owners_eyes_whatever_the_umask(operator: Home, broker: Home) -> None:
    for home in (operator, broker):
        assert stat.S_IMODE(home.keys.stat().st_mode) == 0o700
        for path in home.keys.iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for name in ("exchange.db", "exchange.db.lock"):
        assert stat.S_IMODE((broker.path / name).stat().st_mode) == 0o600


def test_certificates_name_the_key_that_they_come_with(operator: Home, broker: Home) -> None:
    for home in (operator, broker):
        assert certificate_key(home.read("tls.pem")) == key_id(home.signer().public_key)


def test_no_private_key_stands_anywhere_else(path: Path) -> None:
    for file in path.rglob("*"):
        if file.is_file() and file.parent.name != "keys":
            assert b"PRIVATE KEY" not in file.read_bytes()


def test_homes_say_whose_they_are(operator: Home, broker: Home) -> None:
    assert (operator.party, operator.role) == (ROOT, "root")
    assert (broker.party, broker.role) == (BROKER, "broker")


def test_both_homes_trust_the_same(operator: Home, broker: Home) -> None:
    trust = operator.trust
    assert trust == broker.trust == parse_trust(operator.read("trust.toml").decode())
    assert (trust.name, trust.brokers) == (NAME, (LISTEN,))
    assert trust.root_key == operator.signer().public_key
    signers = log_signers(broker)
    assert (trust.directory_log, trust.access_log) == (
        signers[Log.DIRECTORY].verifier,
        signers[Log.ACCESS].verifier,
    )


def test_certificates_come_from_the_authority_in_the_trust_file(operator: Home, broker: Home) -> None:
    authority = x509.load_pem_x509_certificate(operator.trust.tls_ca.encode())
    assert load_authority(broker).certificate == authority
    usages = []
    for home in (operator, broker):
        pem = home.tls_identity().certificate
        certificate = x509.load_pem_x509_certificate(pem)
        certificate.verify_directly_issued_by(authority)
        assert certificate_party(pem) == home.party
        usages.append(set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value))
    assert usages == [
        {ExtendedKeyUsageOID.CLIENT_AUTH},
        {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH},
    ]


def test_the_first_entry_of_the_directory_names_the_broker(operator: Home, broker: Home, store: SqlLogStore) -> None:
    trust: Trust = operator.trust
    [entry] = store.entries(Log.DIRECTORY, 0, 1 << 20, 10)
    directory, applied = Directory.genesis(NAME, trust.root_key).apply(entry.leaf, entry.body)
    assert applied.reason == ""
    assert directory.role_of(BROKER, START) == Role.ROLE_BROKER
    [record] = directory.state.keys_of(BROKER)
    assert record.key_id == key_id(broker.signer().public_key)
    assert (record.not_before, directory.state.time) == (START, START)


@pytest.mark.parametrize(("log", "size"), [(Log.DIRECTORY, 1), (Log.ACCESS, 0)])
def test_both_logs_begin_with_a_signed_checkpoint(operator: Home, store: SqlLogStore, log: Log, size: int) -> None:
    verifier = operator.trust.directory_log if log == Log.DIRECTORY else operator.trust.access_log
    head = store.head(log)
    assert open_checkpoint(head.checkpoint, verifier).size == head.size == size


def test_the_anchor_is_placed(broker: Home, store: SqlLogStore) -> None:
    verifiers = {log: signer.verifier for log, signer in log_signers(broker).items()}
    Anchor(broker.path / "anchor", store, verifiers).check()
    with pytest.raises(AnchorError):
        Anchor(broker.path / "nowhere", store, verifiers).check()


def test_nobodys_home_is_taken(path: Path) -> None:
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    with pytest.raises(HomeError, match="already"):
        found(path, NAME, LISTEN, HOSTS, START)
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize("name", ["", "Town.example", "town.example/x", "exchange://town.example", "town.example "])
def test_a_name_that_is_no_domain_founds_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(NameFormatError):
        found(tmp_path / "home", name, LISTEN, HOSTS, START)
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("listen", ["", "7443", "host", "a b:1", "host:port"])
def test_an_address_that_is_none_founds_nothing(tmp_path: Path, listen: str) -> None:
    with pytest.raises(HomeError, match="listen"):
        found(tmp_path / "home", NAME, listen, HOSTS, START)
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("host", ["", "ümlaut.example", 'quoted".example', "a b"])
def test_a_host_that_a_certificate_cannot_name_founds_nothing(tmp_path: Path, host: str) -> None:
    with pytest.raises(HomeError, match="host"):
        found(tmp_path / "home", NAME, LISTEN, (host,), START)
    assert not (tmp_path / "home").exists()


@pytest.fixture
def spoiled(path: Path, tmp_path: Path) -> Home:
    """A copy of the broker's home, to be spoiled."""
    return Home(shutil.copytree(path / "broker", tmp_path / "broker"))


@pytest.mark.parametrize("name", ["directory-log", "access-log", "tls-authority"])
def test_a_key_of_another_kind_is_named(spoiled: Home, name: str) -> None:
    home = spoiled
    other = "signing" if name != "tls-authority" else "access-log"
    (home.keys / f"{name}.pem").write_bytes((home.keys / f"{other}.pem").read_bytes())
    with pytest.raises(HomeError, match="of another kind"):
        (load_authority if name == "tls-authority" else log_signers)(home)


def test_an_authority_that_cannot_be_read_is_named(spoiled: Home) -> None:
    spoiled.write("tls-authority.pem", b"rubbish")
    with pytest.raises(HomeError, match=r"tls-authority\.pem"):
        load_authority(spoiled)
