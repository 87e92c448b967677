import dataclasses
import datetime
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from grpc_health.v1.health_pb2 import HealthCheckResponse
from typer.testing import CliRunner, Result

import exchange.cli.health.standing as standing
import exchange.cli.health.status as status_command
import exchange.client.session as session
from exchange.cli.frame.output import grouped
from exchange.cli.main import app
from exchange.client.errors import ForkError, UnavailableError
from exchange.client.receipt_file import KeptReceipt, ReceiptFile
from exchange.client.session import MIRROR
from exchange.client.storage import ACCESS, MirrorFile
from exchange.core.checkpoint import Checkpoint, encode_checkpoint, sign_checkpoint
from exchange.core.keys import key_id
from exchange.core.merkle import EMPTY_ROOT
from exchange.core.names import Party
from exchange.core.note import NoteSigner
from exchange.core.protocol import Announcement, parse_announcement
from exchange.core.trust import Trust, encode_trust
from exchange.home import Home
from exchange.transport import ACCESS_COSIGNED, ACCESS_READ, DIRECTORY_COSIGNED, DIRECTORY_SYNC, HEALTH_CHECK
from exchange.v1.log_pb2 import (
    DirectoryServiceCosignedResponse,
    DirectoryServiceSyncResponse,
    LogServiceCosignedResponse,
    ReadResponse,
)
from tests.simulator import COSIGNERS, POLICY

HEALTH = Party("city.example", "health")
DIRECTORY_LOG = NoteSigner("city.example/directory", ed25519.Ed25519PrivateKey.generate())
ACCESS_LOG = NoteSigner("city.example/access", ed25519.Ed25519PrivateKey.generate())


class FakeTransport:
    """One broker that cannot be reached, and one that answers `serving`."""

    serving = HealthCheckResponse.NOT_SERVING

    def __init__(self, brokers: tuple[str, ...], identity: object) -> None:
        self.brokers = brokers

    async def unary(self, method: str, request: bytes, timeout: float) -> bytes:
        if self.brokers == ("away.example:7443",):
            raise UnavailableError("no broker can be reached: away.example:7443: Connection refused")
        return HealthCheckResponse(status=self.serving).SerializeToString()

    def announced(self, broker: str) -> Announcement | None:
        return None if broker == "away.example:7443" else parse_announcement("0.1.0 1.0-1.1")

    async def close(self) -> None:
        return None


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr(standing, "GrpcTransport", FakeTransport)
    assert CliRunner().invoke(app, ["key", "new", str(HEALTH), "--home", str(tmp_path / "home")]).exit_code == 0
    return Home(tmp_path / "home")


@pytest.fixture
def admitted(home: Home) -> Home:
    certificate = self_signed(home)
    verifiers = (DIRECTORY_LOG.verifier, ACCESS_LOG.verifier)
    brokers = ("away.example:7443", "here.example:7443")
    trust = Trust("city.example", home.signer().public_key, *verifiers, certificate.decode(), brokers)
    home.write("trust.toml", encode_trust(trust).encode())
    home.write("tls.pem", certificate)
    return home


