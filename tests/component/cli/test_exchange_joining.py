"""Joining by the commands, against a broker's own services in memory."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from typer.testing import CliRunner, Result

import exchange.cli.frame.acting
import exchange.cli.frame.times
import exchange.cli.joining.arriving
import exchange.cli.joining.join
from exchange.broker.authority import found_authority
from exchange.broker.joining import InvitationService, JoiningService
from exchange.broker.limits import AddressBuckets
from exchange.broker.status import status_of
from exchange.cli.frame.output import grouped
from exchange.cli.main import app
from exchange.client.call_errors import error_of
from exchange.client.calls import call
from exchange.client.errors import ExchangeError, UnavailableError
from exchange.client.joining import Entrance
from exchange.client.session import Appended
from exchange.core.directory import Directory
from exchange.core.envelope import Draft, Envelope
from exchange.core.keys import key_id
from exchange.core.names import Party
from exchange.core.note import NoteSigner
from exchange.core.trust import Trust, encode_trust
from exchange.core.wire import encode
from exchange.home import Home, HomeError, write_file
from exchange.transport import JOIN
from exchange.v1.directory_pb2 import KeyStatement
from exchange.v1.joining_pb2 import JoinRequest, JoinResponse
from tests.certificates import AUTHORITY_KEY, NOW
from tests.fixtures import logged
from tests.joining import SCHOOLS, Office
from tests.memory import fixed, signer
from tests.world import DAY, EXCHANGE, ORIGIN, POPULATION, World

__all__ = ["logged"]

AUTHORITY = found_authority(AUTHORITY_KEY, ORIGIN, NOW)
LOGS = [
    NoteSigner(f"{ORIGIN}/{log}", ed25519.Ed25519PrivateKey.from_private_bytes(fixed(log))).verifier
    for log in ("directory", "access")
]
TRUST = Trust(ORIGIN, signer("root").public_key, LOGS[0], LOGS[1], AUTHORITY.pem.decode(), ("b.city.example:7443",))
ROOT = grouped(key_id(signer("root").public_key))


class Services:
    """A transport that leads straight into a broker's handlers; a peer's name stands for its certificate."""

    def __init__(self, office: Office, peer: Party | None) -> None:
        peers: Any = SimpleNamespace(spend=lambda call: peer)
        self._handlers = {
            f"/exchange.v1.InvitationService/{name}": handler
            for name, handler in InvitationService(office.invites, peers, "b.city.example:7444").handlers().items()
        }
        if peer is None:
            joining = JoiningService(office.invites, AddressBuckets(1000, 1000), lambda: office.now)
            self._handlers = {JOIN: joining.handlers()["Join"]}

    async def unary(self, method: str, request: bytes, timeout: float) -> bytes:
        context: Any = SimpleNamespace(peer=lambda: "ipv4:192.0.2.7:1")
        try:
            return await self._handlers[method](request, context)
        except Exception as error:
            status = status_of(error)
            import grpc

            code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
            raise error_of(code, status.message, status) from error

    async def close(self) -> None:
        return None


class OfficeSession:
    """A session of a parent: it appends what the rules accept."""

    office: Office

    def __init__(self, home: Home) -> None:
        self.home, self.party = home, home.party
        self.transport = Services(self.office, home.party)

    async def __aenter__(self) -> "OfficeSession":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    @property
    def directory(self) -> Directory:
        return self.office.world.directory

    async def sync(self) -> Directory:
        return self.directory

    def sign(self, draft: Draft) -> Envelope:
        return self.office.world.sign(draft, self.party)

    async def append(self, envelope: Envelope) -> Appended:
        applied = self.office.world.append_envelope(envelope)
        if applied.reason:
            raise ExchangeError(applied.reason)
        return Appended(applied.index, bytes(32), b"")


@pytest.fixture
def office(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, logged: object) -> Office:
    world = World.standard()
    office = Office(world)

    async def hand_in(entrance: Entrance, party: str, statement: KeyStatement, csr: bytes) -> JoinResponse:
        assert entrance.address == "b.city.example:7444"
        assert entrance.authority == TRUST.tls_ca.encode()
        request = JoinRequest(party=party, code=entrance.code, statement=encode(statement), csr=csr)
        return await call(Services(office, None), JOIN, request, JoinResponse, 1.0)

    monkeypatch.setattr(exchange.cli.frame.acting, "Session", type("Session", (OfficeSession,), {"office": office}))
    monkeypatch.setattr(exchange.cli.joining.arriving, "hand_in", hand_in)
    monkeypatch.setattr(exchange.cli.frame.times, "time", SimpleNamespace(time_ns=lambda: office.now * 1_000_000))
    monkeypatch.chdir(tmp_path)
    for party, role, key in ((EXCHANGE, "root", "root"), (POPULATION, "department", str(POPULATION))):
        home = Home.create(tmp_path / ("operator" if role == "root" else "population"), party, role)
        home.write("trust.toml", encode_trust(TRUST).encode())
        assert signer(key).public_key == world.keys[party].public_key
        write_file(home.keys / "signing.pem", b"the key of a test stands in its world", 0o600)
    return office


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(item) for item in arguments])


def must(*arguments: object) -> str:
    done = run(*arguments)
    assert done.exit_code == 0, done.stderr
    return done.stdout


def invite(name: str = "schools", *more: object) -> None:
    must("department", "invite", name, "--home", "operator", *more)


def fingerprint(home: str = "schools", file: str = "schools.invite") -> str:
    shown = json.loads(must("join", file, "--home", home, "--json"))
    assert shown["state"] == "waiting"
    return str(shown["fingerprint"])


def files_of(home: str) -> list[str]:
    return sorted(path.name for path in Path(home).iterdir())


# --- the way that it should go


def test_a_department_joins_by_its_invite(office: Office) -> None:
    told = must("department", "invite", str(SCHOOLS), "--expires", "7d", "--home", "operator")
    assert ROOT in told
    assert Path("schools.invite").stat().st_mode & 0o777 == 0o600
    waiting = must("join", "schools.invite", "--home", "schools")
    assert ROOT in waiting
    assert "waits for the operator" in waiting
    assert files_of("schools") == ["invite.json", "keys", "party.toml", "request.json"]
    pending = must("department", "pending", "--home", "operator")
    [print_] = [line for line in waiting.splitlines() if line.startswith("fingerprint")]
    typed = print_.removeprefix("fingerprint").strip()
    assert typed in pending
    assert must("join", "--status", "--home", "schools").startswith(f"{SCHOOLS} waits for the operator")
    assert "Approved" in must("department", "approve", "schools", "--fingerprint", typed, "--home", "operator")
    assert f"{SCHOOLS} has joined" in must("join", "--status", "--home", "schools")
    assert files_of("schools") == ["keys", "party.toml", "request.json", "tls.pem", "trust.toml"]
    assert Home(Path("schools")).trust == TRUST
    assert must("department", "pending", "--home", "operator") == "Nobody waits, and no invite is open.\n"
    assert "approved" in must("department", "pending", "--all", "--home", "operator")


def test_a_system_joins_its_department(office: Office) -> None:
    must("system", "invite", "archive", "--home", "population")
    typed = fingerprint("archive", "archive.invite")
    must("system", "approve", "archive", "--fingerprint", typed, "--home", "population")
    shown = json.loads(must("join", "--status", "--home", "archive", "--json"))
    assert (shown["state"], shown["role"], shown["party"]) == ("approved", "system", f"{POPULATION}/archive")


def test_status_says_what_it_waits_for_and_since_when(office: Office) -> None:
    invite()
    fingerprint()
    office.now += 3 * DAY
    told = must("join", "--status", "--home", "schools")
    assert "waits for the operator" in told
    assert "(3 days ago)" in told
    shown = json.loads(must("join", "--status", "--home", "schools", "--json"))
    assert (shown["state"], shown["waits_for"], shown["since"]) == ("waiting", "the operator", "2027-01-15T08:00:00Z")


def test_waiting_ends_with_the_approval(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    invite()
    typed = fingerprint()

    def pause(seconds: float) -> None:
        must("department", "approve", "schools", "--fingerprint", typed, "--home", "operator")

    monkeypatch.setattr(exchange.cli.joining.join, "time", SimpleNamespace(sleep=pause))
    assert "has joined" in must("join", "--wait", "--home", "schools")


def test_waiting_outlasts_a_broker_that_is_started_anew(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    invite()
    typed, real = fingerprint(), exchange.cli.joining.join.ask
    pauses = list[float]()

    def ask(arrival: Any) -> JoinResponse:
        if len(pauses) in (1, 2):
            raise UnavailableError("no broker could be reached")
        return real(arrival)

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            must("department", "approve", "schools", "--fingerprint", typed, "--home", "operator")

    monkeypatch.setattr(exchange.cli.joining.join, "ask", ask)
    monkeypatch.setattr(exchange.cli.joining.join, "time", SimpleNamespace(sleep=pause))
    done = run("join", "--wait", "--home", "schools")
    assert "has joined" in done.stdout, done.output
    assert done.stderr.count("asking again until it answers") == 1


def test_a_retry_after_a_lost_answer_has_the_same_keys(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    invite()
    real = exchange.cli.joining.arriving.hand_in

    async def lost(*arguments: Any) -> JoinResponse:
        await real(*arguments)
        raise UnavailableError("the answer was lost")

    with monkeypatch.context() as patched:
        patched.setattr(exchange.cli.joining.arriving, "hand_in", lost)
        assert run("join", "schools.invite", "--home", "schools").exit_code == 3
    [before] = json.loads(must("department", "pending", "--home", "operator", "--json"))
    assert fingerprint() == before["fingerprint"]


def test_the_root_key_may_be_kept_on_another_machine(office: Office) -> None:
    shutil.copytree("operator", "root")
    write_root_key(Path("root/keys/signing.pem"))
    Path("operator/keys/signing.pem").unlink()
    invite()
    typed = fingerprint()
    here = run("department", "approve", "schools", "--fingerprint", typed, "--home", "operator")
    assert here.exit_code == 3
    assert "--export FILE here" in here.stderr
    must("department", "approve", "schools", "--export", "schools.json", "--home", "operator")
    wrong = run("department", "sign", "schools.json", "--fingerprint", "0" * 64, "--home", "root")
    assert (wrong.exit_code, Path("schools.signed.json").exists()) == (5, False)
    must("department", "sign", "schools.json", "--fingerprint", typed, "--home", "root")
    must("department", "approve", "schools", "--import", "schools.signed.json", "--home", "operator")
    assert "has joined" in must("join", "--status", "--home", "schools")


def write_root_key(path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    from tests.memory import _P256_ORDER

    scalar = int.from_bytes(fixed("p256 root"), "big") % (_P256_ORDER - 1) + 1
    key = ec.derive_private_key(scalar, ec.SECP256R1())
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


# --- what is refused


@pytest.mark.parametrize(
    ("typed", "says"),
    [("0" * 64, "another fingerprint"), ("", "nobody has compared the fingerprint")],
)
def test_nothing_is_signed_without_the_right_fingerprint(office: Office, typed: str, says: str) -> None:
    invite()
    fingerprint()
    size = office.world.directory.size
    arguments = ["--fingerprint", typed] if typed else []
    done = run("department", "approve", "schools", *arguments, "--home", "operator")
    assert (done.exit_code, office.world.directory.size) == (5, size)
    assert says in done.stderr
    assert "nothing was signed" in done.stderr
    assert "--unchecked" not in done.stderr
    assert "waits for" in must("join", "--status", "--home", "schools")


def test_part_of_a_fingerprint_is_none(office: Office) -> None:
    invite()
    typed = fingerprint()
    assert run("department", "approve", "schools", "--fingerprint", typed[:16], "--home", "operator").exit_code == 2


def test_the_rejected_are_told_why(office: Office) -> None:
    invite()
    fingerprint()
    must("department", "reject", "schools", "--reason", "nobody answers the telephone", "--home", "operator")
    done = run("join", "--status", "--home", "schools")
    assert done.exit_code == 1
    assert "the operator has rejected" in done.stderr
    assert "nobody answers the telephone" in done.stderr
    approved = run("department", "approve", "schools", "--fingerprint", "0" * 64, "--home", "operator")
    assert approved.exit_code == 1
    assert "was rejected" in approved.stderr


def test_a_rejection_needs_its_reason(office: Office) -> None:
    invite()
    assert run("department", "reject", "schools", "--reason", " ", "--home", "operator").exit_code == 2
    assert run("department", "reject", "schools", "--home", "operator").exit_code == 2


def test_another_invite_serves_a_home_that_was_rejected(office: Office) -> None:
    invite()
    first = fingerprint()
    must("department", "reject", "schools", "--reason", "not yet", "--home", "operator")
    invite("schools", "--out", "second.invite")
    assert fingerprint("schools", "second.invite") == first


def test_a_used_invite_is_refused_with_other_keys(office: Office) -> None:
    invite()
    fingerprint()
    done = run("join", "schools.invite", "--home", "thief")
    assert done.exit_code == 1
    assert "used already, with another key" in done.stderr


def test_an_expired_invite_makes_nothing(office: Office) -> None:
    invite("schools", "--expires", "12h")
    office.now += DAY
    done = run("join", "schools.invite", "--home", "schools")
    assert (done.exit_code, Path("schools").exists()) == (1, False)
    assert "the invite has expired" in done.stderr
    assert "hint: " in done.stderr


def test_the_broker_refuses_an_expired_invite_whatever_the_clock_here_says(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    invite("schools", "--expires", "12h")
    slow = office.now
    office.now += DAY
    monkeypatch.setattr(exchange.cli.frame.times, "time", SimpleNamespace(time_ns=lambda: slow * 1_000_000))
    done = run("join", "schools.invite", "--home", "schools")
    assert done.exit_code == 1
    assert "the invite has expired: ask for another one" in done.stderr


def altered(text: str) -> str:
    return text.replace('"role": "department"', '"role": "auditor"')


def guessed(text: str) -> str:
    from exchange.cli.joining.invite_file import read_invite

    real = read_invite(text.encode())
    object.__setattr__(real, "code", bytes(32))
    return real.encode().decode()


@pytest.mark.parametrize(
    ("change", "exit_code", "says"), [(altered, 5, "was altered"), (guessed, 1, "there is no such invite")]
)
def test_refuses_an_altered_and_a_guessed_invite(
    office: Office, change: Callable[[str], str], exit_code: int, says: str
) -> None:
    invite()
    file = Path("schools.invite")
    file.write_text(change(file.read_text()))
    done = run("join", file, "--home", "schools")
    assert done.exit_code == exit_code
    assert says in done.stderr
    [shown] = json.loads(must("department", "pending", "--home", "operator", "--json"))
    assert (shown["state"], shown["fingerprint"]) == ("invited", None)


def test_another_root_than_the_one_on_the_telephone_is_refused_before_anything_is_sent(office: Office) -> None:
    invite()
    done = run("join", "schools.invite", "--root-fingerprint", "0" * 64, "--home", "schools")
    assert done.exit_code == 5
    assert "nothing was sent" in done.stderr
    [shown] = json.loads(must("department", "pending", "--home", "operator", "--json"))
    assert shown["state"] == "invited"
    must("join", "schools.invite", "--root-fingerprint", ROOT, "--home", "schools")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Schools", "write schools"),
        ("exchange://city.example/SCHOOLS", "write exchange://city.example/schools"),
        ("\u0455chools", "small letters a to z"),
        ("学校", "small letters a to z"),
        ("sch%6fols", "small letters a to z"),
        ("housing", "the name is taken"),
        ("hous1ng", "looks like exchange://city.example/housing"),
        ("exchange://town.example/schools", "does not lie below exchange://city.example"),
        ("exchange://city.example/housing/desk", "does not lie below exchange://city.example"),
    ],
)
def test_a_name_that_is_none_or_could_be_taken_for_another_is_not_invited(office: Office, name: str, says: str) -> None:
    done = run("department", "invite", name, "--home", "operator")
    assert done.exit_code in {1, 2}
    assert says in done.stderr
    assert not list(Path().glob("*.invite"))
    assert json.loads(must("department", "pending", "--all", "--home", "operator", "--json")) == []


def test_what_was_taken_meanwhile_is_not_approved(office: Office) -> None:
    """The broker's word is not taken for it: the directory that is verified here says who has which name."""
    invite()
    typed = fingerprint()
    from exchange.v1.directory_pb2 import Role

    office.world.admit(Party(ORIGIN, "sch00ls"), Role.ROLE_DEPARTMENT)
    size = office.world.directory.size
    done = run("department", "approve", "schools", "--fingerprint", typed, "--home", "operator")
    assert (done.exit_code, office.world.directory.size) == (1, size)
    assert "looks like exchange://city.example/sch00ls" in done.stderr


