"""`exchange key rotate`, `renew`, `revoke`, `recover`, `pending`, `cancel` and `exchange certificates`, in memory."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from grpc_health.v1.health_pb2 import HealthCheckResponse
from typer.testing import CliRunner, Result

import exchange.cli.frame.acting
import exchange.cli.frame.times
import exchange.cli.health.standing as standing
import exchange.cli.keys.certificates
import exchange.cli.keys.succeeding
from exchange.cli.joining.admission import Admission, read_key_request
from exchange.cli.main import app
from exchange.client.session import Session
from exchange.core.entries import key_entry
from exchange.core.envelope import sign
from exchange.core.keys import key_id
from exchange.core.lifetimes import DAY, SYSTEM_KEY
from exchange.core.names import Party
from exchange.core.trust import encode_trust
from exchange.home import Home
from exchange.succession import next_signer
from exchange.v1.directory_pb2 import Role
from tests.drafts import accepted, key_draft
from tests.memory import signer
from tests.renewing import AUTHORITY, Renewing, certified_home, moment, trusted
from tests.world import APPLICATIONS, EXCHANGE, HOUSING, ORIGIN, POPULATION, REGISTRY, START, World

PARTIES = {
    "housing": (HOUSING, "department"),
    "population": (POPULATION, "department"),
    "applications": (APPLICATIONS, "system"),
    "registry": (REGISTRY, "system"),
    "operator": (EXCHANGE, "root"),
}


@pytest.fixture
def world() -> World:
    world = World.standard()
    world.admit(REGISTRY, Role.ROLE_SYSTEM, signer("registry's"), validity=(START - DAY, START + SYSTEM_KEY))
    return world


@pytest.fixture
def homes(tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Everybody's home; each command speaks to a broker that knows who calls."""
    for name, (party, role) in PARTIES.items():
        certified_home(tmp_path / name, world, party, role)

    def session(home: Home) -> Session:
        broker = Renewing(world, home.party)
        return Session(home, broker, broker.clock)

    for module in (exchange.cli.frame.acting, exchange.cli.keys.succeeding, exchange.cli.keys.certificates):
        monkeypatch.setattr(module, "Session", session)
    monkeypatch.setattr(exchange.cli.frame.times, "time", SimpleNamespace(time_ns=lambda: world.now * 1_000_000))
    return tmp_path


def run(home: Path, *arguments: object) -> Result:
    return CliRunner().invoke(app, [*(str(item) for item in arguments), "--home", str(home)])


