"""Witnesses are asked beside the append path, and only true cosignatures count, whatever a witness does."""

import asyncio
from collections.abc import AsyncIterator, Callable, MutableMapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from exchange.broker import witnesses as gathering
from exchange.broker.witnesses import Rhythm, WitnessClient, Witnesses
from exchange.core.checkpoint import Checkpoint, encode_checkpoint, sign_checkpoint
from exchange.core.cosignature import Cosigner
from exchange.core.envelope import decode_envelope
from exchange.core.merkle import leaf_hash
from exchange.core.policy import Policy, PolicyGroup, PolicyWitness, open_cosigned
from exchange.core.witnessing import SIZE_TYPE, AddCheckpoint, encode_add_checkpoint, parse_add_checkpoint
from exchange.store.ports import Log, StoreFatalError
from exchange.v1.access_pb2 import Code
from exchange.witness.memory import WitnessMemory
from exchange.witness.server import application
from exchange.witness.witness import Witness
from tests.component.broker.parts import Broker, note_signers
from tests.world import World

NAMES = ("one", "two", "three")
COSIGNERS = {
    name: Cosigner(f"{name}.test", Ed25519PrivateKey.from_private_bytes(bytes([number] * 32)))
    for number, name in enumerate(NAMES, 11)
}
POLICY = Policy(
    witnesses=tuple(PolicyWitness(name, COSIGNERS[name].verifier, f"http://{name}.test/w/") for name in NAMES),
    groups=(PolicyGroup("enough", 2, NAMES),),
    quorum="enough",
)
# A round at every call, and an alarm in every round.
EAGER = Rhythm(round=0.0, heartbeat=0.0, missing=0.0)

Logged = list[MutableMapping[str, Any]]
Answer = Callable[[httpx.Request], Any]


