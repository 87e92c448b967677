"""A program of the exchange with faults built in: `python -m tests.e2e.faulty broker|adapter|command ARGUMENTS`.

It runs the real program after wrapping a few of its functions; the programs themselves know nothing of it. What goes
wrong, and when, `tests.e2e.faults` says, which tests write.

    any       clock                          seconds by which its clock is ahead; looked at whenever it is read, if it
                                             was there at the start
    broker    submitted                      a request came in
              before-commit, after-commit    around the commit of both logs
              released                       the answer's entry is durable, the answer has not left
              withhold                       receipts are not sent to adapters
              read-only                      the database takes no writes
              refuse                         entries of the directory and renewals are refused without a reason
              stumble                        entries of the directory fail in a way that nobody foresaw
              disk, fsync                    its database is on a disk of apsw's (from its start), which fails to sync
    adapter   asking                         before the source is asked
              before-commit, after-commit    around the commit of an answer to the ledger
              before-receipt, after-receipt  around the commit of a receipt
              sent                           right after an answer was written to the tunnel
              order                          before a local revocation is sent
              read-only                      the ledger takes no writes
              disk, fsync                    its ledger is on a disk of apsw's (from its start), which fails to sync
              twice                          every reply is sent twice
              swapped                        replies carry the answer before theirs, to another request
              garbage                        replies carry no envelope
              signer                         answers are signed with the key of the home that it names
              sealing                        another sealing key is made, at every look (each second)
              give-up                        seconds until a tunnel whose receipts stay out is attached anew
              version                        it is of this version (from its start)
    both      hurry                          figures are looked at often, and keys every second (from its start)
              free                           so many bytes are left on the disk
"""

import asyncio
import functools
import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from tests.e2e.faults import HOLD, Faults

_TICK = 0.005

# Seconds; tests wait for adapters to attach again, and to offer again.
LONGEST_WAIT, STRAY = 0.2, 1.0


def move_clock(faults: Faults) -> None:
    """Give the product another wall clock than the machine's: whatever imports `time` from here on reads that.

    gRPC is imported before, and keeps the machine's: it counts its deadlines by it. TLS keeps it too, so that what a
    broker certifies is valid by that.
    """
    import grpc.aio  # noqa: F401 - for its import alone

    def ahead() -> int:
        return int(faults.value("clock") or 0)

    moved = ModuleType("time")
    vars(moved).update(vars(time))
    moved.time = lambda: time.time() + ahead()  # type: ignore[attr-defined]
    moved.time_ns = lambda: time.time_ns() + ahead() * 1_000_000_000  # type: ignore[attr-defined]
    sys.modules["time"] = moved
    from exchange.broker.authority import Authority

    def issue(original: Callable[..., bytes], authority: Any, *arguments: Any, **named: Any) -> bytes:
        csr, party, key, now, *hosts = arguments
        return original(authority, csr, party, key, now - timedelta(seconds=ahead()), *hosts, **named)

    _wrap(Authority, "issue", issue)


def break_broker(faults: Faults) -> None:
    """Wrap what a broker does."""
    from exchange.broker.append import AppendCommand
    from exchange.broker.logs import EntryRefusedError
    from exchange.broker.relay import Relay
    from exchange.broker.renewing import RenewCommand
    from exchange.broker.tunnel import Tunnel
    from exchange.store.sql import SqlLogStore

    _in_thread(SqlLogStore, "_commit", faults, "before-commit", "after-commit")
    _on_loop(Relay, "submit", faults, before="submitted")
    _on_loop(Relay, "_release", faults, after="released")

    def locked(original: Callable[..., Any], store: Any) -> Any:
        if faults.value("read-only"):
            store._database.writer.connection.dbapi_connection.execute("PRAGMA query_only = ON")
        return original(store)

    def settle(original: Callable[..., Any], tunnel: Any, *arguments: Any) -> None:
        if not faults.value("withhold"):
            original(tunnel, *arguments)

    async def append(original: Callable[..., Any], *arguments: Any) -> Any:
        if faults.value("refuse"):
            raise EntryRefusedError("refused")
        if faults.value("stumble"):
            raise LookupError("nobody foresaw this")
        return await original(*arguments)

    _wrap(AppendCommand, "__call__", append)
    _wrap(RenewCommand, "__call__", append)
    _wrap(SqlLogStore, "locked", locked)
    _wrap(Tunnel, "settle", settle)


def break_adapter(faults: Faults) -> None:
    """Wrap what an adapter does."""
    import adapters.host
    import adapters.tunnel
    from adapters.host import Host
    from adapters.ledger import Ledger
    from adapters.sources import Sources

    adapters.host.LONGEST_WAIT = LONGEST_WAIT
    adapters.tunnel.GIVE_UP = float(faults.value("give-up") or adapters.tunnel.GIVE_UP)
    adapters.tunnel.STRAY = STRAY
    _in_thread(Ledger, "commit", faults, "before-commit", "after-commit")
    _wrap(Ledger, "commit", functools.partial(_commit_read_only, faults))
    _in_thread(Ledger, "settle_all", faults, "before-receipt", "after-receipt")
    _on_loop(Sources, "answer", faults, before="asking")
    _on_loop(Host, "_send_order", faults, before="order")
    _break_answers(faults)
    _break_tunnel(faults)
    _hurry_sealing_keys(faults)


