"""Joining over the wire: the whole way, every fault of an invite, and the port that anybody may call."""

import asyncio
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from typer.testing import CliRunner, Result

from examples.city.stage import NAME, Stage
from exchange.cli.joining.invite_file import InviteFile, read_invite
from exchange.cli.main import app
from exchange.core.names import Party
from exchange.core.trust import encode_trust
from exchange.core.wire import encode
from exchange.home import Home
from exchange.transport import DIRECTORY_SYNC, HEALTH_CHECK, JOIN, MAX_JOIN, PENDING, open_anonymous_channel
from exchange.v1.joining_pb2 import JoinRequest, PendingRequest
from exchange.v1.log_pb2 import DirectoryServiceSyncRequest
from tests.e2e.processes import until

ROOT = Path(__file__).parents[2]

# The broker outlives whoever started it; the fixture ends it by its process id.
pytestmark = [
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class Exchange:
    """A running exchange, and a folder in which people type; every test has names of its own."""

    def __init__(self, stage: Stage, folder: Path) -> None:
        self.operator = stage.operator
        self.folder = folder
        self.broker = Home(stage.operator / "broker")

    def run(self, *arguments: object) -> Result:
        return CliRunner().invoke(app, [str(item) for item in arguments])

    def must(self, *arguments: object) -> str:
        done = self.run(*arguments)
        assert done.exit_code == 0, f"{arguments}\n{done.stdout}{done.stderr}"
        return done.stdout

    def department(self, *arguments: object) -> Result:
        return self.run("department", *arguments, "--home", self.operator)

    def invite(self, name: str, *more: object) -> Path:
        path = self.folder / f"{name}.invite"
        self.must("department", "invite", name, "--out", path, "--home", self.operator, *more)
        return path

    def altered(self, name: str, **changes: Any) -> Path:
        """An invite that somebody changed who knows how to make its digest fit again."""
        path = self.invite(name)
        path.write_bytes(replace(read_invite(path.read_bytes()), **changes).encode())
        return path

    def join(self, invite: Path, home: str) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.must("join", invite, "--home", self.folder / home, "--json"))
        return told

    def size(self) -> int:
        """Entries of the directory."""
        told = json.loads(self.must("status", "--home", self.operator, "--json"))
        return int(told["directory"]["size"])


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    stage = Stage(tmp_path_factory.mktemp("joining") / "city")
    try:
        stage.found()
        config = stage.operator / "broker" / "broker.toml"
        # As an operator would set it for an afternoon with many newcomers.
        config.write_text(config.read_text().replace("joins_per_second = 2\n", "joins_per_second = 1000\n"))
        config.write_text(config.read_text().replace("joins_burst = 20\n", "joins_burst = 1000\n"))
        stage.stop()
        stage.start_broker()
        yield Exchange(stage, tmp_path_factory.mktemp("desk"))
    finally:
        stage.stop()


def test_a_department_joins_and_is_a_party(exchange: Exchange) -> None:
    told = exchange.join(exchange.invite("schools"), "schools")
    assert told["state"] == "waiting"
    home = exchange.folder / "schools"
    assert not (home / "tls.pem").exists()
    done = exchange.department("approve", "schools", "--fingerprint", told["fingerprint"])
    assert done.exit_code == 0, done.stderr
    assert json.loads(exchange.must("join", "--status", "--home", home, "--json"))["state"] == "approved"
    assert Home(home).trust == Home(exchange.operator).trust
    assert "reachable" in exchange.must("status", "--home", home)
    # Its first act in the directory: a parent itself now.
    invite = exchange.folder / "records.invite"
    exchange.must("system", "invite", "records", "--out", invite, "--home", home)
    system = exchange.join(invite, "records")
    exchange.must("system", "approve", "records", "--fingerprint", system["fingerprint"], "--home", home)
    exchange.must("join", "--wait", "--home", exchange.folder / "records")
    assert "reachable" in exchange.must("status", "--home", exchange.folder / "records")


def test_a_restart_of_the_broker_loses_nothing_of_it(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "city")
    try:
        stage.found()
        own = Exchange(stage, tmp_path)
        invite = own.invite("schools")
        before = own.join(invite, "schools")
        stage.stop()
        stage.start_broker()
        assert own.join(invite, "schools") == before
        assert own.department("approve", "schools", "--fingerprint", before["fingerprint"]).exit_code == 0
        stage.stop()
        stage.start_broker()
        assert json.loads(own.must("join", "--status", "--home", tmp_path / "schools", "--json"))["state"] == "approved"
    finally:
        stage.stop()


# --- invites


