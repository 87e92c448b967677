"""`exchange-audit verify head`, `consistency` and `proof`, and the policy that counts: the auditor's own."""

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from exchange.cli.audit.checking.policies import NO_QUORUM
from exchange.core.checkpoint import Checkpoint, sign_checkpoint
from exchange.core.tlog_proof import TlogProof, encode_proof
from exchange.home import Home
from tests.component.audit.conftest import Run
from tests.component.audit.copies import AuditedExchange, ask, rebuilt, write_database
from tests.component.audit.test_audit_commands import NO_WITNESSES, alter
from tests.component.audit.witnessing import TWO_OF_THREE, cosigned
from tests.memory import MemoryLog
from tests.world import World

BOTH = ("archive", "university")


def now() -> int:
    return int(time.time())


def give_notes(home: Path, access: bytes, directory: bytes) -> None:
    """Let the mirrors hold other signatures under the same checkpoints."""
    alter(home, "UPDATE checkpoints SET note = ? WHERE size = (SELECT max(size) FROM checkpoints)", access)
    with closing(sqlite3.connect(home / "mirror.db")) as connection, connection:
        assert connection.execute("UPDATE heads SET note = ? WHERE log = 'directory'", (directory,)).rowcount


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "two-of-three.policy"
    path.write_text(TWO_OF_THREE)
    return path


@pytest.fixture
def log(busy: World) -> MemoryLog:
    return busy.access_log


def fork_of(log: MemoryLog) -> MemoryLog:
    return rebuilt(log, [*log.leaves[:-1], log.leaves[-1] + b"\0"], log.bodies)


# head


def test_head_says_what_is_open_without_witnesses(run: Run, synced: Path, log: MemoryLog) -> None:
    result = run("verify", "head", home=synced)
    assert result.exit_code == 0, result.output
    assert "city.example/access     checkpoint 5\n" in result.stdout
    assert "cosignatures none; no quorum asked for" in result.stdout
    assert "age unknown without witnesses" in result.stdout
    assert result.stdout.splitlines()[-1] == f"verified; {NO_WITNESSES}"
    shown = json.loads(run("verify", "head", "--json", home=synced).stdout)
    assert [(item["size"], item["quorum"]) for item in shown["logs"]][1] == (5, None)
    assert shown["caveats"] == [NO_WITNESSES]


@pytest.mark.parametrize(
    ("witnesses", "age", "code", "said"),
    [
        (BOTH, 0, 0, "verified; a quorum of witnesses saw the same logs"),
        (BOTH, 400, 6, "stale"),
        (BOTH, -3600, 6, "stale"),
        (("bureau",), 0, 3, NO_QUORUM),
        ((), 0, 3, NO_QUORUM),
    ],
)
def test_head_counts_witnesses_and_their_age(
    run: Run, synced: Path, busy: World, policy: Path, witnesses: tuple[str, ...], age: int, code: int, said: str
) -> None:
    logs = busy.access_log, busy.directory_log
    give_notes(synced, *(cosigned(item, witnesses, now() - age) for item in logs))
    result = run("verify", "head", "--policy", policy, home=synced)
    assert result.exit_code == code, result.output
    assert said in result.stdout
    assert all(name in result.stdout for name in witnesses)


def test_head_fails_where_the_mirror_does_not_make_the_root(run: Run, synced: Path) -> None:
    alter(synced, "UPDATE nodes SET hash = zeroblob(32) WHERE place = (SELECT max(place) FROM nodes)")
    assert run("verify", "head", home=synced).exit_code == 1


# The policy.


def test_a_missing_quorum_ends_every_verification_with_3(run: Run, synced: Path, policy: Path) -> None:
    for command in (("full",), ("range", "1:3"), ("entry", 1)):
        result = run("verify", *command, "--policy", policy, home=synced)
        assert result.exit_code == 3
        assert "quorum NOT MET" in result.stdout
        assert result.stdout.splitlines()[-1] == f"verified; {NO_QUORUM}"


def test_a_quorum_answers_the_split_view(run: Run, synced: Path, busy: World, policy: Path) -> None:
    give_notes(synced, *(cosigned(item, BOTH, 1_800_000_000) for item in (busy.access_log, busy.directory_log)))
    result = run("verify", "full", "--policy", policy, home=synced)
    assert result.exit_code == 0, result.output
    assert "cosignatures archive 2027-01-15T08:00:00Z, university 2027-01-15T08:00:00Z; quorum met" in result.stdout
    assert "split view" not in result.stdout
    shown = json.loads(run("verify", "full", "--json", "--policy", policy, home=synced).stdout)
    assert shown["logs"][1]["cosignatures"][0] == {"witness": "archive", "time": "2027-01-15T08:00:00Z"}
    assert (shown["logs"][1]["quorum"], shown["caveats"]) == (True, [])


