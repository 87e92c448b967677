"""Attacks on the log's files, with and without its key: what the auditor's command says of a copy of the database."""

import re
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from exchange.broker.genesis import log_signers
from exchange.cli.audit.mirror.access_mirror import FILE
from exchange.core.note import NoteSigner
from exchange.store.ports import Log
from tests.e2e.attacks import commands
from tests.e2e.attacks.conftest import Found
from tests.e2e.attacks.stage import ACCESS, OLDER, SIZE, Entry, Stage, alter, changed, leaf_of, rewrite
from tests.e2e.city import City
from tests.e2e.founding import BROKER

attack = pytest.mark.attack
pytestmark = pytest.mark.timeout(600)
VERIFIED, TAMPERED, FORKED, UNTRUSTED = 0, 1, 4, 5
OTHER = "exchange://city.test/civil-affairs/records"


@pytest.fixture
def database(stage: Stage, tmp_path: Path) -> Path:
    """A copy of the broker's database: the attacker's, and then the auditor's."""
    return stage.database_at(tmp_path / "copy.db")


@pytest.fixture
def auditor(stage: Stage, tmp_path: Path) -> Path:
    """The auditor's home, with a mirror of all that there was."""
    return stage.auditor_at(tmp_path / "auditor")


def stolen(stage: Stage) -> NoteSigner:
    """The key of the access log."""
    return log_signers(stage.city.home(BROKER))[Log.ACCESS]


@attack(0, "none: the control")
def test_an_untouched_log_is_verified(database: Path, auditor: Path, found: Found) -> None:
    assert commands.verify_mirror(auditor).code == VERIFIED
    found("nothing", commands.verify_database(auditor, database), VERIFIED, "verified;")


@attack(1, "edit a leaf")
def test_an_edited_leaf_is_found(database: Path, auditor: Path, found: Found) -> None:
    leaf = bytearray(leaf_of(database, 3))
    leaf[-1] ^= 1
    alter(database, "UPDATE entries SET leaf = ? WHERE log = 'access' AND idx = 3", values=(bytes(leaf),))
    ended = commands.verify_database(auditor, database)
    found("one bit of entry 3 flipped", ended, TAMPERED, f"entry 3 of {ACCESS}: its leaf is not the one")


@attack(2, "edit only an index column")
def test_an_edited_index_column_is_found(database: Path, auditor: Path, found: Found) -> None:
    alter(database, "UPDATE entries SET requester = ? WHERE log = 'access' AND idx = 3", values=(OTHER,))
    ended = commands.verify_database(auditor, database)
    found("requester of entry 3 changed in the table", ended, TAMPERED, f"entry 3 of {ACCESS}: its index says")


@attack(3, "edit a node")
def test_an_edited_node_is_found(database: Path, auditor: Path, found: Found) -> None:
    alter(database, "UPDATE nodes SET hash = zeroblob(32) WHERE log = 'access' AND place = 2")
    found("one hash of the tree zeroed", commands.verify_database(auditor, database), TAMPERED, "the stored node over")


@attack(4, "delete")
def test_a_deleted_entry_is_found(database: Path, auditor: Path, found: Found) -> None:
    alter(database, "DELETE FROM entries WHERE log = 'access' AND idx = 3")
    found("entry 3 deleted", commands.verify_database(auditor, database), TAMPERED, f"entry 3 of {ACCESS}: missing")


@attack(5, "insert")
def test_an_inserted_entry_is_found(database: Path, auditor: Path, found: Found) -> None:
    alter(
        database,
        "UPDATE entries SET idx = -idx - 2 WHERE log = 'access' AND idx >= 3",
        "UPDATE entries SET idx = -idx - 1 WHERE log = 'access' AND idx < 0",
        "INSERT INTO entries SELECT log, 3, time, 3, code, requester, provider, request_id, request_digest,"
        " response_digest, leaf, body FROM entries WHERE log = 'access' AND idx = 2",
    )
    ended = commands.verify_database(auditor, database)
    found("one entry put in before entry 3", ended, TAMPERED, f"entry 3 of {ACCESS}: its leaf is not the one")


@attack(6, "reorder")
def test_reordered_entries_are_found(database: Path, auditor: Path, found: Found) -> None:
    moves = ((3, 99), (4, 3), (99, 4))
    alter(database, *(f"UPDATE entries SET idx = {new} WHERE log = 'access' AND idx = {old}" for old, new in moves))
    ended = commands.verify_database(auditor, database)
    found("entries 3 and 4 swapped", ended, TAMPERED, f"entry 3 of {ACCESS}: its leaf is not the one")


@attack(7, "truncate")
@pytest.mark.parametrize("with_key", [False, True], ids=["rows", "log key"])
def test_a_truncated_log_is_found(stage: Stage, database: Path, auditor: Path, found: Found, with_key: bool) -> None:
    if with_key:
        rewrite(database, stolen(stage), lambda entries: entries[:6])
    else:
        alter(database, "DELETE FROM entries WHERE log = 'access' AND idx >= 6")
    ended = commands.verify_database(auditor, database)
    done = "the last 3 entries gone, the head signed anew" if with_key else "the last 3 entries deleted"
    found(done, ended, FORKED, f"{ACCESS}: it has 6 entries, but the log had signed {SIZE}")


