import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from threading import Thread

import pytest

import adapters
from adapters.anchor import Anchor, AnchorError
from adapters.orders import Order, OrderKind, Orders, OrdersError
from exchange.home import HomeError

ONE, TWO, THREE = bytes([1]) * 32, bytes([2]) * 32, bytes([3]) * 32
PROJECT = Path(adapters.__file__).parents[1]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "orders.db"


@pytest.fixture
def orders(path: Path) -> Iterator[Orders]:
    with closing(Orders.open(path)) as opened:
        yield opened


def elsewhere(path: Path, *calls: str) -> int:
    """Gives orders in another process, and returns its exit status."""
    lines = ("import os, signal, sys", "from pathlib import Path", "from adapters.orders import Orders")
    script = "\n".join((*lines, "orders = Orders.open(Path(sys.argv[1]))", *calls))
    return subprocess.run([sys.executable, "-c", script, os.fspath(path)], cwd=PROJECT, check=False).returncode


def test_nothing_is_ordered_at_first(orders: Orders) -> None:
    assert (dict(orders.stopped), orders.revoked, orders.to_send(), orders.history()) == ({}, frozenset(), (), ())


def test_the_last_word_on_a_dataset_counts(orders: Orders) -> None:
    orders.stop("births", "leak", 1)
    orders.stop("homes", "audit", 2)
    orders.stop("births", "leak confirmed", 3)
    assert {code: order.reason for code, order in orders.stopped.items()} == {
        "births": "leak confirmed",
        "homes": "audit",
    }
    orders.resume("births", 4)
    orders.resume("never-stopped", 5)
    assert set(orders.stopped) == {"homes"}
    orders.stop("births", "again", 6)
    assert set(orders.stopped) == {"homes", "births"}


def test_a_revocation_is_for_good(orders: Orders) -> None:
    orders.revoke(ONE, b"envelope", "misuse", 1)
    orders.sent(ONE, 2)
    orders.revoke(ONE, b"another", "misuse again", 3)
    assert orders.revoked == {ONE}
    assert orders.to_send() == ()


def test_revocations_wait_in_order_until_they_are_sent(orders: Orders) -> None:
    orders.revoke(TWO, b"two", "", 1)
    orders.revoke(ONE, b"one", "", 2)
    orders.revoke(THREE, b"three", "", 3)
    assert orders.to_send() == ((TWO, b"two"), (ONE, b"one"), (THREE, b"three"))
    orders.sent(ONE, 4)
    orders.sent(ONE, 5)
    assert orders.to_send() == ((TWO, b"two"), (THREE, b"three"))
    assert orders.revoked == {ONE, TWO, THREE}


def test_what_was_never_revoked_cannot_have_been_sent(orders: Orders) -> None:
    orders.sent(ONE, 1)
    orders.revoke(ONE, b"one", "", 2)
    assert orders.to_send() == ((ONE, b"one"),)


def test_a_newer_envelope_replaces_an_unsent_one(orders: Orders) -> None:
    orders.revoke(ONE, b"signed with a key that has ended", "", 1)
    orders.revoke(ONE, b"signed with its successor", "", 2)
    assert orders.to_send() == ((ONE, b"signed with its successor"),)


def test_every_order_is_kept_with_its_time(orders: Orders) -> None:
    orders.stop("births", "泄露", 10)
    orders.resume("births", 20)
    orders.revoke(ONE, b"envelope", "misuse", 30)
    orders.sent(ONE, 40)
    assert orders.history() == (
        Order(10, OrderKind.STOP, dataset="births", reason="泄露"),
        Order(20, OrderKind.RESUME, dataset="births"),
        Order(30, OrderKind.REVOKE, agreement=ONE, reason="misuse", envelope=b"envelope"),
        Order(40, OrderKind.SENT, agreement=ONE),
    )


def test_refuses_what_is_no_digest(orders: Orders) -> None:
    with pytest.raises(OrdersError, match="32 bytes"):
        orders.revoke(b"short", b"envelope", "", 1)
    assert orders.history() == ()


def test_what_is_in_force_cannot_be_changed_by_a_reader(orders: Orders) -> None:
    orders.stop("births", "leak", 1)
    with pytest.raises(TypeError):
        orders.stopped["homes"] = orders.stopped["births"]  # type: ignore[index]


def test_sees_another_process_at_the_next_decision(path: Path, orders: Orders) -> None:
    orders.stop("homes", "audit", 1)
    assert set(orders.stopped) == {"homes"}
    assert elsewhere(path, "orders.stop('births', 'leak', 2)", "orders.resume('homes', 3)") == 0
    assert set(orders.stopped) == {"births"}
    assert [order.time for order in orders.history()] == [1, 2, 3]


def test_sees_every_commit_of_another_connection(path: Path, orders: Orders) -> None:
    with closing(Orders.open(path)) as other:
        for number in range(1, 6):
            other.stop(f"other-{number}", "", number)
            assert f"other-{number}" in orders.stopped
            orders.stop(f"own-{number}", "", number)
            assert f"own-{number}" in orders.stopped
            assert len(other.stopped) == 2 * number


