"""The mirror of the access log: it grows page by page, and never past what the log has signed."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from exchange.cli.audit.checking.findings import Finding
from exchange.cli.audit.checking.verification import LoggedEntry
from exchange.cli.audit.mirror.access_mirror import FILE, AccessMirror
from exchange.client.errors import EvidenceError, ForkError, RefusedError, RollbackError, UnavailableError
from exchange.core.checkpoint import open_checkpoint
from exchange.core.note import Verifier
from exchange.home import Home
from exchange.transport import ACCESS_SYNC
from exchange.v1.log_pb2 import Record
from tests.component.audit.copies import AuditedExchange, ask, findings_of, mirror, rebuilt
from tests.simulator import refused
from tests.world import World


def held(home: Home, world: World) -> tuple[list[LoggedEntry], int, int]:
    """The mirror's entries, its size, and what it is verified to."""
    with AccessMirror.opened(home.path / FILE, verifier(world)) as file:
        return list(file.rows(0, file.size)), file.size, file.checkpoint.size


def verifier(world: World) -> Verifier:
    return world.access_log.signer.verifier


async def test_mirrors_every_entry_page_by_page(home: Home, exchange: AuditedExchange) -> None:
    exchange.page = 2
    await mirror(home, exchange)
    rows, size, verified = held(home, exchange.world)
    assert size == verified == exchange.world.access_log.size == 5
    assert exchange.count(ACCESS_SYNC) == 3
    assert [row.index_problem for row in rows] == [""] * 5
    assert findings_of(exchange.world, rows) == []


async def test_only_new_entries_are_fetched(home: Home, exchange: AuditedExchange) -> None:
    await mirror(home, exchange)
    ask(exchange.world)
    fetched: list[int] = []
    exchange.access_record = lambda record: (fetched.append(record.index), record)[1]
    await mirror(home, exchange)
    assert fetched == [5]
    assert held(home, exchange.world)[1:] == (6, 6)


async def test_the_directory_is_never_behind(home: Home, exchange: AuditedExchange) -> None:
    """It moves after the directory was fetched, and an entry is decided under it."""
    exchange.page = 4

    def move(record: Record) -> Record:
        if record.index == 0:
            exchange.world.register("another.purpose")
            ask(exchange.world)
        return record

    exchange.access_record = move
    await mirror(home, exchange)
    assert held(home, exchange.world)[2] == 6
    with closing(sqlite3.connect(home.path / "mirror.db")) as connection:
        (size,) = connection.execute("SELECT count(*) FROM entries").fetchone()
    assert size == exchange.world.directory.size


async def test_goes_on_where_it_was_interrupted(home: Home, exchange: AuditedExchange) -> None:
    exchange.page = 2

    def fail(record: Record) -> Record:
        if record.index == 4:
            raise UnavailableError("the connection was lost")
        return record

    exchange.access_record = fail
    with pytest.raises(UnavailableError):
        await mirror(home, exchange)
    assert held(home, exchange.world)[1:] == (4, 0)
    ask(exchange.world)
    exchange.access_record = lambda record: record
    await mirror(home, exchange)
    assert held(home, exchange.world)[1:] == (6, 6)
    with AccessMirror.opened(home.path / FILE, verifier(exchange.world)) as file:
        assert [checkpoint.size for checkpoint in file.checkpoints(verified=True)] == [5, 6]


async def test_an_empty_log_is_mirrored(tmp_path: Path, home: Home) -> None:
    exchange = AuditedExchange(World.standard())
    await mirror(home, exchange)
    with AccessMirror.opened(home.path / FILE, verifier(exchange.world)) as file:
        assert file.is_complete
        assert file.checkpoint.size == file.size == 0


@pytest.mark.parametrize("size", [0, 3])
async def test_a_smaller_log_is_a_rollback_for_good(home: Home, exchange: AuditedExchange, size: int) -> None:
    await mirror(home, exchange)
    log = exchange.world.access_log
    exchange.access_log = rebuilt(log, log.leaves[:size], log.bodies[:size])
    for _ in range(2):
        with pytest.raises(RollbackError) as caught:
            await mirror(home, exchange)
        exchange.access_log = None
    sizes = [open_checkpoint(note, log.signer.verifier).size for note in (caught.value.earlier, caught.value.later)]
    assert sizes == [5, size]
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("more", [0, 1, 3])
async def test_another_history_is_a_fork_for_good(home: Home, exchange: AuditedExchange, more: int) -> None:
    await mirror(home, exchange)
    log = exchange.world.access_log
    twin = rebuilt(log, [*log.leaves[:2], log.leaves[2] + b"\0", *log.leaves[3:]])
    for _ in range(more):
        twin.append(b"another entry")
    exchange.access_log = twin
    for _ in range(2):
        with pytest.raises(ForkError) as caught:
            await mirror(home, exchange)
        exchange.access_log = None
    assert open_checkpoint(caught.value.later, log.signer.verifier).size == 5 + more
    assert held(home, exchange.world)[1] == 5