@attack(8, "truncate and continue")
def test_a_log_that_goes_on_from_an_earlier_size_is_found(
    stage: Stage, database: Path, auditor: Path, found: Found
) -> None:
    def go_on(entries: list[Entry]) -> list[Entry]:
        return [*entries[:6], entries[8], *(changed(entry, code=4) for entry in (entries[8],) * 4)]

    rewrite(database, stolen(stage), go_on)
    ended = commands.verify_database(auditor, database)
    found("cut to 6 entries, others appended, signed with the log key", ended, FORKED, "entry 6 of")


@attack(9, "restore an old database")
def test_an_old_database_is_refused_and_found(stage: Stage, auditor: Path, tmp_path: Path, found: Found) -> None:
    city = stage.city_at(tmp_path / "city")
    old = stage.older.path / BROKER / "exchange.db"
    (city.path / BROKER / "exchange.db").write_bytes(old.read_bytes())
    started = commands.run_broker(city.path / BROKER)
    assert started.code == FORKED
    assert started.says("rolled back")
    found("the database of earlier put back", commands.verify_database(auditor, old), FORKED, f"it has {OLDER} entries")


@attack(10, "fork with the stolen log key")
def test_a_fork_with_the_log_key_is_found(stage: Stage, database: Path, auditor: Path, found: Found) -> None:
    def forge(entries: list[Entry]) -> list[Entry]:
        return [*entries[:2], *(changed(entry, requester=OTHER) for entry in entries[2:])]

    rewrite(database, stolen(stage), forge)
    ended = commands.verify_database(auditor, database)
    found("history rewritten from entry 2 on, same size, all hashes right", ended, FORKED, f"entry 2 of {ACCESS}")


@attack(12, "swap the log key")
def test_another_log_key_is_untrusted(database: Path, auditor: Path, found: Found) -> None:
    rewrite(database, NoteSigner(ACCESS, Ed25519PrivateKey.generate()), lambda entries: entries)
    ended = commands.verify_database(auditor, database)
    found("the same log signed with another key", ended, UNTRUSTED, "not signed by the log key in the trust file")


@attack(13, "replay an old checkpoint")
def test_a_broker_that_shows_an_old_checkpoint_is_found(
    stage: Stage, auditor: Path, tmp_path: Path, found: Found
) -> None:
    """The operator restores the database with its anchor: the broker comes up, and whoever saw more notices."""
    city: City = stage.older.copy(tmp_path / "older")
    address = f'"{stage.city.address}"'
    trust = auditor / "trust.toml"
    trust.write_text(trust.read_text().replace(address, f'"{city.address}"'))
    with city.running():
        ended = commands.sync(auditor)
    found(
        "old database and old anchor served together",
        ended,
        FORKED,
        f"the access log had {SIZE} entries, and now has {OLDER}",
    )


@attack(14, "omit rows from a search")
def test_a_search_that_leaves_a_row_out_is_found(auditor: Path, found: Found) -> None:
    whole = commands.search(auditor, "--officer", "officer-7")
    # All but the auditor's own reading, which no officer asked for.
    assert whole.says(f"{SIZE - 1} entries of {SIZE}")
    alter(auditor / FILE, "UPDATE entries SET officer = 'nobody' WHERE idx = 3")
    assert commands.search(auditor, "--officer", "officer-7").says(f"{SIZE - 2} entries of {SIZE}")
    ended = commands.verify_mirror(auditor)
    found("entry 3 hidden from the mirror's index", ended, TAMPERED, f"entry 3 of {ACCESS}: its index says")


@attack(15, "proof with extra or missing hashes")
@pytest.mark.parametrize("change", ["one hash more", "one hash less"])
def test_a_proof_file_of_another_length_is_refused(auditor: Path, tmp_path: Path, found: Found, change: str) -> None:
    proof = tmp_path / "entry-3.tlog-proof"
    assert commands.prove(auditor, 3, proof).code == VERIFIED
    assert commands.verify_proof(auditor, proof).code == VERIFIED
    hashes, checkpoint = proof.read_text().split("\n\n", 1)
    lines = hashes.splitlines()
    lines = [*lines, lines[-1]] if change == "one hash more" else lines[:-1]
    proof.write_text("\n".join(lines) + f"\n\n{checkpoint}")
    found(f"a proof file with {change}", commands.verify_proof(auditor, proof), TAMPERED, "wrong path length")


def test_every_attack_has_its_test() -> None:
    texts = [file.read_text() for file in Path(__file__).parent.glob("test_*.py")]
    numbers = [int(number) for text in texts for number in re.findall(r"^@attack\((\d+),", text, re.MULTILINE)]
    assert sorted(set(numbers)) == list(range(23))