def test_an_older_checkpoint_with_a_quorum_says_how_far_it_reaches(
    run: Run, home: Home, exchange: AuditedExchange, policy: Path
) -> None:
    log = exchange.world.access_log
    exchange.access_log = rebuilt(log, log.leaves[:3], log.bodies[:3])
    assert run("sync", home=home.path).exit_code == 0
    exchange.access_log = None
    assert run("sync", home=home.path).exit_code == 0
    alter(home.path, "UPDATE checkpoints SET note = ? WHERE size = 3", cosigned(log, BOTH, now(), 3))
    result = run("verify", "full", "--policy", policy, home=home.path)
    assert "quorum met, at 3" in result.stdout


def test_the_homes_own_policy_is_the_default(run: Run, synced: Path) -> None:
    (synced / "witness.policy").write_text(TWO_OF_THREE)
    assert run("verify", "full", home=synced).exit_code == 3
    (synced / "witness.policy").unlink()
    with (synced / "trust.toml").open("a") as file:
        file.write(f"witness_policy = '''\n{TWO_OF_THREE}'''\n")
    assert run("verify", "full", home=synced).exit_code == 3


@pytest.mark.parametrize("text", ["quorum nobody\n", "\xff", "", "log city.example/access+KEY\nquorum none\n"])
def test_a_policy_that_cannot_be_meant_is_not_trusted(run: Run, synced: Path, tmp_path: Path, text: str) -> None:
    other = MemoryLog("another").signer
    forged = str(type(other)("city.example/access", other.private_key).verifier)
    path = tmp_path / "bad.policy"
    path.write_bytes(text.replace("city.example/access+KEY", forged).encode("latin-1"))
    result = run("verify", "full", "--policy", path, home=synced)
    assert result.exit_code == 5
    assert "bad.policy" in result.stderr


def test_a_forged_cosignature_of_a_known_witness_is_refused(run: Run, synced: Path, busy: World, policy: Path) -> None:
    note = cosigned(busy.access_log, BOTH, now())
    forged = note[:-8] + (b"AAAAAA==" if not note.endswith(b"AAAAAA==\n") else b"BBBBBB==")[:7] + b"\n"
    give_notes(synced, forged, busy.directory_log.checkpoint())
    assert run("verify", "full", "--policy", policy, home=synced).exit_code == 1


# consistency


def save(path: Path, note: bytes) -> Path:
    path.write_bytes(note)
    return path


def test_two_checkpoints_of_one_history_agree(run: Run, synced: Path, log: MemoryLog, tmp_path: Path) -> None:
    notes = [save(tmp_path / f"{size}", log.checkpoint(size)) for size in (2, 4)]
    result = run("verify", "consistency", *notes, home=synced)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == f"verified: one history; {NO_WITNESSES}"
    assert run("verify", "consistency", notes[0], home=synced).exit_code == 0


def test_a_split_view_to_two_auditors_is_convicted_by_both_notes(
    run: Run, synced: Path, home: Home, log: MemoryLog, tmp_path: Path
) -> None:
    forked = fork_of(log)
    ours, theirs = save(tmp_path / "ours", log.checkpoint()), save(tmp_path / "theirs", forked.checkpoint())
    for place, notes in ((home.path, (ours, theirs)), (synced, (theirs,))):
        result = run("verify", "consistency", *notes, "--json", home=place)
        assert result.exit_code == 4, result.output
        shown = json.loads(result.stdout)
        assert shown["verdict"] == "fork"
        assert shown["evidence"] == [log.checkpoint().decode(), forked.checkpoint().decode()]
        assert (place / "evidence/access-earlier.checkpoint").read_bytes() == log.checkpoint()
        assert (place / "evidence/access-later.checkpoint").read_bytes() == forked.checkpoint()
    # It does not go away.
    assert run("verify", "full", home=synced).exit_code == 4
    assert run("sync", home=synced).exit_code == 4


def test_two_notes_convict_the_log_for_a_home_with_a_mirror(
    run: Run, synced: Path, log: MemoryLog, tmp_path: Path
) -> None:
    longer = log.copy()
    longer.append(b"more")
    notes = [save(tmp_path / name, twin.checkpoint()) for name, twin in (("a", longer), ("b", fork_of(longer)))]
    assert run("verify", "consistency", *notes, home=synced).exit_code == 4
    assert run("verify", "full", home=synced).exit_code == 4


