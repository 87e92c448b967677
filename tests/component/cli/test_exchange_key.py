import datetime
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from typer.testing import CliRunner, Result

from exchange.cli.frame.output import grouped
from exchange.cli.frame.times import now
from exchange.cli.joining.admission import Admission, read_key_request
from exchange.cli.main import app
from exchange.core.keys import EcdsaSigner, key_id
from exchange.core.names import Party
from exchange.core.note import NoteSigner, Verifier
from exchange.core.trust import Trust, encode_trust
from exchange.home import Home

ORIGIN = "city.example"
HEALTH = Party(ORIGIN, "health")
ROOT = EcdsaSigner.of(ec.generate_private_key(ec.SECP256R1()))
AUTHORITY_KEY = ec.generate_private_key(ec.SECP256R1())


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(item) for item in arguments])


def certificate(
    party: Party, key: ec.EllipticCurvePublicKey, issuer: ec.EllipticCurvePrivateKey = AUTHORITY_KEY, age: int = 0
) -> bytes:
    moment = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=age)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority")])
    uri = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(party))])
    builder = x509.CertificateBuilder().issuer_name(name).subject_name(name).public_key(key).serial_number(7)
    builder = builder.not_valid_before(moment).not_valid_after(moment + datetime.timedelta(days=90))
    return builder.add_extension(uri, critical=False).sign(issuer, hashes.SHA256()).public_bytes(Encoding.PEM)


AUTHORITY = certificate(Party(ORIGIN), AUTHORITY_KEY.public_key())


def log_verifier(name: str) -> Verifier:
    return NoteSigner(f"{ORIGIN}/{name}", ed25519.Ed25519PrivateKey.generate()).verifier


TRUST = Trust(
    ORIGIN,
    ROOT.public_key,
    log_verifier("directory"),
    log_verifier("access"),
    AUTHORITY.decode(),
    ("127.0.0.1:7443",),
)
ROOT_FINGERPRINT = grouped(key_id(ROOT.public_key))


@pytest.fixture
def trust_file(tmp_path: Path) -> Path:
    path = tmp_path / "trust.toml"
    path.write_text(encode_trust(TRUST))
    return path


@pytest.fixture
def home(tmp_path: Path) -> Home:
    assert run("key", "new", HEALTH, "--home", tmp_path / "health").exit_code == 0
    return Home(tmp_path / "health")


def tls_key(home: Home) -> ec.EllipticCurvePublicKey:
    key = home.private_key("tls")
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key.public_key()


def admission_for(home: Home, trusted: Trust = TRUST, **changes: object) -> Path:
    values = {"party": HEALTH, "certificate": certificate(HEALTH, tls_key(home)), "trust": encode_trust(trusted)}
    path = home.path.parent / "admission.json"
    path.write_bytes(Admission(**(values | changes)).encode())  # type: ignore[arg-type]
    return path


def test_new_makes_a_home_with_a_request_that_holds(home: Home) -> None:
    request = read_key_request((home.path / "request.json").read_bytes(), now())
    assert (request.party, request.role) == (HEALTH, "department")
    assert request.key.public_key == home.signer().public_key
    assert {path.name for path in home.keys.iterdir()} == {"signing.pem", "tls.pem"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in home.keys.iterdir())


def test_new_prints_the_fingerprint_to_read_out(tmp_path: Path) -> None:
    result = run("key", "new", f"{HEALTH}/clinic", "--home", tmp_path / "clinic")
    home = Home(tmp_path / "clinic")
    assert grouped(key_id(home.signer().public_key)) in result.stdout
    assert "exchange system add request.json" in result.stdout
    assert f"the steward of {HEALTH}" in result.stdout


def test_new_prints_json(tmp_path: Path) -> None:
    shown = json.loads(run("key", "new", HEALTH, "--role", "auditor", "--home", tmp_path / "a", "--json").stdout)
    assert shown["role"] == "auditor"
    assert shown["fingerprint"] == key_id(Home(tmp_path / "a").signer().public_key).hex()