def self_signed(home: Home) -> bytes:
    key, now = home.private_key("tls"), datetime.datetime.now(datetime.UTC)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    builder = x509.CertificateBuilder().issuer_name(name).subject_name(name).public_key(key.public_key())
    builder = builder.serial_number(7).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=90.5))
    uri = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(HEALTH))])
    builder = builder.add_extension(uri, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def status(home: Home, *more: str) -> Result:
    return CliRunner().invoke(app, ["status", "--home", str(home.path), *more])


def test_a_home_that_is_not_admitted_says_what_it_lacks(home: Home) -> None:
    result = status(home)
    assert result.exit_code == 3
    fingerprint = key_id(home.signer().public_key)
    for half in (fingerprint[:16], fingerprint[16:]):
        assert grouped(half) in result.stdout
    assert "no trust file yet" in result.stdout
    assert "none yet: the parent admits the key request" in result.stdout


def test_the_caveats_are_always_there(home: Home, admitted: Home) -> None:
    for shown in (status(home).stdout, status(admitted).stdout):
        assert "split view not excluded: no witnesses are configured" in shown
        assert "until a freshness quorum is configured, a broker can withhold" in shown


def check_screen(shown: str) -> None:
    """24 lines of 80 columns, and one of them is left for the prompt."""
    lines = shown.splitlines()
    assert len(lines) < 24, shown
    assert max(map(len, lines)) <= 80, shown


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the command prints goes to a terminal."""
    monkeypatch.setattr(status_command, "sys", SimpleNamespace(stdout=SimpleNamespace(isatty=lambda: True)))


def test_it_fits_one_screen(admitted: Home, terminal: None) -> None:
    check_screen(status(admitted).stdout)


def test_where_it_is_not_read_on_a_screen_no_text_is_cut_in_two(admitted: Home) -> None:
    lines = status(admitted).stdout.splitlines()
    assert "! until a freshness quorum is configured, a broker can withhold what nobody carried" in lines[-1]
    assert lines[-1].endswith("to the adapter by hand")


def test_it_fits_one_screen_where_all_is_long(admitted: Home, monkeypatch: pytest.MonkeyPatch, terminal: None) -> None:
    party = Party("data.bureau-of-the-province.example", "housing-and-construction", "applications-2")
    keys = [standing.KeyStanding("signing", bytes(32), 2**41, "364 days left")]
    keys += [standing.KeyStanding("sealing", bytes([n]) * 32, 2**41 + n, f"{n} days left") for n in range(4)]
    brokers = tuple((f"b{n}.data.bureau-of-the-province.example:7443", "reachable", None) for n in range(5))
    names = [(f"witness-of-department-{n}", 1_800_000_000) for n in range(5)]
    cosigned = SimpleNamespace(checkpoint=Checkpoint("x/access", 123_456_789, bytes(32)), cosignatures=names)
    logs = tuple(standing.LogStanding(f"{party.domain}/{log}", cosigned, "") for log in ("directory", "access"))  # type: ignore[arg-type]
    problem = UnavailableError(
        "no broker can be reached: " + "; ".join(f"{address}: refused" for address, *_ in brokers)
    )
    duties = tuple(f"duty {n}: data to be destroyed until 2027-01-0{n}, see `exchange use due`" for n in range(1, 6))
    everything = standing.Standing(
        party, "system", admitted.trust, 2**41, tuple(keys), brokers, None, problem, None, logs, (12, 3), duties
    )

    async def found(_home: Home) -> standing.Standing:
        return everything

    monkeypatch.setattr(status_command, "standing_of", found)
    shown = status(admitted).stdout
    check_screen(shown)
    for important in ("receipts", "ALARM", "to do", "… (--json)", "quorum met at 123456789 entries"):
        assert important in shown


def test_brokers_are_told_apart(admitted: Home) -> None:
    result = status(admitted)
    assert "away.example:7443 not reachable: Connection refused" in result.stdout
    assert "here.example:7443 reachable, but not serving, 0.1.0, protocol 1.0 to 1.1" in result.stdout
    assert result.exit_code == 3


def test_certificate_and_key_say_how_long_they_last(admitted: Home) -> None:
    shown = status(admitted).stdout
    assert "certificate  90 days left, until " in shown
    # The key in the trust file is this home's own: only a root is in the directory without an entry.
    assert "valid, without end" in shown


def test_it_prints_json(admitted: Home) -> None:
    shown = json.loads(status(admitted, "--json").stdout)
    assert shown["party"] == str(HEALTH)
    away, here = shown["brokers"]
    assert away == {
        "address": "away.example:7443",
        "state": "not reachable: Connection refused",
        "release": None,
        "protocol": None,
    }
    assert (here["release"], here["protocol"]) == ("0.1.0", "1.0 to 1.1")
    assert shown["directory"] == {"size": 0, "last_entry_at": None, "up_to_date": False}
    assert shown["access_checkpoint"] is None
    assert len(shown["caveats"]) == 2


def test_the_last_access_checkpoint_is_shown(admitted: Home) -> None:
    note = sign_checkpoint(Checkpoint("city.example/access", 17, bytes(32)), ACCESS_LOG)
    assert MirrorFile(admitted.path / MIRROR).move_head(ACCESS, b"", note)
    assert "17 entries at the last checkpoint, root 0000 0000" in status(admitted).stdout


def test_a_checkpoint_that_nobody_signed_is_tampering(admitted: Home) -> None:
    assert MirrorFile(admitted.path / MIRROR).move_head(ACCESS, b"", b"x")
    result = status(admitted, "--json")
    assert result.exit_code == 1
    assert "does not hold" in json.loads(result.stdout)["problem"]


def test_a_log_that_has_failed_is_exit_code_4(admitted: Home) -> None:
    MirrorFile(admitted.path / MIRROR).fail(ACCESS, ForkError("the access log has two histories"))
    result = status(admitted)
    assert result.exit_code == 4
    assert "the access log has two histories" in result.stdout


class ServingTransport(FakeTransport):
    """A broker that serves, and whose access log has the checkpoint `note`."""

    serving = HealthCheckResponse.SERVING
    note = b""

    async def unary(self, method: str, request: bytes, timeout: float) -> bytes:
        if method == HEALTH_CHECK:
            return await super().unary(method, request, timeout)
        if method == DIRECTORY_SYNC:
            note = sign_checkpoint(Checkpoint("city.example/directory", 0, EMPTY_ROOT), DIRECTORY_LOG)
            return DirectoryServiceSyncResponse(checkpoint=note).SerializeToString()
        if method == ACCESS_READ:
            return ReadResponse(checkpoint=self.note).SerializeToString()
        raise UnavailableError("the log has no such size", status="OUT_OF_RANGE")


@pytest.mark.parametrize(
    ("size", "root", "exit_code", "message"),
    [
        (17, bytes(32), 0, "17 entries at the last checkpoint"),
        (16, bytes(32), 4, "the access log had 17 entries, and now has 16"),
        (17, b"\x01" * 32, 4, "the access log of 17 entries does not go on from that of 17"),
    ],
)
def test_an_access_log_that_was_rolled_back_is_found_out(
    admitted: Home, monkeypatch: pytest.MonkeyPatch, size: int, root: bytes, exit_code: int, message: str
) -> None:
    seen = sign_checkpoint(Checkpoint("city.example/access", 17, bytes(32)), ACCESS_LOG)
    assert MirrorFile(admitted.path / MIRROR).move_head(ACCESS, b"", seen)
    shown = sign_checkpoint(Checkpoint("city.example/access", size, root), ACCESS_LOG)
    monkeypatch.setattr(ServingTransport, "note", shown)
    monkeypatch.setattr(standing, "GrpcTransport", ServingTransport)
    monkeypatch.setattr(session, "GrpcTransport", ServingTransport)
    result = status(admitted)
    assert (result.exit_code, message in result.stdout) == (exit_code, True), result.output
    # For good: the next command refuses to go on.
    assert (MirrorFile(admitted.path / MIRROR).failure() is not None) == (exit_code == 4)


def test_one_entry_is_one(admitted: Home) -> None:
    note = sign_checkpoint(Checkpoint("city.example/access", 1, bytes(32)), ACCESS_LOG)
    assert MirrorFile(admitted.path / MIRROR).move_head(ACCESS, b"", note)
    assert "1 entry at the last checkpoint" in status(admitted).stdout


def test_a_key_that_waits_says_from_when_it_is_valid(home: Home) -> None:
    digest = key_id(home.signer().public_key)
    record = SimpleNamespace(revoked_index=None, not_before=2**42, not_after=2**43)
    directory = SimpleNamespace(state=SimpleNamespace(keys={digest: record}))
    [key] = standing._keys(home, directory)  # type: ignore[arg-type]
    assert key.state == "not valid yet: takes effect 2109-05-15T07:35:11Z after 72 hours in public view"


def test_where_the_root_key_is_kept_elsewhere_the_rest_is_shown(tmp_path: Path) -> None:
    home = Home.create(tmp_path / "operator", Party("city.example"), "root")
    assert "signing key  kept elsewhere, as it should be" in status(home).stdout
    assert json.loads(status(home, "--json").stdout)["keys"] == []


def test_a_department_without_its_key_is_told_where_to_get_it(home: Home) -> None:
    (home.keys / "signing.pem").unlink()
    assert "signing key  NOT here: restore it from this home's backup" in status(home).stdout


def test_who_used_an_invite_is_told_how_to_ask_for_its_approval(home: Home) -> None:
    home.write("invite.json", b"")
    for line in ("exchange     no trust file yet", "certificate  none yet"):
        assert f"{line}: it waits to be approved: `exchange join --status --home {home.path}`" in status(home).stdout


# --- witnesses


def witnessed(home: Home) -> Home:
    """The home with a quorum in its trust file."""
    home.write("trust.toml", encode_trust(dataclasses.replace(home.trust, policy=POLICY)).encode())
    return home


class WitnessedTransport(ServingTransport):
    """A broker whose logs witnesses have cosigned, so many of them, and so many seconds ago."""

    witnesses = 3
    age = 0

    async def unary(self, method: str, request: bytes, timeout: float) -> bytes:
        if method == DIRECTORY_COSIGNED:
            note = self.cosigned(Checkpoint("city.example/directory", 0, EMPTY_ROOT), DIRECTORY_LOG)
            return DirectoryServiceCosignedResponse(cosigned=note).SerializeToString()
        if method == ACCESS_COSIGNED:
            note = self.cosigned(Checkpoint("city.example/access", 0, EMPTY_ROOT), ACCESS_LOG)
            return LogServiceCosignedResponse(cosigned=note).SerializeToString()
        return await super().unary(method, request, timeout)

    def cosigned(self, checkpoint: Checkpoint, signer: NoteSigner) -> bytes:
        text = encode_checkpoint(checkpoint).encode()
        time = int(datetime.datetime.now(datetime.UTC).timestamp()) - self.age
        lines = [str(cosigner.cosign(text, time)).encode() for cosigner in COSIGNERS[: self.witnesses]]
        return sign_checkpoint(checkpoint, signer) + b"".join(lines)


@pytest.fixture
def reached(admitted: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr(
        WitnessedTransport, "note", sign_checkpoint(Checkpoint("city.example/access", 0, EMPTY_ROOT), ACCESS_LOG)
    )
    monkeypatch.setattr(standing, "GrpcTransport", WitnessedTransport)
    monkeypatch.setattr(session, "GrpcTransport", WitnessedTransport)
    return witnessed(admitted)


def test_it_shows_which_witnesses_cosigned_each_log_and_when(reached: Home) -> None:
    result = status(reached)
    assert result.exit_code == 0, result.output
    shown = result.stdout
    for log in ("directory", "access"):
        assert f"{log} witnesses  quorum met at 0 entries" in shown.replace("access witnesses   ", "access witnesses")
    assert shown.count("two, 0 seconds ago") + shown.count("two, 1 seconds ago") == 2
    assert "split view" not in shown
    assert "! " not in shown


def test_programs_are_told_the_same(reached: Home) -> None:
    shown = json.loads(status(reached, "--json").stdout)
    assert shown["caveats"] == []
    assert [(log["log"], log["quorum"], log["fresh"]) for log in shown["witnesses"]] == [
        ("city.example/directory", True, True),
        ("city.example/access", True, True),
    ]
    assert [item["witness"] for item in shown["witnesses"][0]["cosignatures"]] == ["one", "two", "three"]


def test_a_quorum_that_is_not_met_is_said(reached: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WitnessedTransport, "witnesses", 1)
    shown = status(reached).stdout
    assert shown.count("quorum NOT met") == 2
    assert "! split view not excluded: too few witnesses have cosigned" in shown


def test_cosignatures_that_are_too_old_are_said(reached: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WitnessedTransport, "age", 301)
    assert "! split view not excluded: what the witnesses cosigned is too old" in status(reached).stdout


def test_receipts_that_are_late_are_an_alarm(reached: Home) -> None:
    now = int(datetime.datetime.now(datetime.UTC).timestamp() * 1000)
    kept = [KeptReceipt(7, now, b"x", False), KeptReceipt(8, now - 61_000, b"x", False)]
    ReceiptFile(reached.path / "receipts.db").keep(kept)
    assert "2 not cosigned yet, 1 of them for over a minute: ALARM" in status(reached).stdout
    assert json.loads(status(reached, "--json").stdout)["receipts"] == {"not_cosigned": 2, "late": 1}


def test_where_no_broker_can_be_asked_a_split_view_is_not_excluded(admitted: Home) -> None:
    shown = json.loads(status(witnessed(admitted), "--json").stdout)
    assert [log["quorum"] for log in shown["witnesses"]] == [False, False]
    assert shown["caveats"] == ["split view not excluded: too few witnesses have cosigned"]
