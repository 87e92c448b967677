"""The faults that a broker's alerts are about, made with real programs."""

import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from threading import Thread

import pytest

from exchange.client import ExchangeClient, ExchangeError, Prepared, preparing
from exchange.client.calls import GrpcTransport, call
from exchange.core.entries import ObjectVersion, purpose_entry
from exchange.transport import SUBMIT
from exchange.v1.access_pb2 import Code
from exchange.v1.directory_pb2 import Purpose
from exchange.v1.relay_pb2 import SubmitRequest, SubmitResponse
from tests.e2e.alarms import Figures
from tests.e2e.asking import prepare, refused
from tests.e2e.faults import Faults
from tests.e2e.founding import APPLICATIONS, BROKER, BUREAU, CIVIL
from tests.e2e.night_desk import WITNESSED, Desk, Fault, above, below, grown, silent
from tests.e2e.processes import TIMEOUT
from tests.e2e.witnessing import NAMES

OFFICE, UNIVERSITY, _ = NAMES
FORGED = ("SIGNATURE_INVALID", "IDENTITY_MISMATCH", "REPLAYED")


def requests(code: str) -> str:
    """The figure that counts what became of requests."""
    return f'exchange_requests_total{{code="{code}"}}'


@contextmanager
def broker_down(desk: Desk) -> Iterator[None]:
    """It has ended; the chapter starts it."""
    desk.city.broker.stop()
    yield
    assert desk.city.broker.is_running


@contextmanager
def not_serving(desk: Desk) -> Iterator[None]:
    """The witnesses are gone, and nothing may be released without them."""
    with desk.edited("broker/broker.toml", lambda text: text.replace('quorum = "alarm"', 'quorum = "stop"')):
        desk.witnesses.stop(OFFICE, UNIVERSITY)
        yield
        desk.witnesses.start(OFFICE, UNIVERSITY)


@contextmanager
def database_away(desk: Desk) -> Iterator[None]:
    """Its file; the chapter has it back before `fsck`, and starts the broker."""
    with desk.without(desk.city.path / BROKER / "exchange.db"):
        yield
    assert desk.city.broker.is_running