def test_new_never_touches_a_home_that_is_there(home: Home) -> None:
    before = (home.keys / "signing.pem").read_bytes()
    result = run("key", "new", HEALTH, "--home", home.path)
    assert result.exit_code == 2
    assert f"is the home of {HEALTH} already" in result.stderr
    assert (home.keys / "signing.pem").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["city.example/health"], "not a party's name", "write it in full: exchange://city.example/health"),
        (["exchange://city.example"], "cannot have the role department", "a system is exchange://"),
        (["exchange://city.example/a/b/c"], "too many segments", "a name is exchange://"),
        ([str(HEALTH), "--role", "king"], "cannot have the role king", "a system is exchange://"),
        ([f"{HEALTH}/clinic", "--role", "department"], "cannot have the role department", "a system is"),
    ],
)
def test_new_refuses_a_name_it_cannot_make(tmp_path: Path, arguments: list[str], message: str, hint: str) -> None:
    result = run("key", "new", *arguments, "--home", tmp_path / "home")
    assert result.exit_code == 2
    assert message in result.stderr
    assert f"hint: {hint}" in result.stderr
    assert not (tmp_path / "home").exists()


def test_new_keeps_the_trust_file_it_is_given(tmp_path: Path, trust_file: Path) -> None:
    assert run("key", "new", HEALTH, "--trust", trust_file, "--home", tmp_path / "home").exit_code == 0
    assert Home(tmp_path / "home").trust == TRUST


def test_new_refuses_the_trust_file_of_another_exchange(tmp_path: Path, trust_file: Path) -> None:
    result = run("key", "new", "exchange://other.example/health", "--trust", trust_file, "--home", tmp_path / "home")
    assert result.exit_code == 2
    assert "is the trust file of city.example" in result.stderr
    assert not (tmp_path / "home").exists()


def test_install_writes_certificate_and_trust_once_the_root_is_compared(home: Home) -> None:
    path = admission_for(home)
    result = run("key", "install", path, "--root-fingerprint", ROOT_FINGERPRINT, "--home", home.path)
    assert result.exit_code == 0, result.stderr
    assert home.trust == TRUST
    assert home.tls_identity().certificate == certificate_in(path)


def certificate_in(path: Path) -> bytes:
    text: str = json.loads(path.read_bytes())["certificate"]
    return text.encode()


