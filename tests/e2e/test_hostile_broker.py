"""A broker that lies to clients, or starves them: what they keep, and how they recover (DESIGN sections 2 and 6)."""

import asyncio
import os
import signal
import sys
from typing import Any

import pytest

from exchange.client.mirror import DirectoryMirror
from exchange.client.storage import ACCESS
from tests.e2e.asking import ask
from tests.e2e.city import City
from tests.e2e.founding import APPLICATIONS, REGISTRY
from tests.e2e.processes import ROOT

_DIES_WITH_ITS_ROWS = """
import asyncio, os, signal, sys
from pathlib import Path
from tests.e2e.asking import ask
from tests.e2e.city import City

async def main() -> None:
    async with City(Path(sys.argv[1]), sys.argv[2]).client() as client:
        assert (await ask(client)).rows
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_a_checkpoint_outlives_the_process_that_was_given_it(city: City) -> None:
    arguments = ("-c", _DIES_WITH_ITS_ROWS, str(city.path), city.address)
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, cwd=ROOT, env=dict(os.environ))
    assert await process.wait() == -signal.SIGKILL
    async with city.session(APPLICATIONS) as session:
        await session.evidence.settle()
        assert session.evidence.checkpoint is not None
        assert session.mirror._file.head(ACCESS)
        assert session.mirror._file.unchecked() == ()


async def test_a_mirror_gets_the_bodies_that_a_broker_once_left_out(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the provider, which would answer nobody, and of the requester, which would not know what it was granted."""
    city.registry.stop()
    page = DirectoryMirror._page

    async def bare(self: Any, *arguments: Any) -> Any:
        records, checkpoint, note = await page(self, *arguments)
        for record in records:
            record.body = b""
        return records, checkpoint, note

    with monkeypatch.context() as patched:
        patched.setattr(DirectoryMirror, "_page", bare)
        for name in (REGISTRY, APPLICATIONS):
            for file in city.home(name).path.glob("mirror.db*"):
                file.unlink()
            async with city.session(name) as session:
                directory = await session.sync()
                assert not directory.terms.agreements
    city.registry.start()
    async with city.client() as client:
        assert (await ask(client)).rows