def break_figures(faults: Faults) -> None:
    """Wrap what a program reads for its figures."""
    import exchange.client.keeping
    import exchange.metrics.gauges
    import exchange.metrics.serving

    if faults.value("hurry"):
        exchange.metrics.serving.SAMPLE_SECONDS = 0.5
        exchange.client.keeping.RENEW_SECONDS = 1
    if version := faults.value("version"):
        exchange.metrics.gauges.version = lambda _: version
    disk_usage, statvfs = shutil.disk_usage, os.statvfs

    def usage(path: Any) -> Any:
        free = faults.value("free")
        return disk_usage(path)._replace(free=int(free)) if free else disk_usage(path)

    def blocks(path: Any) -> Any:
        free = faults.value("free")
        return SimpleNamespace(f_bavail=int(free), f_frsize=1) if free else statvfs(path)

    shutil.disk_usage, os.statvfs = usage, blocks  # type: ignore[assignment]


def _hurry_sealing_keys(faults: Faults) -> None:
    import adapters.host
    import adapters.sealing_keys
    from adapters.sealing_keys import SealingKeys
    from exchange.core.lifetimes import SEALING_KEY, SEALING_RENEWAL

    adapters.host.UPKEEP_SECONDS = 1

    async def ensure(original: Callable[..., Any], keys: Any) -> None:
        adapters.sealing_keys.RENEW_BEFORE = SEALING_KEY if faults.value("sealing") else SEALING_RENEWAL
        await original(keys)

    _wrap(SealingKeys, "ensure", ensure)


def _commit_read_only(faults: Faults, original: Callable[..., Any], ledger: Any, answers: Any) -> None:
    if faults.value("read-only"):
        ledger._writes.execute("PRAGMA query_only = ON")
    original(ledger, answers)


def break_disk(faults: Faults) -> None:
    """Put the databases that this program writes on a disk that can fail to sync."""
    import apsw

    from tests.component.durability.disk import Disk
    from tests.component.durability.driver import connect_through

    class FailingDisk(Disk):
        def sync(self, path: str) -> None:
            if faults.value("fsync"):
                raise apsw.IOError("the disk failed")
            super().sync(path)

    connect = sqlite3.connect
    break_disk.disk = FailingDisk("failing", lambda: None)  # type: ignore[attr-defined]
    failing = connect_through("failing")

    def choose(name: str, **options: Any) -> Any:
        return (failing if str(name).split("?")[0].endswith(("exchange.db", "ledger.db")) else connect)(name, **options)

    sqlite3.connect = choose  # type: ignore[assignment]


def _break_answers(faults: Faults) -> None:
    from adapters.answering import Answerer
    from exchange.client.session import Session
    from exchange.home import Home

    before = []

    async def answer(original: Callable[..., Any], answerer: Any, frame: bytes) -> Any:
        envelope, response = await original(answerer, frame)
        before.append(response)
        return envelope, before[-2] if faults.value("swapped") else response

    def signer(session: Any) -> Any:
        other = faults.value("signer")
        return (Home(Path(other)) if other else session.home).signer()

    _wrap(Answerer, "answer", answer)
    Session.signer = property(signer)  # type: ignore[assignment, method-assign]


def _break_tunnel(faults: Faults) -> None:
    from adapters.tunnel import Tunnel

    def post(original: Callable[..., Any], tunnel: Any, frame: Any) -> None:
        if frame.HasField("reply"):
            if faults.value("garbage"):
                frame.reply.envelope = b"garbage"
            if faults.value("twice"):
                original(tunnel, frame)
        original(tunnel, frame)

    async def send(original: Callable[..., Any], tunnel: Any, frames: Any) -> Any:
        sent = await original(tunnel, frames)
        if any(frame.HasField("reply") for frame in frames):
            faults.pass_by("sent")
        return sent

    _wrap(Tunnel, "_post", post)
    _wrap(Tunnel, "_send", send)


def _in_thread(owner: type, name: str, faults: Faults, before: str, after: str) -> None:
    def around(original: Callable[..., Any], *arguments: Any) -> Any:
        faults.pass_by(before)
        result = original(*arguments)
        faults.pass_by(after)
        return result

    _wrap(owner, name, around)


def _on_loop(owner: type, name: str, faults: Faults, before: str = "", after: str = "") -> None:
    async def around(original: Callable[..., Any], *arguments: Any) -> Any:
        await _pass_by(faults, before)
        result = await original(*arguments)
        await _pass_by(faults, after)
        return result

    _wrap(owner, name, around)


async def _pass_by(faults: Faults, point: str) -> None:
    if point and faults.reach(point) == HOLD:
        while faults.value(point):  # noqa: ASYNC110 - it is a file that it waits for
            await asyncio.sleep(_TICK)


def _wrap(owner: type, name: str, around: Callable[..., Any]) -> None:
    """Have a method called as `around(original, self, …)`."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        return around(original, *arguments, **named)

    setattr(owner, name, wrapped)


def main() -> None:
    """Break the program, and run it."""
    role, *arguments = sys.argv[1:]
    faults = Faults(Path(os.environ["EXCHANGE_TEST_FAULTS"]))
    # First of all: the product must not be imported yet.
    if faults.value("clock"):
        move_clock(faults)
    if faults.value("disk"):
        break_disk(faults)
    break_figures(faults)
    if role == "broker":
        from exchange.cli.main import app

        break_broker(faults)
    elif role == "command":
        from exchange.cli.main import app
    else:
        from adapters.cli import app

        break_adapter(faults)
    sys.argv[1:] = arguments
    app()


if __name__ == "__main__":
    main()