def test_install_asks_nothing_where_the_same_trust_file_is_here(tmp_path: Path, trust_file: Path) -> None:
    run("key", "new", HEALTH, "--trust", trust_file, "--home", tmp_path / "home")
    home = Home(tmp_path / "home")
    result = run("key", "install", admission_for(home), "--home", home.path, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["party"] == str(HEALTH)


def test_install_refuses_a_root_that_nobody_compared(home: Home) -> None:
    result = run("key", "install", admission_for(home), "--home", home.path)
    assert result.exit_code == 5
    assert ROOT_FINGERPRINT in result.stderr
    assert "--root-fingerprint" in result.stderr
    assert not (home.path / "tls.pem").exists()
    assert not (home.path / "trust.toml").exists()


@pytest.mark.parametrize(("answer", "exit_code"), [("y\n", 0), ("n\n", 5)])
def test_install_asks_a_person_to_compare_the_root(
    home: Home, monkeypatch: pytest.MonkeyPatch, answer: str, exit_code: int
) -> None:
    monkeypatch.setattr(sys.modules["exchange.cli.keys.key"], "sys", type("Terminal", (), {"stdin": Terminal()}))
    arguments = ["key", "install", str(admission_for(home)), "--home", str(home.path)]
    result = CliRunner().invoke(app, arguments, input=answer)
    assert result.exit_code == exit_code
    assert (home.path / "tls.pem").exists() == (exit_code == 0)


class Terminal:
    def isatty(self) -> bool:
        return True


def test_install_refuses_another_trust_file_than_the_one_here(tmp_path: Path, trust_file: Path) -> None:
    run("key", "new", HEALTH, "--trust", trust_file, "--home", tmp_path / "home")
    home = Home(tmp_path / "home")
    other = replace(TRUST, root_key=EcdsaSigner.of(AUTHORITY_KEY).public_key)
    result = run("key", "install", admission_for(home, other), "--home", home.path)
    assert result.exit_code == 5
    assert "brings another trust file" in result.stderr
    assert not (home.path / "tls.pem").exists()


@pytest.mark.parametrize(
    ("name", "message", "exit_code"),
    [
        ("another root", "another fingerprint", 5),
        ("another party's admission", "the admission is for exchange://city.example/police", 1),
        ("another party's certificate", "the certificate is of exchange://city.example/police", 1),
        ("another TLS key", "for another TLS key", 1),
        ("another authority", "not signed by the exchange's TLS authority", 5),
        ("an expired certificate", "not valid now", 3),
        ("no certificate", "the certificate cannot be read", 1),
        ("another exchange", "the admission is to other.example", 5),
        ("no trust file", "the admission: the trust file cannot be read", 5),
    ],
)
def test_install_refuses(home: Home, name: str, message: str, exit_code: int) -> None:
    police, stranger = Party(ORIGIN, "police"), ec.generate_private_key(ec.SECP256R1())
    own = tls_key(home)
    other_exchange = encode_trust(TRUST).replace("city.example", "other.example")
    changes: dict[str, dict[str, object]] = {
        "another root": {},
        "another party's admission": {"party": police, "certificate": certificate(police, own)},
        "another party's certificate": {"certificate": certificate(police, own)},
        "another TLS key": {"certificate": certificate(HEALTH, stranger.public_key())},
        "another authority": {"certificate": certificate(HEALTH, own, stranger)},
        "an expired certificate": {"certificate": certificate(HEALTH, own, age=100)},
        "no certificate": {"certificate": b"x"},
        "another exchange": {"trust": rekeyed(other_exchange)},
        "no trust file": {"trust": ""},
    }
    typed = "00" * 32 if name == "another root" else ROOT_FINGERPRINT
    path = admission_for(home, **changes[name])  # type: ignore[arg-type]
    result = run("key", "install", path, "--root-fingerprint", typed, "--home", home.path)
    assert (result.exit_code, message in result.stderr) == (exit_code, True), result.stderr
    assert not (home.path / "tls.pem").exists()
    assert not (home.path / "trust.toml").exists()


def rekeyed(text: str) -> str:
    """The log keys' hashes cover their names."""
    for name in ("directory", "access"):
        verifier = NoteSigner(f"other.example/{name}", ed25519.Ed25519PrivateKey.generate()).verifier
        lines = [f'{name}_log = "{verifier}"' if row.startswith(f"{name}_log") else row for row in text.split("\n")]
        text = "\n".join(lines)
    return text


def test_install_says_that_a_file_is_missing(home: Home) -> None:
    result = run("key", "install", home.path / "none.json", "--home", home.path)
    assert result.exit_code == 2
    assert "does not exist" in result.stderr


@pytest.mark.parametrize("encoding", ["utf-16", "gbk"])
def test_new_refuses_a_trust_file_that_is_not_utf_8(tmp_path: Path, trust_file: Path, encoding: str) -> None:
    trust_file.write_bytes(f"# 信任\n{encode_trust(TRUST)}".encode(encoding))
    result = run("key", "new", HEALTH, "--trust", trust_file, "--home", tmp_path / "home")
    assert result.exit_code == 5
    assert "is not UTF-8" in result.stderr
    assert not (tmp_path / "home").exists()


def test_new_says_of_a_home_that_was_cut_short_that_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Home, "new_tls_request", killed)
        assert run("key", "new", HEALTH, "--home", tmp_path / "home").exit_code == 130
    result = run("key", "new", HEALTH, "--home", tmp_path / "home")
    assert result.exit_code == 2
    assert "was not finished" in result.stderr
    assert f"hint: delete {tmp_path / 'home'}, and run this again" in result.stderr


def test_a_file_that_is_no_admission_is_named_in_good_english(home: Home, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    (tmp_path / "y.json").write_text('{"format": "exchange.v1/admission"}')
    for name, message in (("x.json", "the file is not an admission"), ("y.json", "an admission has exactly")):
        result = run("key", "install", tmp_path / name, "--home", home.path)
        assert result.exit_code == 2
        assert message in result.stderr