def test_a_home_of_somebody_else_is_left_alone(office: Office) -> None:
    invite()
    before = files_of("population")
    done = run("join", "schools.invite", "--home", "population")
    assert (done.exit_code, files_of("population")) == (2, before)
    assert "is the home of" in done.stderr


def test_whoever_has_joined_does_not_join_again(office: Office) -> None:
    invite()
    typed = fingerprint()
    must("department", "approve", "schools", "--fingerprint", typed, "--home", "operator")
    must("join", "--status", "--home", "schools")
    for arguments in (["--status"], ["--wait"], ["schools.invite"]):
        done = run("join", *arguments, "--home", "schools")
        assert done.exit_code == 2
        assert "has joined already" in done.stderr


@pytest.mark.parametrize("arguments", [[], ["schools.invite", "--status"]])
def test_the_invite_and_the_home_are_two_ways(office: Office, arguments: list[str]) -> None:
    invite()
    assert run("join", *arguments, "--home", "schools").exit_code == 2


def test_a_trust_file_that_is_another_is_not_replaced(office: Office) -> None:
    invite()
    typed = fingerprint()
    must("department", "approve", "schools", "--fingerprint", typed, "--home", "operator")
    other = encode_trust(Trust(ORIGIN, signer("x").public_key, LOGS[0], LOGS[1], TRUST.tls_ca, TRUST.brokers))
    Path("schools/trust.toml").write_text(other)
    done = run("join", "--status", "--home", "schools")
    assert (done.exit_code, Path("schools/trust.toml").read_text()) == (5, other)
    assert not Path("schools/tls.pem").exists()