@contextmanager
def database_locked(desk: Desk) -> Iterator[None]:
    """By another program; an answer that was withheld comes when it has let go."""
    withheld: list[Prepared] = []

    async def ask(client: ExchangeClient) -> None:
        withheld.append(await prepare(client))
        with refused(Code.CODE_AUDIT_UNAVAILABLE):
            await client.submit(withheld[0])

    async def ask_again(client: ExchangeClient) -> None:
        assert (await client.submit(withheld[0])).rows

    with closing(sqlite3.connect(desk.city.path / BROKER / "exchange.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        desk.run(ask)
        yield
        other.execute("ROLLBACK")
    desk.city.wait_settled(timeout=TIMEOUT)
    desk.wait_attached()
    desk.run(ask_again)


@contextmanager
def call_fails(desk: Desk) -> Iterator[None]:
    """An entry of the directory meets an error that nobody foresaw."""
    desk.broker_faults.switch_on("stumble")

    async def enter(_: ExchangeClient) -> None:
        purpose = Purpose(code="tax.audit", label="税务稽查", label_en="Tax audit", legal_basis="Tax Act")
        async with desk.city.session(BUREAU) as session:
            with pytest.raises(ExchangeError):
                await session.append(
                    session.sign(purpose_entry(session.party, ObjectVersion(secrets.token_bytes(16)), purpose))
                )

    desk.run(enter)
    desk.broker_faults.switch_off("stumble")
    yield


@contextmanager
def answers_with_a_strange_key(desk: Desk) -> Iterator[None]:
    """The adapter signs with another system's key."""
    desk.ask()
    desk.registry_faults.switch_on("signer", str(desk.city.path / APPLICATIONS))
    desk.refused(Code.CODE_RESPONSE_INVALID, 1)
    yield
    desk.registry_faults.switch_off("signer")
    desk.ask()


@contextmanager
def forged(desk: Desk) -> Iterator[None]:
    """Signatures that do not hold, requests of another system's, ids that are taken: four of each."""

    async def forge(client: ExchangeClient) -> None:
        stranger = GrpcTransport([desk.city.address], desk.city.home(CIVIL).tls_identity())
        try:
            for number in range(4):
                prepared = await prepare(client, number)
                with refused(Code.CODE_SIGNATURE_INVALID):
                    await client.submit(_unsigned(prepared))
                with pytest.raises(ExchangeError):
                    await call(stranger, SUBMIT, SubmitRequest(envelope=prepared.envelope.encode()), SubmitResponse, 10)
                await client.submit(prepared)
                with refused(Code.CODE_REPLAYED):
                    await client.submit(await _under_the_id_of(client, prepared))
        finally:
            await stranger.close()

    desk.run(forge)
    yield


def _unsigned(prepared: Prepared) -> Prepared:
    """The same, under a signature that does not hold."""
    envelope = prepared.envelope
    return replace(prepared, envelope=replace(envelope, signature=envelope.signature[:-1] + b"\0"))


async def _under_the_id_of(client: ExchangeClient, taken: Prepared) -> Prepared:
    """Another request."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preparing, "request_id", lambda _now: taken.header.request_id)
        return await prepare(client, 5)


@contextmanager
def wants_too_much(desk: Desk) -> Iterator[None]:
    """A program asks for a purpose that it was not granted, over and over."""
    desk.refused(Code.CODE_PURPOSE_NOT_GRANTED, 12, purpose="tax.audit")
    yield


@contextmanager
def slow_source(desk: Desk) -> Iterator[None]:
    """A department's database takes longer than two seconds."""
    with _held(desk.registry_faults, "asking", 2.1):
        desk.ask()
    yield


@contextmanager
def slow_disk(desk: Desk) -> Iterator[None]:
    """A commit of the log takes longer than half a second."""
    with _held(desk.broker_faults, "before-commit", 0.6):
        desk.ask()
    yield


@contextmanager
def _held(faults: Faults, point: str, seconds: float) -> Iterator[None]:
    """Whoever comes to a point is held there for so long, once."""
    faults.hold_at(point)
    seen = faults.count(point)

    def let_go() -> None:
        faults.wait_held(point, seen + 1)
        time.sleep(seconds)
        faults.let_go(point)

    holder = Thread(target=let_go)
    holder.start()
    try:
        yield
    finally:
        holder.join()


@contextmanager
def system_away(desk: Desk) -> Iterator[None]:
    """A department's adapter has ended."""
    mark = desk.city.broker.mark()
    desk.city.registry.stop()
    desk.city.broker.wait_for("tunnel ended", mark)
    yield
    desk.city.registry.start()


@contextmanager
def quorum_away(desk: Desk) -> Iterator[None]:
    """Two of three witnesses."""
    mark = desk.city.broker.mark()
    desk.witnesses.stop(OFFICE, UNIVERSITY)
    desk.city.broker.wait_for("a witness did not cosign", mark)
    yield
    desk.witnesses.start(OFFICE, UNIVERSITY)


@contextmanager
def witness_away(desk: Desk) -> Iterator[None]:
    """One of three: the quorum is met."""
    desk.witnesses.stop(OFFICE)
    yield
    desk.witnesses.start(OFFICE)


def slower(name: str, bound: str) -> Callable[[Figures, Figures], bool]:
    """More than one of a hundred took longer than a bound of a histogram."""

    def shows(before: Figures, now: Figures) -> bool:
        within, all_ = (
            now[f'{name}_bucket{{le="{le}"}}'] - before[f'{name}_bucket{{le="{le}"}}'] for le in (bound, "+Inf")
        )
        return within < 0.99 * all_

    return shows


FAULTS: Mapping[str, Fault] = {
    "BrokerDown": Fault(broker_down, BROKER, silent),
    "BrokerNotServing": Fault(not_serving, BROKER, below("exchange_broker_serving", 1), WITNESSED),
    "DatabaseUnreadable": Fault(database_away, BROKER, below("exchange_database_up", 1)),
    "LogNotWritten": Fault(database_locked, BROKER, grown(0, requests("AUDIT_UNAVAILABLE"))),
    "CallsFail": Fault(
        call_fails, BROKER, grown(0, 'exchange_calls_total{method="DirectoryService/Append",reason="INTERNAL"}')
    ),
    "ResponsesInvalid": Fault(answers_with_a_strange_key, BROKER, grown(0, requests("RESPONSE_INVALID"))),
    "ForgedRequests": Fault(forged, BROKER, grown(10, *map(requests, FORGED))),
    "ManyRefusals": Fault(wants_too_much, BROKER, grown(6, requests("PURPOSE_NOT_GRANTED"))),
    "AnswersSlow": Fault(slow_source, BROKER, slower("exchange_request_seconds", "1.0")),
    "CommitsSlow": Fault(slow_disk, BROKER, slower("exchange_append_seconds", "0.5")),
    "SystemsMissing": Fault(system_away, BROKER, below("exchange_attached_systems", 1)),
    "WitnessQuorumMissing": Fault(quorum_away, BROKER, below("exchange_witness_quorum", 1), WITNESSED),
    "WitnessMissing": Fault(witness_away, BROKER, above("exchange_witnesses_missing", 0), WITNESSED),
}
