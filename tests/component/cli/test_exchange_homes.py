"""What a home lacks, or has of somebody else, is said in words before TLS or a signature fails on it."""

import datetime
import os
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from typer.testing import CliRunner

from exchange.cli.main import app
from exchange.core.names import Party
from exchange.core.note import NoteSigner
from exchange.core.trust import Trust, encode_trust
from exchange.home import Home, HomeError, check_writable, write_file

HEALTH = Party("city.example", "health")
POLICE = Party("city.example", "police")


def trust_of(name: str, root_key: bytes) -> Trust:
    logs = [NoteSigner(f"{name}/{log}", ed25519.Ed25519PrivateKey.generate()) for log in ("directory", "access")]
    return Trust(name, root_key, logs[0].verifier, logs[1].verifier, "x", ("127.0.0.1:7443",))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    assert CliRunner().invoke(app, ["key", "new", str(HEALTH), "--home", str(tmp_path / "home")]).exit_code == 0
    home = Home(tmp_path / "home")
    home.write("trust.toml", encode_trust(trust_of("city.example", home.signer().public_key)).encode())
    return home


def certificate(home: Home, party: Party = HEALTH, *, days: int = 1, own: bool = True) -> bytes:
    key = home.private_key("tls") if own else ec.generate_private_key(ec.SECP256R1())
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    builder = x509.CertificateBuilder().issuer_name(name).subject_name(name).public_key(key.public_key())
    builder = builder.serial_number(7).not_valid_before(now - datetime.timedelta(days=90))
    builder = builder.not_valid_after(now + datetime.timedelta(days=days))
    uri = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(party))])
    return builder.add_extension(uri, critical=False).sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def test_a_certificate_of_the_party_for_its_key_is_used(home: Home) -> None:
    home.write("tls.pem", certificate(home))
    assert home.tls_identity().certificate == home.read("tls.pem")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("of another party", "is the certificate of exchange://city.example/police; this is the home of"),
        ("for another key", "is for another key than"),
        ("expired", "has expired: it was valid until"),
        ("rubbish", "is not a certificate"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_named(home: Home, kind: str, message: str) -> None:
    made = {
        "of another party": certificate(home, POLICE),
        "for another key": certificate(home, own=False),
        "expired": certificate(home, days=-1),
        "rubbish": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    }
    home.write("tls.pem", made[kind])
    with pytest.raises(HomeError, match=message) as caught:
        home.tls_identity()
    assert str(home.path / "tls.pem") in str(caught.value)
    assert "exchange key install" in caught.value.hint
    shown = CliRunner().invoke(app, ["status", "--home", str(home.path)])
    assert shown.exit_code == 3
    assert "not asked" in shown.stdout


def test_a_tls_key_that_is_none_is_named(home: Home) -> None:
    home.write("tls.pem", certificate(home))
    write_file(home.keys / "tls.pem", b"rubbish", 0o600)
    with pytest.raises(HomeError, match=r"keys/tls\.pem cannot be read as a private key"):
        home.tls_identity()


def test_the_trust_file_of_another_exchange_is_not_trusted(home: Home) -> None:
    home.write("trust.toml", encode_trust(trust_of("other.example", home.signer().public_key)).encode())
    with pytest.raises(HomeError, match=r"is of other\.example; this home belongs to city\.example"):
        _ = home.trust
    result = CliRunner().invoke(app, ["purpose", "list", "--home", str(home.path)])
    assert result.exit_code == 5


def test_a_trust_file_is_utf_8_with_or_without_its_mark(home: Home) -> None:
    text = "# 信任\n" + encode_trust(home.trust)
    home.write("trust.toml", text.encode("utf-8-sig"))
    assert replace(home.trust) == home.trust
    home.write("trust.toml", text.encode("gbk"))
    with pytest.raises(HomeError, match="is not UTF-8"):
        _ = home.trust


@pytest.mark.parametrize("kind", ["pipe", "folder", "link to a pipe"])
def test_only_files_are_replaced(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "target"
    if kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(tmp_path / "pipe")
        path = tmp_path / "pipe"
    if kind == "link to a pipe":
        path = tmp_path / "link"
        path.symlink_to(tmp_path / "pipe")
    before = path.lstat()
    for write in (lambda: write_file(path, b"x", 0o644), lambda: check_writable(path)):
        with pytest.raises(HomeError, match="cannot write"):
            write()
    assert path.lstat() == before


def test_finding_out_whether_a_file_can_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    check_writable(tmp_path / "file")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(HomeError, match="cannot write"):
        check_writable(tmp_path / "none" / "file")