async def test_a_broker_that_alters_entries_is_not_taken_for_a_fork(home: Home, exchange: AuditedExchange) -> None:
    await mirror(home, exchange)
    ask(exchange.world)
    exchange.access_record = lambda record: Record(index=record.index, leaf=record.leaf + b"\0", body=record.body)
    with pytest.raises(EvidenceError, match="do not make the root"):
        await mirror(home, exchange)
    exchange.access_record = lambda record: record
    await mirror(home, exchange)
    assert held(home, exchange.world)[1:] == (6, 6)


async def test_entries_that_were_altered_at_first_are_fetched_again(home: Home, exchange: AuditedExchange) -> None:
    exchange.page = 2
    exchange.access_record = lambda record: Record(index=record.index, leaf=record.leaf + b"\0", body=record.body)
    with pytest.raises(EvidenceError):
        await mirror(home, exchange)
    assert held(home, exchange.world)[1] == 0
    exchange.access_record = lambda record: record
    await mirror(home, exchange)
    assert held(home, exchange.world)[1:] == (5, 5)


async def test_rejects_another_logs_checkpoint(home: Home, exchange: AuditedExchange) -> None:
    exchange.access_log = exchange.world.directory_log
    with pytest.raises(EvidenceError, match="does not hold"):
        await mirror(home, exchange)


async def test_rejects_entries_out_of_order(home: Home, exchange: AuditedExchange) -> None:
    exchange.access_record = lambda record: Record(index=record.index + 1, leaf=record.leaf, body=record.body)
    with pytest.raises(EvidenceError, match="out of order"):
        await mirror(home, exchange)


async def test_rejects_a_page_without_entries(home: Home, exchange: AuditedExchange) -> None:
    await mirror(home, exchange)
    ask(exchange.world)
    exchange.page = 0
    with pytest.raises(EvidenceError, match="withholds"):
        await mirror(home, exchange)


async def test_a_refusal_of_the_first_page_is_told_as_it_is(home: Home, exchange: AuditedExchange) -> None:
    def refuse(_record: Record) -> Record:
        raise refused("NOT_PERMITTED", "the access log is read by auditors", None)

    exchange.access_record = refuse
    with pytest.raises(RefusedError, match="read by auditors"):
        await mirror(home, exchange)


async def test_a_leaf_that_nobody_can_read_is_kept_as_evidence(home: Home, exchange: AuditedExchange) -> None:
    exchange.world.access_log.append(b"\xff", b"\xff")
    await mirror(home, exchange)
    rows, size, verified = held(home, exchange.world)
    assert size == verified == 6
    findings: list[Finding] = findings_of(exchange.world, rows)
    assert [finding.index for finding in findings] == [5]


async def test_two_syncs_at_once_do_not_mix(home: Home, exchange: AuditedExchange) -> None:
    await mirror(home, exchange)
    with (
        AccessMirror.opened(home.path / FILE, verifier(exchange.world)) as file,
        pytest.raises(UnavailableError, match="another sync"),
    ):
        file.extend(4, [LoggedEntry(4, b"", b"")], (), ())
    assert held(home, exchange.world)[1:] == (5, 5)


def test_the_mirror_is_readable_by_its_owner_alone(synced: Path) -> None:
    assert (synced / FILE).stat().st_mode & 0o077 == 0


def test_without_a_mirror_nothing_is_made(tmp_path: Path, busy: World) -> None:
    with pytest.raises(UnavailableError), AccessMirror.opened(tmp_path / FILE, verifier(busy)):
        pass
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize(
    "damage", ["PRAGMA user_version = 9", "UPDATE checkpoints SET note = x'00'", "DELETE FROM nodes"]
)
async def test_finds_a_mirror_altered_on_disk(home: Home, exchange: AuditedExchange, damage: str) -> None:
    await mirror(home, exchange)
    with closing(sqlite3.connect(home.path / FILE)) as connection, connection:
        connection.execute(damage)
    ask(exchange.world)
    with pytest.raises(EvidenceError, match="access-mirror"):
        await mirror(home, exchange)