class Switchboard(httpx.AsyncBaseTransport):
    """Three honest witnesses behind HTTP; `instead` puts something else in a witness's place."""

    def __init__(self, folder: Path, world: World) -> None:
        self.instead: dict[str, Answer] = {}
        self.asked: list[tuple[str, AddCheckpoint]] = []
        logs = {signer.name: signer.verifier for signer in note_signers(world).values()}
        self._witnesses = {}
        for name, cosigner in COSIGNERS.items():
            memory = WitnessMemory.create(folder / f"{name}.db", lambda: world.now // 1000)
            self._witnesses[name] = httpx.ASGITransport(application(Witness(logs, cosigner, memory)))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        name = request.url.host.removesuffix(".test")
        assert request.url.path == "/w/add-checkpoint"
        body = await request.aread()
        self.asked.append((name, parse_add_checkpoint(body)))
        if name in self.instead:
            found = self.instead[name](request)
            return streamed(await found if asyncio.iscoroutine(found) else found)
        forwarded = httpx.Request("POST", "http://witness.test/add-checkpoint", content=body)
        return await self._witnesses[name].handle_async_request(forwarded)

    def silence(self, *names: str) -> None:
        for name in names:
            self.instead[name] = unreachable

    def asked_of(self, name: str) -> list[int]:
        """The old sizes that a witness was told."""
        return [request.old_size for host, request in self.asked if host == name]


def streamed(response: httpx.Response) -> httpx.Response:
    """As it comes over a network: not read yet."""
    if not response.is_closed:
        return response
    return httpx.Response(response.status_code, headers=response.headers, stream=httpx.ByteStream(response.content))


def unreachable(_: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("nobody listens")


def answering(status: int, body: bytes = b"", **headers: str) -> Answer:
    return lambda _: httpx.Response(status, content=body, headers=headers)


@pytest.fixture
def switchboard(tmp_path: Path, world: World) -> Switchboard:
    return Switchboard(tmp_path, world)


class Gatherer:
    """The broker's side, with its rounds called one by one."""

    def __init__(self, broker: Broker, http: httpx.AsyncClient) -> None:
        self.broker = broker
        self.http = http
        self.verifiers = {log: signer.verifier for log, signer in note_signers(broker.world).items()}
        self.witnesses = self.made()

    def made(self, rhythm: Rhythm = EAGER, *, stops: bool = False) -> Witnesses:
        client = WitnessClient(self.broker.store, self.http, self.broker.clock)
        return Witnesses(self.broker.store, self.verifiers, POLICY, client, rhythm, stops=stops)

    async def round(self) -> bool:
        return await self.witnesses.round(Log.ACCESS)

    async def grow(self, count: int = 1) -> None:
        """Let the access log grow by refusals."""
        for _ in range(count):
            await self.broker.refused(b"not a request")

    def cosigners(self, log: Log = Log.ACCESS) -> list[str]:
        """Who cosigned what is kept, everything verified; it must be the log's own history."""
        note = self.broker.store.cosigned(log).note
        opened = open_cosigned(note, self.verifiers[log], POLICY)
        assert opened.quorum
        assert opened.checkpoint.size == self.broker.store.cosigned(log).size
        return [name for name, _ in opened.cosignatures]


@pytest.fixture
async def gatherer(broker: Broker, switchboard: Switchboard) -> AsyncIterator[Gatherer]:
    async with httpx.AsyncClient(transport=switchboard) as http:
        yield Gatherer(broker, http)


def text_of(request: httpx.Request) -> bytes:
    return parse_add_checkpoint(request.content).note.rpartition(b"\n\n")[0] + b"\n"


# --- honest witnesses


async def test_every_witness_cosigns_the_head(gatherer: Gatherer) -> None:
    for size in (0, 1, 2, 9):
        await gatherer.grow(size - gatherer.broker.size)
        assert await gatherer.round()
        assert gatherer.cosigners() == list(NAMES)
        assert gatherer.broker.store.cosigned(Log.ACCESS).size == size


async def test_both_logs_are_cosigned(gatherer: Gatherer) -> None:
    for log in Log:
        assert await gatherer.witnesses.round(log)
        assert gatherer.cosigners(log) == list(NAMES)


async def test_a_witness_is_told_the_size_that_it_has(gatherer: Gatherer, switchboard: Switchboard) -> None:
    await gatherer.grow(3)
    await gatherer.round()
    await gatherer.grow(4)
    await gatherer.round()
    assert switchboard.asked_of("one") == [0, 3]


async def test_a_broker_that_restarted_learns_what_its_witnesses_have(
    gatherer: Gatherer, switchboard: Switchboard
) -> None:
    await gatherer.grow(3)
    await gatherer.round()
    await gatherer.grow(2)
    gatherer.witnesses = gatherer.made()
    switchboard.asked.clear()
    assert await gatherer.round()
    assert switchboard.asked_of("one") == [0, 3]
    assert gatherer.cosigners() == list(NAMES)


async def test_an_idle_log_is_cosigned_again_with_a_fresh_time(gatherer: Gatherer, world: World) -> None:
    await gatherer.round()
    before = gatherer.broker.store.cosigned(Log.ACCESS)
    world.now += 60_000
    assert await gatherer.round()
    after = gatherer.broker.store.cosigned(Log.ACCESS)
    assert (after.size, after.time) == (before.size, before.time + 60)


async def test_between_heartbeats_an_idle_log_asks_nobody(gatherer: Gatherer, switchboard: Switchboard) -> None:
    gatherer.witnesses = gatherer.made(Rhythm(heartbeat=3600))
    await gatherer.round()
    asked = len(switchboard.asked)
    assert await gatherer.round()
    assert len(switchboard.asked) == asked
    await gatherer.grow()
    await gatherer.round()
    assert len(switchboard.asked) > asked


# --- witnesses that fail or lie


async def test_a_quorum_is_enough(gatherer: Gatherer, switchboard: Switchboard, logged: Logged) -> None:
    switchboard.silence("two")
    assert await gatherer.round()
    assert gatherer.cosigners() == ["one", "three"]
    assert [entry["witness"] for entry in logged if entry["event"] == "a witness did not cosign"] == ["two"]


async def test_a_witness_that_stays_away_is_named_once_and_again_when_it_is_back(
    gatherer: Gatherer, switchboard: Switchboard, logged: Logged
) -> None:
    switchboard.silence("two")
    for _ in range(3):
        await gatherer.round()
    switchboard.instead["two"] = answering(500)
    for _ in range(3):
        await gatherer.round()
    switchboard.instead.clear()
    for _ in range(3):
        await gatherer.round()
    told = [(entry["event"], entry.get("reason")) for entry in logged if entry.get("witness") == "two"]
    assert told == [
        ("a witness did not cosign", "no answer: ConnectError"),
        ("a witness did not cosign", "it answered with status 500"),
        ("a witness cosigns again", None),
    ]


async def test_without_a_quorum_the_last_one_is_kept(gatherer: Gatherer, switchboard: Switchboard) -> None:
    await gatherer.round()
    kept = gatherer.broker.store.cosigned(Log.ACCESS)
    switchboard.silence("one", "two")
    await gatherer.grow()
    assert not await gatherer.round()
    assert gatherer.broker.store.cosigned(Log.ACCESS) == kept


def cosigning(name: str) -> Answer:
    """A witness that cosigns whatever it is asked to."""
    return lambda request: httpx.Response(200, content=str(COSIGNERS[name].cosign(text_of(request), NOW)).encode())


def by_another_key(request: httpx.Request) -> httpx.Response:
    stranger = Cosigner("one.test", Ed25519PrivateKey.generate())
    return httpx.Response(200, content=str(stranger.cosign(text_of(request), NOW)).encode())


def of_another_checkpoint(request: httpx.Request) -> httpx.Response:
    other = text_of(request).replace(b"access", b"excess")
    return httpx.Response(200, content=str(COSIGNERS["one"].cosign(other, NOW)).encode())


def by_another_witness(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, content=str(COSIGNERS["two"].cosign(text_of(request), NOW)).encode())


def played_back(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, content=str(COSIGNERS["one"].cosign(text_of(request), NOW - 3600)).encode())


def in_the_future(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, content=str(COSIGNERS["one"].cosign(text_of(request), NOW + 3600)).encode())


NOW = World.standard().now // 1000


@pytest.mark.parametrize(
    "lie",
    [
        by_another_key,
        of_another_checkpoint,
        by_another_witness,
        played_back,
        in_the_future,
        unreachable,
        answering(200),
        answering(200, b"no signature at all\n"),
        answering(200, b"\xff\xfe"),
        answering(200, b"x" * (gathering.MAX_RESPONSE + 1)),
        answering(302, location="http://two.test/w/add-checkpoint"),
        answering(409),
        answering(409, b"many\n", **{"content-type": SIZE_TYPE}),
        answering(409, b"0\n", **{"content-type": SIZE_TYPE}),
        answering(404),
        answering(500),
    ],
)
async def test_what_is_no_cosignature_does_not_count(
    gatherer: Gatherer, switchboard: Switchboard, lie: Answer, logged: Logged
) -> None:
    await gatherer.grow(2)
    switchboard.instead["one"] = lie
    assert await gatherer.round()
    assert gatherer.cosigners() == ["two", "three"]
    told = [entry for entry in logged if entry.get("witness") == "one"]
    assert [entry["log_level"] for entry in told] in (["warning"], ["critical"])
    switchboard.silence("three")
    assert not await gatherer.round()


async def test_a_redirect_is_not_followed(gatherer: Gatherer, switchboard: Switchboard) -> None:
    switchboard.instead["one"] = answering(307, location="http://elsewhere.test/w/add-checkpoint")
    await gatherer.round()
    assert {name for name, _ in switchboard.asked} == set(NAMES)


async def test_an_endless_answer_is_cut_off(gatherer: Gatherer, switchboard: Switchboard) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 1 << 30:
            sent += 1024
            yield bytes(1024)

    switchboard.instead["one"] = lambda _: httpx.Response(200, content=endless())
    assert await gatherer.round()
    assert sent <= gathering.MAX_RESPONSE + 2048


async def test_a_slow_witness_delays_nobody_for_long(
    gatherer: Gatherer, switchboard: Switchboard, monkeypatch: pytest.MonkeyPatch, logged: Logged
) -> None:
    monkeypatch.setattr(gathering, "TIMEOUT", 0.5)

    async def never() -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError("it was waited for")

    switchboard.instead["one"] = lambda _: never()
    # The others answer at once, however slow the disk is that the honest ones write to.
    for name in ("two", "three"):
        switchboard.instead[name] = cosigning(name)
    assert await gatherer.round()
    assert gatherer.cosigners() == ["two", "three"]
    assert "no answer within" in next(entry["reason"] for entry in logged if entry.get("witness") == "one")


async def test_an_append_waits_for_no_witness(gatherer: Gatherer, switchboard: Switchboard) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def held() -> httpx.Response:
        reached.set()
        await go_on.wait()
        return httpx.Response(500)

    for name in NAMES:
        switchboard.instead[name] = lambda _: held()
    asking = asyncio.create_task(gatherer.round())
    await reached.wait()
    await gatherer.grow(3)
    assert gatherer.broker.size == 3
    assert not asking.done()
    go_on.set()
    assert not await asking


# --- split views


async def test_a_split_view_is_not_cosigned_and_is_an_alarm(
    gatherer: Gatherer, switchboard: Switchboard, logged: Logged
) -> None:
    await gatherer.grow(3)
    access = note_signers(gatherer.broker.world)[Log.ACCESS]
    other = sign_checkpoint(Checkpoint(access.name, 3, leaf_hash(b"shown to one alone")), access)
    body = encode_add_checkpoint(AddCheckpoint(0, (), other))
    shown = await gatherer.http.post("http://one.test/w/add-checkpoint", content=body)
    assert shown.status_code == 200
    assert await gatherer.round()
    assert gatherer.cosigners() == ["two", "three"]
    (alarm,) = [entry for entry in logged if entry["log_level"] == "critical"]
    assert (alarm["witness"], alarm["log"], alarm["size"]) == ("one", "access", 3)
    await gatherer.grow(2)
    await gatherer.round()
    assert "status 422" in [entry for entry in logged if entry["log_level"] == "critical"][-1]["reason"]


async def test_a_log_that_was_rolled_back_is_an_alarm(
    gatherer: Gatherer, switchboard: Switchboard, logged: Logged
) -> None:
    switchboard.instead["one"] = answering(409, b"7\n", **{"content-type": SIZE_TYPE})
    await gatherer.grow(3)
    await gatherer.round()
    (alarm,) = [entry for entry in logged if entry["log_level"] == "critical"]
    assert "has seen 7 entries" in alarm["reason"]


# --- a missing quorum


async def test_a_missing_quorum_is_an_alarm_once_and_then_well_again(
    gatherer: Gatherer, switchboard: Switchboard, logged: Logged
) -> None:
    switchboard.silence("one", "two")
    for _ in range(5):
        await gatherer.round()
    alarms = [entry for entry in logged if entry["event"].startswith("ALARM")]
    assert [(alarm["log"], alarm["cosigned"], alarm["releases"]) for alarm in alarms] == [("access", 1, "go on")]
    switchboard.instead.clear()
    await gatherer.round()
    await gatherer.round()
    assert [entry["event"] for entry in logged if "enough" in entry["event"]] == ["enough witnesses cosign again"]


async def test_a_quorum_that_is_missing_for_a_moment_is_no_alarm(
    gatherer: Gatherer, switchboard: Switchboard, logged: Logged
) -> None:
    gatherer.witnesses = gatherer.made(Rhythm(heartbeat=0.0, missing=3600), stops=True)
    switchboard.silence("one", "two")
    await gatherer.round()
    assert not [entry for entry in logged if entry["event"].startswith("ALARM")]
    assert gatherer.witnesses.forbids() == ""


@pytest.mark.parametrize("stops", [False, True])
async def test_only_stop_forbids_releases_and_only_until_a_quorum_is_back(
    gatherer: Gatherer, switchboard: Switchboard, *, stops: bool
) -> None:
    gatherer.witnesses = gatherer.made(stops=stops)
    switchboard.silence("one", "two")
    await gatherer.round()
    assert bool(gatherer.witnesses.forbids()) == stops
    switchboard.instead.clear()
    await gatherer.round()
    assert gatherer.witnesses.forbids() == ""


async def test_nothing_is_asked_of_a_provider_or_released_while_it_is_forbidden(world: World) -> None:
    forbidden = "too few witnesses cosign"
    broker = Broker(world, forbidden=lambda: forbidden)
    adapter = await broker.attach()
    request = world.request()
    refused = await broker.refused(request)
    assert (refused.code, str(refused)) == (Code.CODE_AUDIT_UNAVAILABLE, forbidden)
    assert not adapter.deliveries
    assert broker.size == 0
    forbidden = ""
    assert (await broker.submit(request)).receipt.index == 0
    await broker.close()


async def test_an_answer_that_comes_while_releases_are_forbidden_is_not_released(world: World) -> None:
    forbidden = ""
    broker = Broker(world, forbidden=lambda: forbidden)
    adapter = await broker.attach()
    adapter.respond = lambda _: None
    asking = asyncio.create_task(broker.refused(world.request()))
    delivery = await adapter.delivered()
    forbidden = "too few witnesses cosign"
    await adapter.reply(delivery, world.respond(decode_envelope(delivery.envelope)))
    assert (await asking).code == Code.CODE_AUDIT_UNAVAILABLE
    assert broker.size == 0
    await broker.close()


# --- the task


async def until(holds: Callable[[], bool]) -> None:
    """Let the rounds go on until something holds."""
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - what is waited for announces itself to nobody
            await asyncio.sleep(0)


async def test_gathering_goes_on_after_a_store_that_failed(gatherer: Gatherer, logged: Logged) -> None:
    gatherer.broker.store.before = StoreFatalError("the disk is full")
    running = asyncio.create_task(gatherer.witnesses.run())
    try:
        await until(lambda: any(entry["event"] == "no cosignatures were gathered" for entry in logged))
        gatherer.broker.store.before = None
        await until(lambda: all(gatherer.broker.store.cosigned(log).note for log in Log))
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    for log in Log:
        assert gatherer.cosigners(log) == list(NAMES)


def test_the_text_that_is_cosigned_is_the_checkpoints(world: World) -> None:
    access = note_signers(world)[Log.ACCESS]
    checkpoint = Checkpoint(access.name, 3, leaf_hash(b"root"))
    asked = gathering._Asked(Log.ACCESS, access.verifier, sign_checkpoint(checkpoint, access), checkpoint)
    assert asked.text == encode_checkpoint(checkpoint).encode()
