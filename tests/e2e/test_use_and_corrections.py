"""From an answer to its correction, over real processes: asked, used, put right, told at the next contact."""

import asyncio
import json
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.city import City
from tests.e2e.conftest import NewCity
from tests.e2e.founding import APPLICATIONS, HOUSING, POPULATION, PURPOSE, REGISTRY, RESIDENTS, person
from tests.e2e.processes import ROOT

EXCHANGE, ADAPTER = "exchange.cli.main", "adapters.cli"


@pytest.fixture
def city(new_city: NewCity) -> Iterator[City]:
    with new_city() as city:
        yield city
        city.check()


async def run(module: str, *arguments: object, code: int = 0) -> tuple[str, str]:
    """One command, which ends with a code: what it printed on stdout and on stderr."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", f"from {module} import app; app()", *map(str, arguments)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    output, errors = await process.communicate()
    assert process.returncode == code, (output.decode(), errors.decode())
    return output.decode(), errors.decode()


async def read(module: str, *arguments: object) -> Any:
    """What a command prints for programs."""
    return json.loads((await run(module, *arguments, "--json"))[0])


async def ask(city: City, case: str) -> str:
    """One person is looked up; what the command says on stderr."""
    about = ("--purpose", PURPOSE, "--case", case, "--officer", "officer-7", "--home", city.path / APPLICATIONS)
    asked = ("request", RESIDENTS, "--key", person(7), "--fields", "name,address")
    return (await run(EXCHANGE, *asked, *about))[1]


async def test_who_was_told_a_wrong_record_hears_of_it_at_the_next_contact(city: City) -> None:
    requester = ("--home", city.path / APPLICATIONS)
    await ask(city, "ZF-1")
    used = ("use", "record", "--case", "ZF-1", "--effect", "a flat was let", "--by", "officer-7")
    await run(EXCHANGE, *used, *requester)
    [line] = await read(EXCHANGE, "use", "report", *requester)
    assert (line["case"], line["rows"]) == ("ZF-1", 1)
    assert [item["effect"] for item in line["uses"]] == ["a flat was let"]

    # What the requester signs, the provider verifies against its own entries.
    report = city.path / "january.use"
    await run(EXCHANGE, "use", "report", "--sign", report, *requester)
    verified = await read(EXCHANGE, "use", "verify", report, "--home", city.path / POPULATION)
    assert (verified["answers"], verified["released"], verified["missing"]) == (1, 1, [])

    about = ("--fields", "address", "--case", "ZF-1", "--text", "the street was renamed")
    filed = await read(EXCHANGE, "correction", "file", line["agreement"], *about, "--home", city.path / HOUSING)
    id = filed["id"][:12]
    await run(EXCHANGE, "correction", "answer", id, "--corrected", "--home", city.path / POPULATION)
    assert "concerns records that came here" not in await ask(city, "ZF-2")

    city.wait_settled()
    registry = ("--home", city.path / REGISTRY)
    found = await read(ADAPTER, "recipients", "--subject", person(7), "--correction", id, *registry)
    assert [item["case_id"] for item in found] == ["ZF-1", "ZF-2"]
    assert [item["log_index"] for item in found] == [0, 1]
    assert not any(item["doubt"] for item in found)
    [told] = await read(ADAPTER, "notify", id, "--subject", person(7), *registry)
    assert told["requests"] == 2

    assert "! 1 correction concerns records that came here" in await ask(city, "ZF-3")
    [notice] = await read(EXCHANGE, "use", "corrections", *requester)
    assert (notice["cases"], notice["fields"]) == (["ZF-1", "ZF-2"], ["address"])
    status, _ = await run(EXCHANGE, "status", *requester)
    assert re.search(r"to do +1 correction concerns records", status)

    await run(EXCHANGE, "correction", "acknowledge", id, *requester)
    shown = await read(EXCHANGE, "correction", "show", id, "--home", city.path / POPULATION)
    assert [item["acknowledged_by"] for item in shown["notices"]] == [str(city.party(APPLICATIONS))]
    assert await read(EXCHANGE, "use", "corrections", *requester) == []

    # The purpose is met: what came here is to be destroyed.
    await city.revoke()
    assert [item["case"] for item in await read(EXCHANGE, "use", "due", *requester)] == ["ZF-1", "ZF-2", "ZF-3"]
    destroyed = ("use", "dispose", "--purpose", PURPOSE, "--how", "shredded", "--by", "officer-7")
    await run(EXCHANGE, *destroyed, *requester)
    assert await read(EXCHANGE, "use", "due", *requester) == []
    assert "Every answer that was released is recorded." in (await run(EXCHANGE, "use", "verify", *requester))[0]
