import sqlite3
from pathlib import Path

import pytest

from exchange.client import storage
from exchange.client.storage import ACCESS, MirrorFile


def test_is_durable_and_free_of_the_wal_reset_bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert storage.SYNCHRONOUS == "EXTRA"
    file = MirrorFile(tmp_path / "mirror.db")
    with file._open() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (3,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_a_head_moves_only_from_where_it_was(tmp_path: Path) -> None:
    file = MirrorFile(tmp_path / "mirror.db")
    assert file.move_head(ACCESS, b"", b"one")
    assert not file.move_head(ACCESS, b"", b"two")
    assert file.head(ACCESS) == b"one"


def test_what_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    file = MirrorFile(tmp_path / "mirror.db")
    entries = (storage.Entry(0, b"leaf", b""), storage.Entry(0, b"leaf", b""))
    with pytest.raises(storage.EvidenceError):
        file.extend(entries, b"note", 2)
    assert file.load(0) == storage.Loaded((), b"")


def test_a_mirror_has_no_gaps(tmp_path: Path) -> None:
    file = MirrorFile(tmp_path / "mirror.db")
    with pytest.raises(storage.EvidenceError, match="replaced"):
        file.extend((storage.Entry(1, b"leaf", b""),), b"note", 2)


def test_a_second_process_waits_for_its_turn(tmp_path: Path) -> None:
    file = MirrorFile(tmp_path / "mirror.db")
    MirrorFile(tmp_path / "mirror.db")
    with file._transaction("BEGIN IMMEDIATE"):
        connection = sqlite3.connect(tmp_path / "mirror.db", timeout=0)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            connection.execute("BEGIN IMMEDIATE")
        connection.close()