def done(home: Path, *arguments: object) -> str:
    result = run(home, *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def admit(world: World, home: Path, parent: Party) -> Path:
    """What the parent does with the request of a home: an entry, and the admission."""
    request = read_key_request((home / "request-next.json").read_bytes(), world.now)
    draft = key_entry(parent, world.fresh(16), request.statement, request.csr)
    applied = world.append_envelope(sign(world.keys[parent], ORIGIN, draft))
    assert not applied.reason
    certificate = AUTHORITY.issue(request.csr, request.party, request.fingerprint, moment(world.now))
    path = home / "admission.json"
    path.write_bytes(Admission(request.party, certificate, encode_trust(trusted(world))).encode())
    return path


def public(home: Path) -> bytes:
    return Home(home).signer().public_key


# --- rotate -------------------------------------------------------------------------------------------


def test_a_system_rotates_its_key_in_one_command(world: World, homes: Path) -> None:
    old = public(homes / "registry")
    text = done(homes / "registry", "key", "rotate")
    assert text.startswith("The new signing key is in the directory, and in use.")
    assert "exchange key revoke --replaced" in text
    assert world.directory.state.keys[key_id(public(homes / "registry"))].party == REGISTRY
    assert public(homes / "registry") != old


def test_a_system_that_was_succeeded_already_is_sent_to_its_department(world: World, homes: Path) -> None:
    world.admit(REGISTRY, Role.ROLE_SYSTEM, signer("another"))
    world.keys[REGISTRY] = signer("registry's")
    result = run(homes / "registry", "key", "rotate")
    assert result.exit_code == 1
    assert "has a later key already" in result.stderr
    assert "hint: its department signs the new key: exchange key rotate --by-department" in result.stderr
    assert public(homes / "registry") == signer("registry's").public_key


def test_a_system_goes_over_to_a_key_that_its_department_signed(world: World, homes: Path) -> None:
    home = homes / "registry"
    shown = json.loads(done(home, "key", "rotate", "--by-department", "--json"))
    assert (shown["in_use"], shown["vouched_for_by_old_key"]) == (False, False)
    waiting = next_signer(Home(home))
    assert waiting is not None
    result = run(home, "key", "install", admit(world, home, POPULATION))
    assert result.exit_code == 0, result.output
    assert "is in use" in result.stderr
    assert public(home) == waiting.public_key
    Home(home).tls_identity()


def test_a_department_rotates_with_its_old_keys_word_and_nobody_waits(world: World, homes: Path) -> None:
    home = homes / "housing"
    old = public(home)
    text = done(home, "key", "rotate")
    assert "exchange department admit request-next.json" in text
    # The same command again is the same request: it may have been sent already.
    before = (home / "request-next.json").read_bytes()
    done(home, "key", "rotate")
    assert (home / "request-next.json").read_bytes() == before
    assert public(home) == old
    done(home, "key", "install", admit(world, home, EXCHANGE))
    assert public(home) != old
    assert world.directory.role_of(HOUSING, world.now) == Role.ROLE_DEPARTMENT
    assert world.directory.is_usable(world.directory.state.keys[key_id(public(home))], world.now)


def test_an_installation_cut_short_is_gone_on_with(world: World, homes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = homes / "housing"
    done(home, "key", "rotate")
    admission = admit(world, home, EXCHANGE)
    new = next_signer(Home(home))
    assert new is not None

    def fails(*_: object) -> None:
        raise OSError("no power")

    with monkeypatch.context() as patch:
        patch.setattr(Home, "adopt_key", fails)
        assert run(home, "key", "install", admission).exit_code != 0
    Home(home).tls_identity()
    assert json.loads(done(home, "key", "rotate", "--json"))["key"] == key_id(new.public_key).hex()
    assert public(home) == new.public_key


@pytest.mark.parametrize("role", ["root", "broker", "witness"])
def test_the_keys_of_the_exchange_itself_are_not_rotated_so(homes: Path, tmp_path: Path, role: str) -> None:
    Home.create(tmp_path / "x", Party(ORIGIN, "x"), role)
    for command in ("rotate", "recover"):
        result = run(tmp_path / "x", "key", command)
        assert result.exit_code == 2
        assert f"the key of a {role} is not" in result.stderr


# --- renew --------------------------------------------------------------------------------------------


def test_a_certificate_is_renewed_by_a_command(world: World, homes: Path) -> None:
    before = Home(homes / "housing").read("tls.pem")
    assert "2027-04-15" in done(homes / "housing", "key", "renew")
    assert Home(homes / "housing").read("tls.pem") != before
    assert json.loads(done(homes / "housing", "key", "renew", "--json"))["party"] == str(HOUSING)


def test_a_revoked_key_renews_no_certificate(world: World, homes: Path) -> None:
    world.revoke(key_id(public(homes / "registry")), POPULATION)
    result = run(homes / "registry", "key", "renew")
    assert result.exit_code == 1
    assert "is revoked: no certificate is issued for it" in result.stderr


def test_a_broker_renews_by_itself(homes: Path, tmp_path: Path) -> None:
    Home.create(tmp_path / "broker", Party(ORIGIN, "broker"), "broker")
    assert "by itself" in run(tmp_path / "broker", "key", "renew").stderr


# --- revoke -------------------------------------------------------------------------------------------


def test_a_revocation_lists_what_the_key_signed_since(world: World, homes: Path) -> None:
    request = world.request()
    world.release(request, world.respond(request))
    key = key_id(public(homes / "applications"))
    text = done(homes / "housing", "key", "revoke", key.hex()[:12], "--since", "2027-01-01", "--reason", "stolen")
    assert "Revoked the signing key" in text
    assert "It signed 1 entry of the access log since 2027-01-01T00:00:00Z" in text
    assert f"exchange-audit search --key {key.hex()}" in text
    assert world.directory.state.keys[key].revoked_index is not None


def test_what_was_signed_before_is_not_listed(world: World, homes: Path) -> None:
    request = world.request()
    world.release(request, world.respond(request))
    world.now += DAY
    key = key_id(public(homes / "applications")).hex()
    done_ = done(homes / "housing", "key", "revoke", key, "--since", "2027-01-16", "--reason", "stolen", "--json")
    assert json.loads(done_)["accesses"] == []


def test_the_keys_that_a_stolen_one_gave_its_party_since_end_with_it(world: World, homes: Path) -> None:
    old = key_id(world.keys[REGISTRY].public_key)
    for label in ("thief", "thief's next"):
        draft = key_draft(world, REGISTRY, "SYSTEM", REGISTRY, key=signer(label), not_after=START + DAY)
        accepted(world, draft, REGISTRY)
        world.keys[REGISTRY] = signer(label)
    text = done(
        homes / "population", "key", "revoke", old.hex(), "--since", "2027-01-15", "--reason", "stolen", "--json"
    )
    ended = {item["key"] for item in json.loads(text)["revoked"]}
    assert ended == {old.hex(), *(key_id(signer(label).public_key).hex() for label in ("thief", "thief's next"))}
    keys = world.directory.state.keys
    assert not any(world.directory.is_usable(keys[bytes.fromhex(key)], world.now) for key in ended)


def test_the_successor_of_a_key_that_is_merely_replaced_stands(world: World, homes: Path) -> None:
    old = public(homes / "registry")
    done(homes / "registry", "key", "rotate")
    text = done(homes / "registry", "key", "revoke", key_id(old).hex()[:16], "--reason", "Replaced")
    assert f"It gave {REGISTRY} the key {key_id(public(homes / 'registry')).hex()[:4]}" in text
    assert world.directory.role_of(REGISTRY, world.now) == Role.ROLE_SYSTEM


def test_the_keys_that_were_replaced_are_ended_by_one_command(world: World, homes: Path) -> None:
    old = key_id(public(homes / "registry"))
    done(homes / "registry", "key", "rotate")
    text = done(homes / "registry", "key", "revoke", "--replaced", "--reason", "Replaced", "--json")
    # The world's first key of the registry stands too.
    ended = {item["key"] for item in json.loads(text)["revoked"]}
    assert old.hex() in ended
    standing = [key for key in world.directory.state.keys_of(REGISTRY) if key.revoked_index is None]
    assert key_id(public(homes / "registry")) in {key.key_id for key in standing}
    assert not ended & {key.key_id.hex() for key in standing}
    assert "No earlier key stands" in done(homes / "registry", "key", "revoke", "--replaced", "--reason", "Replaced")


def test_a_key_that_is_not_in_force_has_replaced_none(world: World, homes: Path) -> None:
    assert run(homes / "housing", "key", "install", recovering(world, homes)).exit_code == 0
    result = run(homes / "housing", "key", "revoke", "--replaced", "--reason", "Replaced")
    assert result.exit_code == 1
    assert "not in force" in result.stderr
    assert run(homes / "housing", "key", "revoke", "ab" * 8, "--replaced", "--reason", "x").exit_code == 2


def test_a_home_ends_the_key_that_it_signs_with_and_is_shut_out(world: World, homes: Path) -> None:
    key = key_id(public(homes / "registry"))
    done(homes / "registry", "key", "revoke", key.hex(), "--reason", "stolen")
    assert world.directory.state.keys[key].revoked_index is not None
    result = run(homes / "registry", "key", "rotate")
    assert result.exit_code == 1
    assert "is revoked" in result.stderr


def test_without_a_key_those_that_stand_are_named(homes: Path) -> None:
    result = run(homes / "population", "key", "revoke", "--reason", "stolen")
    assert result.exit_code == 2
    assert "which key?" in result.stderr
    assert f"of {REGISTRY}" in result.stderr
    assert str(HOUSING) not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["zz"], "not a key's id"),
        (["0" * 64], "no keys that may be revoked here"),
        (["abcdef12", "--since", "soon"], "--since: not a time"),
        (["abcdef12", "--since", "2999-01-01"], "not a time that has been"),
        (["abcdef12", "--reason", " "], "--reason"),
    ],
)
def test_what_cannot_be_meant_changes_nothing(world: World, homes: Path, arguments: list[str], message: str) -> None:
    size = world.directory.size
    result = run(homes / "population", "key", "revoke", "--reason", "stolen", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert world.directory.size == size


# --- recover ------------------------------------------------------------------------------------------


def recovering(world: World, homes: Path) -> Path:
    """The signing key is gone; the root has signed another."""
    home = homes / "housing"
    (home / "keys" / "signing.pem").unlink()
    assert "72 hours" in done(home, "key", "recover")
    return admit(world, home, EXCHANGE)


def test_a_lost_key_is_recovered_after_72_hours(world: World, homes: Path) -> None:
    admission = recovering(world, homes)
    home = homes / "housing"
    result = run(home, "key", "install", admission)
    assert result.exit_code == 0, result.output
    key = world.directory.state.keys[key_id(public(home))]
    assert key.not_before == START + 3 * DAY
    world.now = START + 3 * DAY
    assert world.directory.is_usable(key, world.now)
    assert key.key_id.hex()[:16] in run(home, "key", "revoke", "--reason", "x").stderr


def test_everybody_sees_a_pending_key_and_when_it_takes_effect(world: World, homes: Path) -> None:
    assert "No key stands in public view" in done(homes / "registry", "key", "pending")
    recovering(world, homes)
    for name in ("population", "registry", "applications"):
        [shown] = json.loads(done(homes / name, "key", "pending", "--json"))
        assert (shown["party"], shown["takes_effect"]) == (str(HOUSING), "2027-01-18T08:00:00Z")
        assert "2027-01-18 08:00:00" in done(homes / name, "key", "pending")


def test_the_old_key_cancels_a_recovery_that_nobody_asked_for(world: World, homes: Path) -> None:
    old = (homes / "housing" / "keys" / "signing.pem").read_bytes()
    recovering(world, homes)
    holder = homes / "holder"
    certified_home(holder, world, HOUSING, "department")
    assert (holder / "keys" / "signing.pem").read_bytes() == old
    [shown] = json.loads(done(holder, "key", "pending", "--json"))
    assert "never takes effect" in done(holder, "key", "cancel", shown["key"][:16])
    assert json.loads(done(holder, "key", "pending", "--json")) == []
    world.now = START + 4 * DAY
    assert world.directory.state.keys[bytes.fromhex(shown["key"])].revoked_index is not None


def test_another_party_cancels_nothing(world: World, homes: Path) -> None:
    recovering(world, homes)
    [shown] = json.loads(done(homes / "population", "key", "pending", "--json"))
    result = run(homes / "population", "key", "cancel", shown["key"])
    assert result.exit_code == 1
    assert "cannot revoke a key of" in result.stderr
    assert run(homes / "population", "key", "cancel", "0" * 16).exit_code == 2


# --- status -------------------------------------------------------------------------------------------


@pytest.fixture
def serving(homes: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Homes whose status can be asked for: the broker serves."""

    class Serving:
        """What answers whether it does."""

        def __init__(self, brokers: object, identity: object) -> None:
            """Connects to nobody."""

        async def unary(self, method: str, request: bytes, timeout: float) -> bytes:
            return HealthCheckResponse(status=HealthCheckResponse.SERVING).SerializeToString()

        def announced(self, broker: str) -> None:
            """Nothing is said of versions."""

        async def close(self) -> None:
            return None

    monkeypatch.setattr(standing, "GrpcTransport", Serving)
    monkeypatch.setattr(standing, "Session", exchange.cli.frame.acting.Session)
    return homes


@pytest.mark.parametrize("name", ["population", "registry", "applications"])
def test_the_status_of_every_party_shows_keys_in_public_view(world: World, serving: Path, name: str) -> None:
    assert "in public view" not in done(serving / name, "status")
    recovering(world, serving)
    text = done(serving / name, "status")
    [line] = [line for line in text.splitlines() if line.startswith("in public view")]
    assert f"{HOUSING}: " in line
    assert "from 2027-01-18 08:00:00 UTC" in line
    [shown] = json.loads(done(serving / name, "status", "--json"))["in_public_view"]
    assert shown["party"] == str(HOUSING)


@pytest.mark.parametrize(("days", "warning"), [(29, None), (30, 60), (60, 30), (83, 7)])
def test_status_warns_of_what_ends_soon(world: World, serving: Path, days: int, warning: int | None) -> None:
    world.now = START + days * DAY
    shown = json.loads(done(serving / "housing", "status", "--json"))["expiring"]
    assert [item["warning_days"] for item in shown if item["what"] == "TLS certificate"] == (
        [warning] if warning else []
    )
    text = done(serving / "housing", "status")
    assert ("ends soon" in text) == bool(shown)
    assert ("exchange key renew" in text) == (warning is not None)


# --- certificates -------------------------------------------------------------------------------------


def test_what_ends_soon_is_listed_with_who_renews_it(world: World, homes: Path) -> None:
    world.now = START + 70 * DAY
    text = done(homes / "population", "certificates", "--within", "30d")
    assert "TLS certificate" in text
    assert "exchange key renew" in text
    assert "Nothing ends within 7 days." in done(homes / "population", "certificates", "--within", "7d")
    shown = json.loads(done(homes / "registry", "certificates", "--within", "400d", "--json"))
    assert {item["what"] for item in shown["expiring"]} == {"TLS certificate", "signing key"}
    assert all(item["renews_itself"] for item in shown["expiring"])


def test_the_operator_sees_everybodys_keys(homes: Path) -> None:
    text = done(homes / "operator", "certificates", "--within", "9999d")
    assert all(str(party) in text for party in (HOUSING, POPULATION, REGISTRY, APPLICATIONS))
    [broker] = [line for line in text.splitlines() if f"{ORIGIN}/broker" in line]
    assert broker.endswith("exchange broker add")


def test_what_has_ended_already_is_told_by_the_exit_code(world: World, homes: Path) -> None:
    world.now = START + 91 * DAY
    result = run(homes / "population", "certificates")
    assert result.exit_code == 1
    assert "expired" in result.stdout


@pytest.mark.parametrize("typed", ["30", "0d", "-1d", "d", "1000000d", "soon"])
def test_a_time_that_is_no_number_of_days_is_wrong_usage(homes: Path, typed: str) -> None:
    result = run(homes / "population", "certificates", f"--within={typed}")
    assert result.exit_code == 2
    assert "--within: not a number of days" in result.stderr


def test_a_broker_out_of_reach_is_said_beside_what_is_known(
    homes: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    done(homes / "population", "certificates")

    def session(home: Home) -> Session:
        broker = Renewing(world, home.party)
        broker.down = 1000
        return Session(home, broker, broker.clock)

    monkeypatch.setattr(exchange.cli.keys.certificates, "Session", session)
    result = run(homes / "population", "certificates", "--within", "400d", "--json")
    assert json.loads(result.stdout)["up_to_date"] is False
    assert "could not be read anew" in result.stderr