def test_a_certificate_of_another_authority_is_not_installed(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec

    invite()
    typed = fingerprint()
    must("department", "approve", "schools", "--fingerprint", typed, "--home", "operator")
    other = found_authority(ec.generate_private_key(ec.SECP256R1()), ORIGIN, NOW)
    monkeypatch.setattr(office.invites, "_authority", other)
    done = run("join", "--status", "--home", "schools")
    assert done.exit_code == 5
    assert "not signed by the exchange's TLS authority" in done.stderr
    assert files_of("schools") == ["invite.json", "keys", "party.toml", "request.json"]


def test_a_signed_entry_of_another_key_is_not_appended(office: Office) -> None:
    shutil.copytree("operator", "root")
    write_root_key(Path("root/keys/signing.pem"))
    for name in ("schools", "museums"):
        invite(name)
        typed = fingerprint(name, f"{name}.invite")
        must("department", "approve", name, "--export", f"{name}.json", "--home", "operator")
        must("department", "sign", f"{name}.json", "--fingerprint", typed, "--home", "root")
    size = office.world.directory.size
    done = run("department", "approve", "schools", "--import", "museums.signed.json", "--home", "operator")
    assert (done.exit_code, office.world.directory.size) == (5, size)
    assert "another key than the one that waits" in done.stderr


@pytest.mark.parametrize("command", ["invite", "pending", "approve", "reject"])
def test_only_parents_invite(office: Office, command: str) -> None:
    more = {"pending": [], "reject": ["schools", "--reason", "x"]}.get(command, ["schools"])
    for group, home in (("department", "population"), ("system", "operator")):
        done = run(group, command, *more, "--home", home)
        assert done.exit_code == 2
        assert "choose the home with --home" in done.stderr


def test_an_invite_is_not_written_over_another_file(office: Office) -> None:
    Path("schools.invite").write_text("mine")
    done = run("department", "invite", "schools", "--home", "operator")
    assert (done.exit_code, Path("schools.invite").read_text()) == (2, "mine")
    assert office.store.of_parent(str(EXCHANGE)) == ()


def test_a_home_that_waits_says_so_to_whoever_acts_with_it(office: Office) -> None:
    invite()
    fingerprint()
    with pytest.raises(HomeError) as caught:
        _ = Home(Path("schools")).trust
    assert "it waits to be approved: `exchange join --status" in caught.value.hint
    with pytest.raises(HomeError) as caught:
        Home(Path("schools")).tls_identity()
    assert "it waits to be approved: `exchange join --status" in caught.value.hint


def test_a_home_that_was_not_finished_is_made_anew(office: Office) -> None:
    invite()
    Home.create(Path("schools"), SCHOOLS, "department", finished=False)
    for arguments in (["schools.invite"], ["--status"]):
        done = run("join", *arguments, "--home", "schools")
        assert done.exit_code == 2
        assert "was not finished" in done.stderr
        assert "hint: delete schools" in done.stderr
    shutil.rmtree("schools")
    fingerprint()