def test_an_unchanged_file_is_not_read_again(orders: Orders, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    orders.stop("births", "leak", 1)
    first = orders.stopped
    assert orders.stopped is first
    orders.stop("homes", "leak", 2)
    assert orders.stopped is not first


def test_survives_a_kill_right_after_the_order(path: Path) -> None:
    revoke = "orders.revoke(bytes([1]) * 32, b'envelope', 'misuse', 1)"
    assert elsewhere(path, revoke, "os.kill(os.getpid(), signal.SIGKILL)") == -signal.SIGKILL
    with closing(Orders.open(path)) as orders:
        assert orders.revoked == {ONE}
        assert orders.to_send() == ((ONE, b"envelope"),)


def test_an_order_that_was_not_committed_is_undone(path: Path, orders: Orders) -> None:
    orders.stop("births", "leak", 1)
    half = (
        "orders._db.execute('PRAGMA cache_spill = 1')",
        "orders._db.execute('PRAGMA cache_size = 1')",
        "orders._db.execute('BEGIN IMMEDIATE')",
        'orders._db.execute("UPDATE orders SET reason = hex(zeroblob(100000))")',
        "os.kill(os.getpid(), signal.SIGKILL)",
    )
    assert elsewhere(path, *half) == -signal.SIGKILL
    assert path.with_name("orders.db-journal").stat().st_size > 0
    assert orders.stopped["births"].reason == "leak"
    orders.resume("births", 2)


def test_threads_share_it(orders: Orders) -> None:
    def give(name: str) -> None:
        for number in range(5):
            orders.stop(f"{name}-{number}", "", number)
            assert f"{name}-{number}" in orders.stopped

    threads = [Thread(target=give, args=(name,)) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(orders.stopped) == 15


def test_keeps_the_promised_settings(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = list[sqlite3.Connection]()
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: opened.append(connect(*a, **k)) or opened[-1])
    with closing(Orders.open(path)):
        names = ("journal_mode", "synchronous")
        assert [opened[0].execute(f"PRAGMA {name}").fetchone()[0] for name in names] == ["delete", 3]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


# --- nothing fails open -------------------------------------------------------------------------------


def test_a_replaced_file_is_no_file(path: Path, orders: Orders) -> None:
    path.unlink()
    with pytest.raises(OrdersError):
        _ = orders.stopped
    with closing(Orders.open(path.with_name("other.db"))) as other:
        other.stop("births", "leak", 1)
    path.with_name("other.db").rename(path)
    with pytest.raises(OrdersError, match="was replaced while in use"):
        _ = orders.stopped
    with pytest.raises(OrdersError, match="was replaced while in use"):
        orders.stop("births", "leak", 1)


def test_a_locked_file_is_an_error(path: Path, orders: Orders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.orders.BUSY", 1)
    with (
        closing(Orders.open(path)) as impatient,
        closing(sqlite3.connect(path, isolation_level=None)) as stuck,
    ):
        stuck.execute("BEGIN EXCLUSIVE")
        with pytest.raises(OrdersError, match="locked"):
            _ = impatient.revoked
        with pytest.raises(OrdersError, match="locked"):
            impatient.stop("births", "leak", 1)
        stuck.execute("ROLLBACK")
        assert impatient.revoked == frozenset()


def test_a_failed_order_is_undone_and_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Faulty(sqlite3.Connection):
        def execute(self, statement: str, values: object = (), /) -> sqlite3.Cursor:
            if statement != "COMMIT" or not failing:
                return super().execute(statement, values)  # type: ignore[arg-type]
            if failing == ["persisted"]:
                super().execute(statement)
            raise sqlite3.OperationalError("disk I/O error")

    failing = list[str]()
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Faulty))
    with closing(Orders.open(path)) as orders:
        _ = orders.revoked
        failing.append("failed")
        with pytest.raises(OrdersError, match="disk I/O error"):
            orders.revoke(ONE, b"envelope", "", 1)
        failing.clear()
        assert orders.revoked == frozenset()
        failing.append("persisted")
        with pytest.raises(OrdersError, match="disk I/O error"):
            orders.revoke(ONE, b"envelope", "", 1)
        failing.clear()
        assert orders.revoked == {ONE}
        orders.revoke(ONE, b"envelope", "", 2)
        assert orders.to_send() == ((ONE, b"envelope"),)


@pytest.mark.parametrize(
    ("pragma", "said"), [("max_page_count = 1", "full"), ("query_only = ON", "readonly")], ids=["full", "read-only"]
)
def test_an_order_that_the_disk_does_not_take_is_not_in_force(orders: Orders, pragma: str, said: str) -> None:
    orders.stop("residents", "", 1)
    orders._db.execute(f"PRAGMA {pragma}")
    with pytest.raises(OrdersError, match=said):
        orders.revoke(ONE, bytes(20_000), "", 2)
    assert orders.revoked == frozenset()
    assert set(orders.stopped) == {"residents"}


def test_an_unknown_order_is_an_error(path: Path, orders: Orders) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("INSERT INTO orders VALUES (NULL, 1, 'pause', 'births', x'', '', x'')")
        db.commit()
    with pytest.raises(OrdersError, match="pause"):
        _ = orders.stopped


def test_says_what_is_wrong_with_the_file(tmp_path: Path) -> None:
    with pytest.raises(OrdersError, match="No such file"):
        Orders.open(tmp_path / "missing" / "orders.db")
    text = tmp_path / "text"
    text.write_bytes(b"not a database" * 100)
    with pytest.raises(OrdersError, match="not a database"):
        Orders.open(text)
    with closing(sqlite3.connect(tmp_path / "other.db")) as db:
        db.execute("CREATE TABLE other (x)")
        db.commit()
    with pytest.raises(OrdersError, match="no orders of format 1"):
        Orders.open(tmp_path / "other.db")


# --- the anchor ---------------------------------------------------------------------------------------


def anchored(path: Path) -> int:
    return Anchor(path).seen().number


def test_the_first_run_places_the_anchor(path: Path, orders: Orders) -> None:
    assert Anchor(path).is_placed
    assert anchored(path) == 0


def test_every_order_is_anchored_when_it_returns(path: Path, orders: Orders) -> None:
    orders.stop("births", "leak", 1)
    assert anchored(path) == 1
    orders.resume("births", 2)
    orders.revoke(ONE, b"one", "", 3)
    orders.sent(ONE, 4)
    assert anchored(path) == 4


def test_an_order_of_another_process_is_never_taken_out_of_the_anchor(path: Path, orders: Orders) -> None:
    orders.stop("births", "leak", 1)
    assert elsewhere(path, "orders.stop('homes', 'leak', 2)") == 0
    assert anchored(path) == 2
    orders.stop("deaths", "leak", 3)
    assert anchored(path) == 3


def test_lost_orders_are_not_replaced_by_none(path: Path) -> None:
    with closing(Orders.open(path)) as orders:
        orders.stop("births", "leak", 1)
    path.unlink()
    for attempt in (Orders.open, Orders.read):
        with pytest.raises(AnchorError, match="it is missing"):
            attempt(path)
    assert not path.exists()


def test_an_older_copy_of_the_orders_is_refused(path: Path) -> None:
    with closing(Orders.open(path)) as orders:
        orders.stop("homes", "leak", 1)
        older = shutil.copy(path, path.with_name("older.db"))
        orders.stop("births", "leak", 2)
    shutil.copy(older, path)
    for attempt in (Orders.open, Orders.open, Orders.read):
        with pytest.raises(AnchorError, match="it has 1 rows, but its anchor has seen 2"):
            attempt(path)


def test_emptied_orders_are_refused(path: Path) -> None:
    with closing(Orders.open(path)) as orders:
        orders.stop("births", "leak", 1)
    path.write_bytes(b"")
    for _ in range(2):
        with pytest.raises(AnchorError, match="it has 0 rows"):
            Orders.open(path)


@pytest.mark.parametrize(
    "change",
    [
        "dataset = 'homes'",
        "kind = 'resume'",
        "time = 2",
        "reason = 'maintenance'",
        "envelope = x'00'",
        "agreement = zeroblob(32)",
    ],
)
def test_altered_orders_are_refused(path: Path, change: str) -> None:
    with closing(Orders.open(path)) as orders:
        orders.stop("births", "leak", 1)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(f"UPDATE orders SET {change}")
    with pytest.raises(AnchorError, match="its row 1 is not the one"):
        Orders.open(path)


def test_orders_whose_anchor_a_crash_left_behind_are_taken_and_anchored(path: Path) -> None:
    with closing(Orders.open(path)) as orders:
        orders.stop("births", "leak", 1)
        behind = path.with_name("orders.db.anchor").read_bytes()
        orders.stop("homes", "leak", 2)
    path.with_name("orders.db.anchor").write_bytes(behind)
    with closing(Orders.read(path)) as orders:
        assert set(orders.stopped) == {"births", "homes"}
    assert anchored(path) == 1
    with closing(Orders.open(path)) as orders:
        assert set(orders.stopped) == {"births", "homes"}
    assert anchored(path) == 2


def test_orders_from_before_there_were_anchors_get_one(path: Path) -> None:
    with closing(Orders.open(path)) as orders:
        orders.stop("births", "leak", 1)
    path.with_name("orders.db.anchor").unlink()
    Orders.open(path).close()
    assert anchored(path) == 1


def test_an_order_whose_anchor_cannot_be_written_is_in_force_and_says_what_failed(
    path: Path, orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes, mode: int) -> None:
        raise HomeError(f"cannot write {path}: No space left on device")

    monkeypatch.setattr("adapters.anchor.write_file", full)
    with pytest.raises(OrdersError, match=r"is in force, but its anchor could not be written.*No space"):
        orders.stop("births", "leak", 1)
    monkeypatch.undo()
    assert set(orders.stopped) == {"births"}
    orders.stop("homes", "leak", 2)
    assert anchored(path) == 2


def test_a_look_makes_nothing(path: Path) -> None:
    with pytest.raises(OrdersError):
        Orders.read(path)
    assert list(path.parent.iterdir()) == []
