"""A department takes an agreement back: at its own adapter at once, broker up or down, and in the directory."""

import asyncio
import sys
from collections.abc import Iterator

import pytest

from exchange.client import Session
from exchange.v1.access_pb2 import Code
from tests.e2e.asking import ask, prepare, refused
from tests.e2e.city import City
from tests.e2e.conftest import NewCity
from tests.e2e.founding import BROKER, CIVIL, MARRIAGES, POPULATION, REGISTRY, RESIDENTS
from tests.e2e.processes import ROOT


@pytest.fixture
def city(new_city: NewCity) -> Iterator[City]:
    with new_city(faulty=True) as city:
        yield city
        city.check()


async def run(module: str, *arguments: str) -> tuple[int, str]:
    """One command; its exit code, and all that it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", f"from {module} import app; app()", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=ROOT,
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def agreement_of(city: City, name: str) -> str:
    """The id of the one agreement that a department has given."""
    async with city.session(name) as session:
        [digest] = (await session.sync()).terms.agreements
    return digest.hex()


async def stands(session: Session, agreement: str) -> bool:
    directory = await session.sync()
    return directory.stands(directory.terms.agreements[bytes.fromhex(agreement)])


async def test_a_local_revocation_is_obeyed_before_the_directory_has_it(city: City) -> None:
    agreement = await agreement_of(city, POPULATION)
    city.faults(REGISTRY).hold_at("order")
    city.broker.kill()
    code, text = await run(
        "adapters.cli", "revoke", agreement[:16], "--reason", "misused", "--home", str(city.path / REGISTRY)
    )
    assert code == 0, text
    assert "from this moment on" in text
    assert "cannot be reached" in text
    await asyncio.to_thread(city.restart_broker)

    async with city.client() as client:
        assert await stands(client.session, agreement)
        prepared = await prepare(client)
        with refused(Code.CODE_AGREEMENT_ENDED) as caught:
            await client.submit(prepared)
        assert caught.value.verified
        assert caught.value.refuser == str(city.party(REGISTRY))
        assert city.kinds_of(prepared.envelope.digest) == ["refused"]
        assert not city.rows_of(prepared.envelope.digest)

        city.faults(REGISTRY).let_go("order")
        await city.registry.seen("revocation entered")
        assert not await stands(client.session, agreement)
        with refused(Code.CODE_AGREEMENT_ENDED) as caught:
            await ask(client)
        assert caught.value.refuser == str(city.party(BROKER))


async def test_a_local_revocation_is_sent_until_the_directory_has_it(city: City) -> None:
    """A broker that refuses it, for no good reason, cannot make the adapter forget it."""
    agreement = await agreement_of(city, POPULATION)
    city.faults(BROKER).switch_on("refuse")
    code, text = await run(
        "adapters.cli", "revoke", agreement[:16], "--reason", "misused", "--home", str(city.path / REGISTRY)
    )
    assert code == 0, text
    await city.registry.seen("revocation refused")
    city.faults(BROKER).switch_off("refuse")
    await city.registry.seen("revocation entered")
    async with city.client() as client:
        assert not await stands(client.session, agreement)


async def test_a_revocation_while_the_provider_works_stops_the_answer(city: City) -> None:
    """The directory moves after the decision: nothing is released under an agreement that has ended."""
    faults = city.faults(REGISTRY)
    faults.hold_at("before-commit")
    async with city.client() as client:
        prepared = await prepare(client)
        sending = asyncio.create_task(client.submit(prepared))
        await asyncio.to_thread(faults.wait_held, "before-commit")
        await city.revoke(RESIDENTS)
        faults.let_go("before-commit")
        with refused(Code.CODE_AGREEMENT_ENDED):
            await sending
    assert city.kinds_of(prepared.envelope.digest) == ["unreleased", "refused"]
    await asyncio.to_thread(city.wait_settled)
    [row] = city.rows_of(prepared.envelope.digest)
    assert [code for _, _, code in row.settlements] == [Code.CODE_AGREEMENT_ENDED]
    async with city.client() as client:
        # A retry passes the checks again: the revocation wins.
        with refused(Code.CODE_AGREEMENT_ENDED):
            await client.submit(prepared)


async def test_the_stewards_revocation_holds_from_the_next_request_on(city: City) -> None:
    agreement = await agreement_of(city, POPULATION)
    async with city.client() as client:
        await ask(client)
        code, text = await run(
            "exchange.cli.main",
            *("agreement", "revoke", agreement[:16], "--reason", "the subsidy ended"),
            *("--home", str(city.path / POPULATION)),
        )
        assert code == 0, text
        with refused(Code.CODE_AGREEMENT_ENDED) as caught:
            await ask(client)
        assert caught.value.verified


async def test_a_stopped_dataset_is_refused_until_it_is_resumed(city: City) -> None:
    home = ("--home", str(city.path / REGISTRY))
    city.civil.start()
    async with city.client() as client:
        assert (await run("adapters.cli", "stop", "residents", "--reason", "maintenance", *home))[0] == 0
        with refused(Code.CODE_PROVIDER_UNAVAILABLE) as caught:
            await ask(client)
        assert "stopped" in caught.value.reason
        await ask(client, 1, MARRIAGES)
        assert (await run("adapters.cli", "resume", "residents", *home))[0] == 0
        await ask(client)
    assert len(city.ledger(CIVIL)) == 1