def test_a_fork_of_the_directory_is_found(run: Run, synced: Path, busy: World, tmp_path: Path) -> None:
    forked = fork_of(busy.directory_log)
    result = run("verify", "consistency", save(tmp_path / "theirs", forked.checkpoint()), home=synced)
    assert result.exit_code == 4
    assert run("search", home=synced).exit_code == 4


def test_what_no_mirror_reaches_is_not_called_consistent(
    run: Run, synced: Path, home: Home, log: MemoryLog, tmp_path: Path
) -> None:
    longer = log.copy()
    longer.append(b"more")
    notes = [save(tmp_path / "5", log.checkpoint()), save(tmp_path / "6", longer.checkpoint())]
    for place in (synced, home.path):
        result = run("verify", "consistency", *notes, home=place)
        assert result.exit_code == 3
        assert "NOT VERIFIED" in result.stdout


def test_a_checkpoint_that_went_further_binds_the_next_sync(
    run: Run, synced: Path, exchange: AuditedExchange, tmp_path: Path
) -> None:
    """A log that showed somebody else more is held to it."""
    log = exchange.world.access_log
    longer = log.copy()
    for _ in range(3):
        longer.append(log.leaves[-1], log.bodies[-1])
    for size in (8, 6):
        note = save(tmp_path / f"{size}", longer.checkpoint(size))
        assert run("verify", "consistency", note, home=synced).exit_code == 3
    forked = fork_of(rebuilt(longer))
    forked.append(b"after")
    exchange.access_log = forked
    result = run("sync", home=synced)
    assert result.exit_code == 4
    assert "does not go on" in result.stderr


@pytest.mark.parametrize("size", [6, 8])
def test_a_checkpoint_that_went_further_is_not_rolled_back(
    run: Run, synced: Path, exchange: AuditedExchange, tmp_path: Path, size: int
) -> None:
    longer = exchange.world.access_log.copy()
    for _ in range(3):
        longer.append(longer.leaves[-1], longer.bodies[-1])
    run("verify", "consistency", save(tmp_path / "note", longer.checkpoint(size)), home=synced)
    result = run("sync", home=synced)
    assert result.exit_code == 4
    assert f"the access log had {size} entries, and now has 5" in result.stderr


def test_a_directory_that_went_further_binds_the_next_sync(
    run: Run, synced: Path, exchange: AuditedExchange, tmp_path: Path
) -> None:
    longer = exchange.world.directory_log.copy()
    longer.append(b"more")
    note = save(tmp_path / "note", longer.checkpoint())
    assert run("verify", "consistency", note, home=synced).exit_code == 3
    kept = synced / "seen" / f"directory-{longer.size}.checkpoint"
    assert kept.read_bytes() == longer.checkpoint()
    result = run("sync", home=synced)
    assert result.exit_code == 4
    assert f"had signed {longer.size} entries to somebody" in result.stderr
    assert (synced / "evidence/directory-earlier.checkpoint").read_bytes() == longer.checkpoint()
    assert run("verify", "full", home=synced).exit_code == 4


def test_a_directory_that_grew_as_it_had_signed_is_held_to_nothing(
    run: Run, synced: Path, exchange: AuditedExchange, tmp_path: Path
) -> None:
    world = exchange.world
    world.register("tax.audit")
    note = save(tmp_path / "note", world.directory_log.checkpoint())
    assert run("verify", "consistency", note, home=synced).exit_code == 3
    assert run("sync", home=synced).exit_code == 0
    assert list((synced / "seen").iterdir()) == []
    assert run("verify", "consistency", note, home=synced).exit_code == 0


def test_two_later_directories_of_one_size_are_a_fork(run: Run, synced: Path, busy: World, tmp_path: Path) -> None:
    longer = busy.directory_log.copy()
    longer.append(b"more")
    for log, code in ((longer, 3), (longer, 3), (fork_of(longer), 4)):
        assert run("verify", "consistency", save(tmp_path / "note", log.checkpoint()), home=synced).exit_code == code


def test_an_altered_note_of_a_later_directory_is_told(run: Run, synced: Path) -> None:
    (synced / "seen").mkdir()
    (synced / "seen" / "directory-99.checkpoint").write_bytes(b"nothing")
    result = run("sync", home=synced)
    assert result.exit_code == 1
    assert "directory-99.checkpoint was altered" in result.stderr


def test_a_copied_database_that_went_further_binds_the_next_sync(
    run: Run, synced: Path, exchange: AuditedExchange, tmp_path: Path
) -> None:
    longer = exchange.world.copy()
    ask(longer)
    copy = write_database(tmp_path / "copy.db", longer)
    assert run("verify", "full", "--database", copy, home=synced).exit_code == 0
    result = run("sync", home=synced)
    assert result.exit_code == 4
    assert "the access log had 6 entries, and now has 5" in result.stderr


