"""A department's key is stolen, and another one counts after three days in public view, unless the old one cancels it.

The three days pass on the clocks of every program and of everybody who types: none of them is slept through.
"""

import asyncio
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from exchange.core.keys import key_id
from exchange.home import Home
from exchange.v1.access_pb2 import Code
from tests.e2e.asking import ask, refused
from tests.e2e.city import City
from tests.e2e.clocks import HOUR, Clocks, timed
from tests.e2e.founding import (
    APPLICATIONS,
    AUDITOR,
    BUREAU,
    CIVIL,
    CIVIL_AFFAIRS,
    HOUSING,
    OPERATOR,
    POPULATION,
    REGISTRY,
)
from tests.e2e.processes import TIMEOUT
from tests.e2e.test_revocation import agreement_of

pytestmark = pytest.mark.timeout(600)


def fingerprint(home: Home) -> str:
    """Of a home's signing key, whole."""
    return key_id(home.signer().public_key).hex()


async def recovered(clocks: Clocks, name: str) -> tuple[str, str]:
    """A department asks for another key, and the root signs it; its fingerprint, and when it is to take effect."""
    home = clocks.city.path / name
    key = json.loads(await clocks.types(name, "key", "recover", "--json"))["key"]
    request, admission = str(home / "request-next.json"), str(clocks.city.path / f"{name}-admission.json")
    signing = ("department", "admit", request, "--fingerprint", key, "--out", admission)
    assert "takes effect after 72 hours in public view" in await clocks.types(OPERATOR, *signing)
    [shown] = json.loads(await clocks.types(REGISTRY, "key", "pending", "--json"))
    assert shown["key"] == key
    return key, shown["takes_effect"].removesuffix("Z").replace("T", " ")


async def renewed(clocks: Clocks, department: str, system: str) -> str:
    """A department gives its system another key; its id."""
    home = clocks.city.path / system
    key = json.loads(await clocks.types(system, "key", "rotate", "--by-department", "--json"))["key"]
    request, admission = str(home / "request-next.json"), str(clocks.city.path / f"{system}-admission.json")
    await clocks.types(department, "system", "add", request, "--fingerprint", key, "--out", admission)
    await clocks.types(system, "key", "install", admission)
    return fingerprint(Home(home))


async def test_a_stolen_department_key_is_recovered_after_three_days_in_public_view(
    template: City, tmp_path: Path
) -> None:
    with timed(template, tmp_path / "city") as clocks:
        city, home = clocks.city, clocks.city.home(POPULATION)
        agreement = await agreement_of(city, POPULATION)
        async with clocks.client() as client:
            await ask(client)
        # The steward's machine is taken, and the key with it. The root ends the key, or the thief could cancel.
        thief = tmp_path / "thief"
        shutil.copytree(home.path, thief)
        old = fingerprint(home)
        (home.keys / "signing.pem").unlink()
        await clocks.types(OPERATOR, "key", "revoke", old, "--reason", "Taken with the machine")
        new, when = await recovered(clocks, POPULATION)
        admission = str(city.path / f"{POPULATION}-admission.json")
        waits = await clocks.types(POPULATION, "key", "install", admission)
        assert f"not in force yet: exchange://city.test/{POPULATION} has no valid key in the directory" in waits
        assert f"takes effect on {when} UTC" in waits
        # Announced to every party; and the thief can do nothing about it.
        others = (HOUSING, APPLICATIONS, REGISTRY, CIVIL_AFFAIRS, CIVIL, BUREAU, AUDITOR)
        for status in await asyncio.gather(*(clocks.types(name, "status") for name in others)):
            [line] = [line for line in status.splitlines() if "in public view" in line]
            assert f"exchange://city.test/{POPULATION}: {new[:16]} …, from {when} UTC" in line
        assert "is revoked" in await clocks.types(thief, "key", "cancel", new[:16], code=1)

        # Two days and 23 hours: the system goes on under the key that it had, and the new key counts for nothing yet.
        clocks.move(71 * HOUR)
        async with clocks.client() as client:
            await ask(client, 1)
        said = await clocks.types(POPULATION, "agreement", "revoke", agreement, "--reason", "test", code=1)
        assert f"the one that waits takes effect on {when} UTC" in said
        status = await clocks.types(POPULATION, "status", code=1)
        assert "waits: `exchange key install` goes over to it" in status
        assert f"takes effect on {when} UTC" in status

        # Three days and an hour: it counts, and gives the department's system a key, with which that answers.
        clocks.move(73 * HOUR)
        assert "No key stands in public view" in await clocks.types(HOUSING, "key", "pending")
        assert "is in use" in await clocks.types(POPULATION, "key", "install", admission)
        given = await renewed(clocks, POPULATION, REGISTRY)
        async with clocks.client() as client:
            # The adapter that runs goes over to it within a second or two.
            async with asyncio.timeout(TIMEOUT):
                while (await ask(client, 2)).response.key_id.hex() != given:  # noqa: ASYNC110 - the adapter looks each second
                    await asyncio.sleep(0.1)
            # What the department orders is obeyed; what the old key orders is not.
            said = await clocks.types(thief, "agreement", "revoke", agreement, "--reason", "test", code=1)
            assert "is revoked" in said
            await ask(client, 3)
            await clocks.types(POPULATION, "agreement", "revoke", agreement, "--reason", "Granted anew after the theft")
            with refused(Code.CODE_AGREEMENT_ENDED):
                await ask(client, 4)
        city.wait_settled()
        city.check()


async def test_a_recovery_that_the_old_key_cancels_comes_to_nothing_after_three_days(
    template: City, tmp_path: Path
) -> None:
    with timed(template, tmp_path / "city") as clocks:
        city = clocks.city
        # Somebody talks the operator into it, in the department's name; the department still has its key.
        other = tmp_path / "other"
        shutil.copytree(city.path / HOUSING, other)
        (other / "keys" / "signing.pem").unlink()
        new, when = await recovered(clocks, str(other))
        await clocks.types(other, "key", "install", f"{other}-admission.json")
        clocks.move(48 * HOUR)
        [line] = [line for line in (await clocks.types(HOUSING, "status")).splitlines() if "in public view" in line]
        assert f"exchange://city.test/{HOUSING}: {new[:16]} …, from {when} UTC unless its old key cancels it" in line
        said = await clocks.types(HOUSING, "key", "cancel", new[:16], "--reason", "Nobody here asked for it")
        assert "never takes effect" in said
        assert "No key stands in public view" in await clocks.types(AUDITOR, "key", "pending")

        clocks.move(73 * HOUR)
        said = await clocks.types(other, "key", "revoke", fingerprint(city.home(HOUSING)), "--reason", "test", code=1)
        assert "is revoked" in said
        assert datetime.fromtimestamp(clocks.now() / 1000, UTC) > datetime.fromisoformat(f"{when}+00:00")
        # The department goes on with the key that it has: it gives its system another one, and that asks.
        given = await renewed(clocks, HOUSING, APPLICATIONS)
        async with clocks.client() as client:
            assert client.session.signer.public_key == city.home(APPLICATIONS).signer().public_key
            assert (await ask(client)).request.key_id.hex() == given
        city.wait_settled()
        city.check()
