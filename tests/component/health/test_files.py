"""What doctor finds in a home by itself: no broker is needed for it."""

import datetime
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from typer.testing import CliRunner, Result

from exchange.cli.main import app
from exchange.core.names import Party
from exchange.core.trust import encode_trust
from exchange.home import Home
from tests.fixtures import world
from tests.simulator import make_home
from tests.world import REGISTRY, World

__all__ = ["world"]


@pytest.fixture
def home(tmp_path: Path, world: World) -> Home:
    """An admitted home whose broker is nowhere."""
    home = make_home(tmp_path / "home", world, REGISTRY)
    home.keys.chmod(0o700)
    home.write("tls.pem", certificate(home, days=90.5))
    return home


def certificate(home: Home, days: float) -> bytes:
    if not (home.keys / "tls.pem").exists():
        home.new_private_key("tls")
    key, now = home.private_key("tls"), datetime.datetime.now(datetime.UTC)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    builder = x509.CertificateBuilder().issuer_name(name).subject_name(name).public_key(key.public_key())
    builder = builder.not_valid_before(now - datetime.timedelta(days=100)).serial_number(7)
    uri = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(home.party))])
    builder = builder.not_valid_after(now + datetime.timedelta(days=days)).add_extension(uri, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def doctor(home: Home, *more: str) -> Result:
    return CliRunner().invoke(app, ["doctor", "--home", str(home.path), *more])


def found(home: Home) -> dict[str, dict[str, str]]:
    return {item["check"]: item for item in json.loads(doctor(home, "--json").stdout)}


def test_what_needs_no_broker_is_looked_at_without_one(home: Home) -> None:
    checks = found(home)
    for name in ("home", "key files", "certificate", "receipts", "disk"):
        assert checks[name]["level"] == "ok", checks[name]
    failed = {name for name, item in checks.items() if item["level"] == "fail"}
    assert any(name.startswith("broker ") for name in failed)
    assert doctor(home).exit_code == 1


def test_a_key_that_others_can_read_is_a_failure_with_its_mend(home: Home) -> None:
    key = home.keys / "signing.pem"
    key.chmod(0o640)
    item = found(home)["key files"]
    assert (item["level"], item["mend"]) == ("fail", f"chmod 600 {key}")


@pytest.mark.parametrize(
    ("days", "level", "mend"),
    [
        (29, "warn", "exchange key renew --home"),
        (6, "fail", "exchange key renew --home"),
        # It lets nobody in any more, so that nothing can be renewed with it.
        (-1, "fail", "exchange key rotate --by-department --home"),
    ],
)
def test_a_certificate_that_ends_says_who_renews_it(home: Home, days: float, level: str, mend: str) -> None:
    home.write("tls.pem", certificate(home, days))
    item = found(home)["certificate"]
    assert item["level"] == level
    assert mend in item["mend"]


def test_a_certificate_of_somebody_else_is_a_failure(home: Home, tmp_path: Path, world: World) -> None:
    other = make_home(tmp_path / "other", world, Party(REGISTRY.domain, "housing", "applications"))
    home.write("tls.pem", certificate(other, 90))
    assert found(home)["certificate"]["level"] == "fail"


def test_a_broker_without_an_address_is_told_from_one_that_is_down(home: Home) -> None:
    text = encode_trust(home.trust)
    address = home.trust.brokers[0]
    home.write("trust.toml", text.replace(address, "no-such-host.invalid:7443").encode())
    item = found(home)["name no-such-host.invalid:7443"]
    assert item["level"] == "fail"
    assert "getent hosts no-such-host.invalid" in item["mend"]


def test_a_full_disk_is_a_failure(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=50 * 1024**2))
    assert found(home)["disk"]["level"] == "fail"
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=500 * 1024**2))
    assert found(home)["disk"]["level"] == "warn"


def test_a_party_that_is_not_admitted_is_told_what_it_waits_for(tmp_path: Path) -> None:
    home = Home(tmp_path / "new")
    made = CliRunner().invoke(app, ["key", "new", "exchange://city.example/health", "--home", str(home.path)])
    assert made.exit_code == 0
    checks = found(home)
    assert checks["certificate"]["detail"] == "none yet: the party is not admitted"
    assert "exchange key install" in checks["trust file"]["mend"]


def test_where_nobody_lives_nothing_can_be_checked(tmp_path: Path) -> None:
    done = doctor(Home(tmp_path / "nowhere"))
    assert done.exit_code == 3
    assert "make a home with `exchange key new`" in done.stderr


def test_each_line_says_how_it_is_and_below_it_what_mends_it(home: Home) -> None:
    lines = doctor(home).stdout.splitlines()
    assert lines[0].startswith("ok    home")
    failed = next(number for number, line in enumerate(lines) if line.startswith("fail"))
    assert "-> " in lines[failed + 1]
    assert lines[-1].endswith("not checked")
