"""A lost, older or exchanged file beside an anchor is found out; one that a crash left ahead of it is taken."""

import json
import stat
from pathlib import Path

import pytest

from adapters.anchor import Anchor, AnchorError, Head

CHAIN = bytes([7]) * 32
HEAD = Head(3, CHAIN)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    path.write_bytes(b"")
    return path


def beside(file: Path) -> Path:
    return file.with_name("ledger.db.anchor")


def test_before_the_first_head_there_is_nothing_to_hold_a_file_to(tmp_path: Path) -> None:
    anchor = Anchor(tmp_path / "ledger.db")
    assert (anchor.seen(), anchor.is_placed) == (Head(), False)


def test_keeps_the_last_head_for_its_owner_alone(file: Path) -> None:
    anchor = Anchor(file)
    anchor.place(Head(2, CHAIN))
    anchor.place(HEAD)
    assert Anchor(file).seen() == HEAD
    assert json.loads(beside(file).read_text()) == {"number": 3, "chain": CHAIN.hex()}
    assert stat.S_IMODE(beside(file).stat().st_mode) == 0o600
    assert {path.name for path in file.parent.iterdir()} == {"ledger.db", "ledger.db.anchor"}


def test_the_same_head_is_written_once(file: Path) -> None:
    Anchor(file).place(HEAD)
    anchor = Anchor(file)
    anchor.seen()
    beside(file).unlink()
    anchor.place(HEAD)
    assert not anchor.is_placed


def test_a_file_that_goes_on_from_the_anchor_is_the_one(file: Path) -> None:
    Anchor(file).check(HEAD, 3, CHAIN)
    Anchor(file).check(HEAD, 4, CHAIN)
    Anchor(file).check(Head(), 4, Head().chain)


def test_a_missing_file_is_named_with_what_to_do(file: Path) -> None:
    Anchor(file).place(HEAD)
    file.unlink()
    with pytest.raises(AnchorError, match=r"ledger\.db: it is missing, but its anchor has seen 3 rows") as caught:
        Anchor(file).seen()
    assert caught.value.exit_code == 4
    assert "restore the ledger.db" in caught.value.hint
    assert "do not delete the anchor" in caught.value.hint


@pytest.mark.parametrize(("last", "chain"), [(2, CHAIN), (0, Head().chain), (3, bytes(32)), (9, bytes(32))])
def test_an_older_or_another_file_is_refused(file: Path, last: int, chain: bytes) -> None:
    with pytest.raises(AnchorError, match=r"ledger\.db: "):
        Anchor(file).check(HEAD, last, chain)


@pytest.mark.parametrize(
    "text",
    ["", "3", "{}", "[]", '{"number": 3}', '{"number": 3, "chain": "00"}', '{"number": 3, "chain": 5}']
    + [f'{{"number": {number}, "chain": "{"00" * 32}"}}' for number in ("-1", "null", "[]")],
)
def test_a_damaged_anchor_lets_nothing_pass(file: Path, text: str) -> None:
    beside(file).write_text(text)
    with pytest.raises(AnchorError, match="its anchor is damaged"):
        Anchor(file).seen()


def test_an_anchor_that_cannot_be_read_lets_nothing_pass(file: Path) -> None:
    beside(file).mkdir()
    with pytest.raises(AnchorError, match="its anchor cannot be read"):
        Anchor(file).seen()