def test_a_used_invite_is_good_for_nobody_else(exchange: Exchange) -> None:
    invite = exchange.invite("museums")
    first = exchange.join(invite, "museums")
    done = exchange.run("join", invite, "--home", exchange.folder / "thief")
    assert done.exit_code == 1
    assert "used already, with another key" in done.stderr
    # Whoever came first may come again.
    assert exchange.join(invite, "museums") == first


def test_an_expired_invite_is_refused_here_and_by_the_broker(exchange: Exchange) -> None:
    invite = read_invite(exchange.invite("parks").read_bytes())
    past = exchange.folder / "past.invite"
    past.write_bytes(replace(invite, expires_at=1_700_000_000_000).encode())
    done = exchange.run("join", past, "--home", exchange.folder / "parks")
    assert done.exit_code == 1
    assert "the invite has expired" in done.stderr
    assert not (exchange.folder / "parks").exists()


async def test_a_file_that_promises_more_time_gets_none(exchange: Exchange) -> None:
    """What counts is the broker's own record, not the file."""
    from hashlib import sha256

    from exchange.cli.joining import pending
    from exchange.client.errors import RefusedError
    from exchange.client.joining import Entrance, hand_in
    from exchange.client.session import Session, wall_clock
    from exchange.v1.directory_pb2 import KeyStatement, Role
    from exchange.v1.joining_pb2 import InviteRequest

    code, party = secrets.token_bytes(32), f"exchange://{NAME}/forests"
    async with Session(Home(exchange.operator)) as session:
        await session.sync()
        expires_at = wall_clock() + 500
        digest = sha256(code).digest()
        request = InviteRequest(party=party, role=Role.ROLE_DEPARTMENT, code_sha256=digest, expires_at=expires_at)
        address = (await pending.invite(session, request)).address
    await until(lambda: wall_clock() > expires_at, "the invite's last moment")
    entrance = Entrance(address, session.trust.tls_ca.encode(), code)
    with pytest.raises(RefusedError, match="the invite has expired"):
        await hand_in(entrance, party, KeyStatement(), b"")


@pytest.mark.parametrize(
    ("name", "changes", "exit_code", "says"),
    [
        ("lakes", {"code": bytes(32)}, 1, "there is no such invite"),
        ("rivers", {"party": Party(NAME, "population")}, 1, "there is no such invite"),
        ("bridges", {"role": "auditor"}, 1, "not a signing key of exchange://city.example/bridges as ROLE_DEPARTMENT"),
    ],
    ids=["guessed", "another name", "another role"],
)
def test_an_altered_or_guessed_invite_is_refused(
    exchange: Exchange, name: str, changes: dict[str, Any], exit_code: int, says: str
) -> None:
    size = exchange.size()
    done = exchange.run("join", exchange.altered(name, **changes), "--home", exchange.folder / name)
    assert (done.exit_code, exchange.size()) == (exit_code, size)
    assert says in done.stderr


def test_an_invite_that_was_altered_by_accident_is_noticed_before_anything_is_made(exchange: Exchange) -> None:
    invite = exchange.invite("harbours")
    invite.write_text(invite.read_text().replace("department", "auditor"))
    done = exchange.run("join", invite, "--home", exchange.folder / "harbours")
    assert done.exit_code == 5
    assert "was altered, or cut short" in done.stderr
    assert not (exchange.folder / "harbours").exists()


def test_a_broker_of_another_authority_gets_no_code(exchange: Exchange, tmp_path: Path) -> None:
    other = CliRunner().invoke(app, ["init", NAME, "--home", str(tmp_path / "other")])
    assert other.exit_code == 0, other.stderr
    trust = replace(Home(exchange.operator).trust, tls_ca=Home(tmp_path / "other").trust.tls_ca)
    invite = exchange.altered("markets", trust=encode_trust(trust))
    entrance = read_invite(invite.read_bytes())
    from exchange.client.errors import UnavailableError
    from exchange.client.joining import Entrance, hand_in
    from exchange.v1.directory_pb2 import KeyStatement

    place = Entrance(entrance.address, trust.tls_ca.encode(), entrance.code)
    with pytest.raises(UnavailableError):
        asyncio.run(hand_in(place, str(entrance.party), KeyStatement(), b"", timeout=3.0))
    [shown] = [item for item in _pending(exchange) if item["party"] == str(entrance.party)]
    assert shown["state"] == "invited"


def _pending(exchange: Exchange) -> list[dict[str, Any]]:
    done = exchange.department("pending", "--all", "--json")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


# --- approval and names