def test_another_logs_or_keys_note_is_not_trusted(run: Run, synced: Path, busy: World, tmp_path: Path) -> None:
    stranger = MemoryLog("another.example/access")
    stranger.append(b"leaf")
    other = MemoryLog("another").signer
    stolen = sign_checkpoint(
        Checkpoint(busy.access_log.signer.name, 5, bytes(32)),
        type(other)(busy.access_log.signer.name, other.private_key),
    )
    for note in (stranger.checkpoint(), stolen, b"", b"\xff", busy.access_log.checkpoint()[:-3]):
        assert run("verify", "consistency", save(tmp_path / "note", note), home=synced).exit_code == 5
    both = [save(tmp_path / "a", busy.access_log.checkpoint()), save(tmp_path / "b", busy.directory_log.checkpoint())]
    assert run("verify", "consistency", *both, home=synced).exit_code == 2


# proof


def proof_of(log: MemoryLog, index: int, note: bytes = b"", extra: bool = True) -> bytes:
    receipt = log.receipt(index)
    note = note or receipt.checkpoint
    return encode_proof(TlogProof(index, tuple(receipt.path), note, receipt.leaf if extra else b""))


def test_a_proof_needs_nothing_but_the_trust_file(run: Run, home: Home, log: MemoryLog, tmp_path: Path) -> None:
    path = save(tmp_path / "entry.tlog-proof", proof_of(log, 3))
    result = run("verify", "proof", path, home=home.path)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "city.example/access  asked 3, verified 3, checkpoint 5"
    assert "entry 3              released, 2027-01-15T08:00:03Z" in lines
    assert lines[-1] == f"verified; {NO_WITNESSES}"
    assert "this home has no mirror" in result.stderr
    shown = json.loads(run("verify", "proof", path, "--json", home=home.path).stdout)
    assert (shown["verified"], shown["index"], shown["kind"]) == (True, 3, "released")


def test_a_proof_of_the_directory_is_verified(run: Run, synced: Path, busy: World, tmp_path: Path) -> None:
    path = save(tmp_path / "entry.tlog-proof", proof_of(busy.directory_log, 2))
    result = run("verify", "proof", path, home=synced)
    assert result.exit_code == 0, result.output
    assert "city.example/directory  asked 2, verified 2" in result.stdout


def test_a_proof_may_leave_its_entry_to_a_file(run: Run, synced: Path, log: MemoryLog, tmp_path: Path) -> None:
    path = save(tmp_path / "entry.tlog-proof", proof_of(log, 3, extra=False))
    assert run("verify", "proof", path, home=synced).exit_code == 2
    leaf = save(tmp_path / "leaf", log.leaves[3])
    assert run("verify", "proof", path, "--leaf", leaf, home=synced).exit_code == 0
    assert run("verify", "proof", path, "--leaf", save(leaf, log.leaves[2]), home=synced).exit_code == 1


def test_a_cosigned_proof_meets_the_policy(run: Run, home: Home, log: MemoryLog, tmp_path: Path, policy: Path) -> None:
    for witnesses, code in ((BOTH, 0), (("bureau",), 3)):
        path = save(tmp_path / "proof", proof_of(log, 3, cosigned(log, witnesses, 1_800_000_000)))
        assert run("verify", "proof", path, "--policy", policy, home=home.path).exit_code == code


def test_a_proof_of_another_history_ends_with_4(run: Run, synced: Path, log: MemoryLog, tmp_path: Path) -> None:
    path = save(tmp_path / "proof", proof_of(fork_of(log), 3))
    result = run("verify", "proof", path, home=synced)
    assert result.exit_code == 4
    assert (synced / "evidence/access-later.checkpoint").read_bytes() == fork_of(log).checkpoint()


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (b"index 3", b"index 2", 1),
        (b"index 3", b"index 03", 1),
        (b"index 3\n", b"index 3\n" + b"A" * 43 + b"=\n", 1),
        (b"\n5\n", b"\n4\n", 1),
        (b"city.example", b"town.example", 5),
    ],
)
def test_an_altered_proof_is_refused(
    run: Run, home: Home, log: MemoryLog, tmp_path: Path, old: bytes, new: bytes, code: int
) -> None:
    data = proof_of(log, 3)
    assert old in data
    path = save(tmp_path / "proof", data.replace(old, new))
    assert run("verify", "proof", path, home=home.path).exit_code == code
