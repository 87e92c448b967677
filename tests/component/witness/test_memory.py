"""A witness never cosigns two histories: what it compares and what it keeps is one transaction, on stable storage."""

import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from exchange.core.merkle import verify_consistency
from exchange.core.witnessing import Rejected, Submission, open_submission
from exchange.home import HomeError
from exchange.witness.memory import Kept, MemoryFailedError, WitnessMemory
from tests.component.witness.histories import LOG, ORIGIN, TIME, History


def clock() -> int:
    return TIME


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "witness.db"


@pytest.fixture
def memory(path: Path) -> WitnessMemory:
    return WitnessMemory.create(path, clock)


def submission(old: int, new: int, history: History | None = None) -> Submission:
    opened = open_submission((history or History()).request(old, new), {ORIGIN: LOG.verifier})
    assert isinstance(opened, Submission), opened
    return opened


def test_a_new_memory_has_seen_no_log(memory: WitnessMemory) -> None:
    assert memory.latest(ORIGIN) is None


def test_a_checkpoint_that_was_kept_is_there_after_a_restart(memory: WitnessMemory, path: Path) -> None:
    assert memory.advance(submission(0, 5)) == Kept(History().checkpoint(5), TIME)
    assert WitnessMemory(path, clock).latest(ORIGIN) == History().checkpoint(5)


def test_what_is_rejected_changes_nothing(memory: WitnessMemory) -> None:
    memory.advance(submission(0, 5))
    assert isinstance(memory.advance(submission(5, 7, History("two"))), Rejected)
    assert isinstance(memory.advance(submission(3, 9)), Rejected)
    assert memory.latest(ORIGIN) == History().checkpoint(5)


def test_requests_at_the_same_moment_never_roll_a_log_back(memory: WitnessMemory) -> None:
    memory.advance(submission(0, 1))
    asked = [submission(1, new) for new in range(1, 40)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(memory.advance, asked))
    kept = [answer.checkpoint for answer in answers if isinstance(answer, Kept)]
    grown = [checkpoint for checkpoint in kept if checkpoint.size > 1]
    # All of them start from size 1, so no second one may follow the first that grew it.
    assert len(grown) == 1
    assert memory.latest(ORIGIN) == grown[0]


def test_two_processes_with_one_file_never_cosign_two_histories(memory: WitnessMemory, path: Path) -> None:
    second = WitnessMemory(path, clock)
    asked = [
        (where, submission(0, size, History(name)))
        for size in range(1, 20)
        for where, name in ((memory, "one"), (second, "two"))
    ]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda pair: pair[0].advance(pair[1]), asked))
    assert sum(isinstance(answer, Kept) for answer in answers) == 1


def test_a_kept_checkpoint_follows_the_one_before(memory: WitnessMemory) -> None:
    history = History()
    for old, new in ((0, 3), (3, 3), (3, 10), (10, 33)):
        assert isinstance(memory.advance(submission(old, new)), Kept)
        if old:
            before, after = history.checkpoint(old), history.checkpoint(new)
            verify_consistency(old, before.root, new, after.root, history.proof(old, new))


class FullDisk(sqlite3.Connection):
    """A disk that takes no more when the transaction is to be committed."""

    def execute(self, sql: str, *arguments: object) -> sqlite3.Cursor:  # type: ignore[override]
        if sql == "COMMIT":
            raise sqlite3.OperationalError("database or disk is full")
        return super().execute(sql, *arguments)  # type: ignore[arg-type]


def test_nothing_is_kept_where_the_commit_fails(
    memory: WitnessMemory, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.advance(submission(0, 5))
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect
    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", lambda *args, **more: connect(*args, **more, factory=FullDisk))
        with pytest.raises(MemoryFailedError, match="disk is full"):
            memory.advance(submission(5, 9))
    assert WitnessMemory(path, clock).latest(ORIGIN) == History().checkpoint(5)


def test_a_memory_that_is_missing_is_not_made_anew(path: Path) -> None:
    with pytest.raises(HomeError, match="missing"):
        WitnessMemory(path, clock)
    assert not path.exists()


def test_a_memory_is_never_made_over_another(memory: WitnessMemory, path: Path) -> None:
    memory.advance(submission(0, 5))
    with pytest.raises(HomeError, match="there already"):
        WitnessMemory.create(path, clock)
    assert memory.latest(ORIGIN) == History().checkpoint(5)


def test_refuses_a_file_that_is_not_a_memory(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE latest (origin TEXT)")
    with pytest.raises(HomeError, match="not a witness's memory"):
        WitnessMemory(path, clock)
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(HomeError):
        WitnessMemory(path, clock)


def test_a_memory_is_its_owners_alone(memory: WitnessMemory, path: Path) -> None:
    assert path.stat().st_mode & 0o077 == 0
