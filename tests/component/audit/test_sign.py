"""`exchange-audit sign` and `verify report`: a stranger with the trust file knows who vouches for what."""

import hashlib
import json
from pathlib import Path

import pytest

from exchange.cli.audit import sign as sign_command
from exchange.core.errors import CoreError
from exchange.core.merkle import EMPTY_ROOT
from exchange.core.report import Report, open_report, sign_report
from exchange.core.tlog_proof import TlogProof
from exchange.core.trust import parse_trust
from exchange.home import Home
from tests.component.audit.conftest import Run
from tests.component.audit.copies import AuditedExchange, rebuilt
from tests.component.audit.test_audit_commands import NO_WITNESSES
from tests.memory import signer
from tests.simulator import trust_of
from tests.world import AUDITOR, BROKER, EXCHANGE, HOUSING, START, World


@pytest.fixture
def office(synced: Path, busy: World, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The auditor's home, with its key."""
    Home(synced).new_private_key("signing", busy.keys[AUDITOR].private_key)
    monkeypatch.setattr(sign_command, "now", lambda: START + 1)
    return synced


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "report.csv"
    path.write_text("index,officer\n3,officer-8\n")
    return path


@pytest.fixture
def note(run: Run, office: Path, report: Path) -> Path:
    result = run("sign", report, home=office)
    assert result.exit_code == 0, result.output
    return report.with_name("report.csv.note")


def signed(world: World, party: object = AUDITOR, key: object = AUDITOR, **changes: object) -> bytes:
    """A report as a party would sign it by the key of another."""
    log = world.directory_log
    parts: dict[str, object] = {
        "exchange": "city.example",
        "signer": str(party),
        "sha256": bytes(32),
        "size": 1,
        "time": START + 1,
        "directory": (log.size, log.roots[-1]),
        "access": (0, EMPTY_ROOT),
    }
    index = world.directory.state.keys_of(key)[0].index  # type: ignore[arg-type]
    receipt = log.receipt(index)
    proof = TlogProof(index, tuple(receipt.path), receipt.checkpoint, receipt.leaf)
    return sign_report(Report(**(parts | changes)), world.keys[key], proof)  # type: ignore[arg-type,index]


def test_a_report_is_verified_by_the_trust_file_alone(run: Run, note: Path, report: Path, home: Home) -> None:
    result = run("verify", "report", report, note, home=home.path)
    assert result.exit_code == 0, result.output
    assert "exchange://city.example/auditor, key " in result.stdout
    assert "verified to 5 of the access log" in result.stdout
    assert result.stdout.splitlines()[-1] == f"verified: the file is the one that was signed; {NO_WITNESSES}"
    assert "whether the key was revoked since is not known here" in result.stderr


def test_a_home_with_a_mirror_knows_more(run: Run, note: Path, report: Path, office: Path) -> None:
    shown = json.loads(run("verify", "report", report, note, "--json", home=office).stdout)
    assert (shown["verified"], shown["signer"], shown["access"]) == (True, str(AUDITOR), 5)
    assert shown["revoked_at"] is None


def test_another_file_is_not_the_one_that_was_signed(run: Run, note: Path, report: Path, home: Home) -> None:
    report.write_text(report.read_text() + "\n")
    assert run("verify", "report", report, note, home=home.path).exit_code == 1


def test_every_byte_of_the_signature_counts(note: Path, busy: World) -> None:
    data, trust = note.read_bytes(), trust_of(busy)
    open_report(data, trust)
    for place in range(0, len(data), 7):
        with pytest.raises(CoreError):
            open_report(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :], trust)
    for altered in (data[:-1], data + b"\n", data.replace(b"\nsize ", b"\nsize  "), b"\n" + data, b""):
        with pytest.raises(CoreError):
            open_report(altered, trust)


def test_only_an_auditors_key_vouches(busy: World) -> None:
    trust = trust_of(busy)
    assert open_report(signed(busy), trust).report.signer == str(AUDITOR)
    for party, key in ((HOUSING, HOUSING), (BROKER, BROKER), (AUDITOR, HOUSING), (HOUSING, AUDITOR)):
        with pytest.raises(CoreError, match="no auditor's"):
            open_report(signed(busy, party, key), trust)


def test_a_key_that_the_root_did_not_give_is_refused(busy: World) -> None:
    receipt = busy.directory_log.receipt(0)
    proof = TlogProof(0, tuple(receipt.path), receipt.checkpoint, receipt.leaf)
    stranger = signer("stranger")
    report = Report("city.example", str(AUDITOR), bytes(32), 1, START, (1, bytes(32)), (0, EMPTY_ROOT))
    with pytest.raises(CoreError, match="another key"):
        open_report(sign_report(report, stranger, proof), trust_of(busy))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"exchange": "town.example"}, "signature does not verify"),
        ({"time": 0}, "not valid"),
        ({"time": 253_402_300_800_000}, "out of range"),
        ({"size": 2**63}, "out of range"),
        ({"sha256": bytes(31)}, "malformed"),
    ],
)
def test_a_report_says_what_can_be(busy: World, changes: dict[str, object], said: str) -> None:
    with pytest.raises(CoreError, match=said):
        open_report(signed(busy, **changes), trust_of(busy))


def test_another_exchanges_log_does_not_prove_the_key(note: Path, busy: World) -> None:
    text = (note.parent / "synced/trust.toml").read_text()
    stranger = str(trust_of(busy).directory_log)
    other = rebuilt(busy.directory_log)
    other.signer = type(other.signer)(other.signer.name, busy.access_log.signer.private_key)
    with pytest.raises(CoreError):
        open_report(note.read_bytes(), parse_trust(text.replace(stranger, str(other.signer.verifier))))


def test_a_report_of_another_history_is_refused(
    run: Run, busy: World, report: Path, office: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.note"
    digest = hashlib.sha256(report.read_bytes()).digest()
    other.write_bytes(signed(busy, sha256=digest, size=report.stat().st_size, access=(5, bytes(32))))
    result = run("verify", "report", report, other, home=office)
    assert result.exit_code == 1
    assert "another history of city.example/access" in result.stderr


def test_a_revoked_key_is_told_and_signs_no_more(
    run: Run, office: Path, note: Path, report: Path, exchange: AuditedExchange
) -> None:
    world = exchange.world
    world.revoke(world.directory.state.keys_of(AUDITOR)[0].key_id, EXCHANGE)
    assert run("sync", home=office).exit_code == 0
    shown = json.loads(run("verify", "report", report, note, "--json", home=office).stdout)
    assert shown["revoked_at"] == world.directory.size - 1
    result = run("sign", report, home=office)
    assert result.exit_code == 5


def test_only_an_auditor_with_a_key_signs(run: Run, synced: Path, report: Path) -> None:
    assert run("sign", report, home=synced).exit_code == 3
    Home(synced).write("party.toml", f'name = "{HOUSING}"\nrole = "department"\n'.encode())
    assert run("sign", report, home=synced).exit_code == 2


def test_a_key_that_is_not_valid_now_signs_nothing(
    run: Run, office: Path, report: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_command, "now", lambda: 1)
    assert run("sign", report, home=office).exit_code == 5
    assert not report.with_name("report.csv.note").exists()


def test_the_signature_goes_where_it_is_told(run: Run, office: Path, report: Path, tmp_path: Path) -> None:
    assert run("sign", report, "--output", tmp_path / "elsewhere", home=office).exit_code == 0
    assert (tmp_path / "elsewhere").read_bytes().startswith(b"exchange-audit report v1\n")
    assert not report.with_name("report.csv.note").exists()
