"""Another tunnel takes the old one's place, ready first, and the old one finishes what it was given."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from adapters.attachment import Attachment
from exchange.client.errors import ExchangeError, ForkError


class FakeTunnel:
    """A tunnel whose end and readiness the test decides."""

    def __init__(self) -> None:
        self.attached = asyncio.Event()
        self.is_leaving = False
        self.left = asyncio.Event()
        self.let_go = asyncio.Event()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.is_running = False

    async def run(self) -> None:
        self.is_running = True
        try:
            await self.ended
        finally:
            self.is_running = False

    async def leave(self) -> None:
        self.left.set()
        await self.let_go.wait()


class Served:
    """An attachment at work, the tunnels that it made, and the renewals that it is told of."""

    def __init__(self) -> None:
        self.made: list[FakeTunnel] = []
        self.renewed = asyncio.Event()
        self.attachment = Attachment(self._new, self._next)  # type: ignore[arg-type]
        self.task = asyncio.create_task(self.attachment.run())

    def _new(self) -> FakeTunnel:
        self.made.append(FakeTunnel())
        return self.made[-1]

    async def _next(self) -> None:
        await self.renewed.wait()
        self.renewed.clear()

    async def renew(self) -> FakeTunnel:
        """The certificate is renewed: the tunnel that is to take over, attaching."""
        count = len(self.made)
        self.renewed.set()
        await until(lambda: len(self.made) > count and self.made[-1].is_running)
        return self.made[-1]


async def until(holds: "object") -> None:
    async with asyncio.timeout(5):
        while not holds():  # type: ignore[operator]  # noqa: ASYNC110 - turns of the loop, nothing else
            await asyncio.sleep(0)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    served = Served()
    await until(lambda: served.made[0].is_running)
    yield served
    served.task.cancel()
    await asyncio.gather(served.task, return_exceptions=True)


async def test_the_old_tunnel_serves_until_the_new_one_is_ready(served: Served) -> None:
    [old] = served.made
    new = await served.renew()
    assert served.attachment.tunnels == (old,)
    assert not old.left.is_set()
    new.attached.set()
    await asyncio.wait_for(old.left.wait(), 5)
    # Both are there while the old one finishes what it was given.
    assert served.attachment.tunnels == (new, old)
    assert old.is_running
    old.let_go.set()
    await until(lambda: not old.is_running and served.attachment.tunnels == (new,))
    assert new.is_running


async def test_a_renewed_certificate_that_does_not_attach_leaves_the_old_tunnel_as_it_is(served: Served) -> None:
    [old] = served.made
    new = await served.renew()
    with capture_logs() as logs:
        new.ended.set_exception(ExchangeError("not let in"))
        await until(lambda: bool(logs))
    assert "the old tunnel goes on" in logs[0]["event"]
    assert logs[0]["reason"] == "not let in"
    assert served.attachment.tunnels == (old,)
    assert old.is_running
    # The next renewal is tried like the first.
    following = await served.renew()
    following.attached.set()
    await asyncio.wait_for(old.left.wait(), 5)


async def test_a_broken_log_ends_everything(served: Served) -> None:
    new = await served.renew()
    new.ended.set_exception(ForkError("two histories"))
    with pytest.raises(ForkError):
        await asyncio.wait_for(served.task, 5)
    assert not any(tunnel.is_running for tunnel in served.made)


async def test_an_old_tunnel_that_is_lost_meanwhile_is_followed_by_the_new_one(served: Served) -> None:
    [old] = served.made
    new = await served.renew()
    old.ended.set_exception(ExchangeError("lost"))
    old.let_go.set()
    await until(lambda: served.attachment.tunnels == (new,))
    assert new.is_running
    assert not served.task.done()


async def test_a_tunnel_that_ends_ends_the_attachment(served: Served) -> None:
    [tunnel] = served.made
    tunnel.ended.set_exception(ExchangeError("the broker stops"))
    with pytest.raises(ExchangeError, match="the broker stops"):
        await asyncio.wait_for(served.task, 5)


async def test_an_adapter_that_stops_takes_nothing_over(served: Served) -> None:
    [tunnel] = served.made
    tunnel.is_leaving = True
    served.renewed.set()
    tunnel.ended.set_result(None)
    await asyncio.wait_for(served.task, 5)
    assert served.made == [tunnel]


async def test_ending_it_ends_both_tunnels(served: Served) -> None:
    new = await served.renew()
    new.attached.set()
    await asyncio.wait_for(served.made[0].left.wait(), 5)
    served.task.cancel()
    await asyncio.wait([served.task])
    assert not any(tunnel.is_running for tunnel in served.made)