def test_a_wrong_fingerprint_signs_nothing(exchange: Exchange) -> None:
    told = exchange.join(exchange.invite("water"), "water")
    size, wrong = exchange.size(), told["fingerprint"][:-1] + ("0" if told["fingerprint"][-1] != "0" else "1")
    done = exchange.department("approve", "water", "--fingerprint", wrong)
    assert (done.exit_code, exchange.size()) == (5, size)
    assert "another fingerprint" in done.stderr
    told = json.loads(exchange.must("join", "--status", "--home", exchange.folder / "water", "--json"))
    assert told["state"] == "waiting"


def test_the_rejected_are_told_why(exchange: Exchange) -> None:
    exchange.join(exchange.invite("fire"), "fire")
    assert exchange.department("reject", "fire", "--reason", "nobody answers the telephone").exit_code == 0
    done = exchange.run("join", "--wait", "--home", exchange.folder / "fire")
    assert done.exit_code == 1
    assert "nobody answers the telephone" in done.stderr


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("broker", "the name is taken"),
        ("br0ker", "looks like exchange://city.example/broker"),
        ("bro-ker", "looks like exchange://city.example/broker"),
        ("Archives", "small letters"),
        ("\u0430rchives", "small letters"),
    ],
    ids=["another's", "look-alike", "hyphen", "upper case", "Cyrillic"],
)
def test_nobody_joins_under_a_name_that_is_anothers_or_could_be_taken_for_it(
    exchange: Exchange, name: str, says: str
) -> None:
    done = exchange.department("invite", name, "--out", exchange.folder / "none.invite")
    assert done.exit_code in {1, 2}
    assert says in done.stderr
    assert not (exchange.folder / "none.invite").exists()


# --- the port that anybody may call


async def _called(exchange: Exchange, method: str, request: bytes, timeout: float | None = 10.0) -> grpc.StatusCode:
    """The status of a call by somebody without a certificate."""
    trust, config = exchange.broker.trust, (exchange.broker.path / "broker.toml").read_text()
    [address] = [line.split('"')[1] for line in config.splitlines() if line.startswith("join_listen")]
    channel = open_anonymous_channel(address, trust.tls_ca.encode())
    try:
        await channel.unary_unary(method, None, None)(request, timeout=timeout)
    except grpc.aio.AioRpcError as error:
        return error.code()
    finally:
        await channel.close()
    return grpc.StatusCode.OK


@pytest.mark.parametrize(
    ("method", "request_bytes"),
    [
        (DIRECTORY_SYNC, encode(DirectoryServiceSyncRequest())),
        (PENDING, encode(PendingRequest())),
        (HEALTH_CHECK, b""),
    ],
)
async def test_nothing_but_joining_is_served_without_a_certificate(
    exchange: Exchange, method: str, request_bytes: bytes
) -> None:
    assert await _called(exchange, method, request_bytes) == grpc.StatusCode.UNIMPLEMENTED


async def test_the_brokers_own_port_still_asks_for_a_certificate(exchange: Exchange) -> None:
    trust = exchange.broker.trust
    channel = open_anonymous_channel(trust.brokers[0], trust.tls_ca.encode())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary(JOIN, None, None)(encode(JoinRequest()), timeout=10.0)
    await channel.close()
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_what_is_malformed_too_long_or_without_a_deadline_is_refused(exchange: Exchange) -> None:
    assert await _called(exchange, JOIN, b"\xff") == grpc.StatusCode.INVALID_ARGUMENT
    assert await _called(exchange, JOIN, bytes(MAX_JOIN + 1)) == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await _called(exchange, JOIN, encode(JoinRequest()), timeout=None) == grpc.StatusCode.INVALID_ARGUMENT
    party = f"exchange://{NAME}/nobody"
    guess = JoinRequest(party=party, code=bytes(32), statement=b"x", csr=b"x")
    assert await _called(exchange, JOIN, encode(guess)) == grpc.StatusCode.PERMISSION_DENIED


async def test_one_address_may_guess_only_so_often(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "city")
    try:
        stage.found()
        own = Exchange(stage, tmp_path)
        guess = encode(JoinRequest(party=f"exchange://{NAME}/nobody", code=bytes(32)))
        statuses = [await _called(own, JOIN, guess) for _ in range(30)]
        assert grpc.StatusCode.RESOURCE_EXHAUSTED in statuses
        # Those who have a certificate notice nothing.
        assert "reachable" in await asyncio.to_thread(own.must, "status", "--home", own.operator)
    finally:
        stage.stop()


# --- the script


def test_the_script_measures_from_the_invite_to_the_first_verified_answer(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.joining", str(tmp_path / "joining")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert "housing has a verified answer" in done.stdout
    assert "From the invite to the first verified answer: " in done.stdout
    assert InviteFile is type(read_invite((tmp_path / "joining" / "population.invite").read_bytes()))
