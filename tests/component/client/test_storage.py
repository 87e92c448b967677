import sqlite3
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from exchange.client import sqlite_file, storage
from exchange.client.errors import EvidenceError, UntrustedError
from exchange.client.storage import ACCESS, MirrorFile
from exchange.core.checkpoint import Checkpoint, sign_checkpoint
from exchange.core.merkle import EMPTY_ROOT
from exchange.core.note import NoteSigner


def test_is_durable_and_free_of_the_wal_reset_bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert sqlite_file.SYNCHRONOUS == "EXTRA"
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


NOTE = NoteSigner("city.example/directory", Ed25519PrivateKey.generate())


@pytest.mark.parametrize("key_is_the_same", [True, False])
def test_another_key_of_the_log_is_told_apart_from_an_altered_file(tmp_path: Path, key_is_the_same: bool) -> None:
    file = MirrorFile(tmp_path / "mirror.db")
    note = sign_checkpoint(Checkpoint(NOTE.name, 0, EMPTY_ROOT), NOTE)
    other = NoteSigner(NOTE.name, Ed25519PrivateKey.generate())
    error = file.unproven(note, (NOTE if key_is_the_same else other).verifier, "no")
    assert (type(error), error.exit_code) == ((EvidenceError, 1) if key_is_the_same else (UntrustedError, 5))
    assert "deletes the memory of what was seen" in error.hint


@pytest.mark.parametrize("note", [b"", b"x", b"\xff\n\n\xe2\x80\x94 city.example/directory AAAA\n"])
def test_what_is_no_note_was_altered(tmp_path: Path, note: bytes) -> None:
    assert isinstance(MirrorFile(tmp_path / "mirror.db").unproven(note, NOTE.verifier, "no"), EvidenceError)
