"""`exchange-audit tiles`: what it writes is read by a stranger's reader, and by nobody twice."""

import json
from pathlib import Path

import pytest

from exchange.cli.audit.checking.verification import LoggedEntry
from exchange.cli.audit.mirror.access_mirror import FILE, AccessMirror
from exchange.cli.audit.mirror.fetch import grow
from exchange.core.checkpoint import open_checkpoint
from tests.component.audit.conftest import Run
from tests.component.audit.copies import rebuilt
from tests.component.audit.test_audit_commands import alter
from tests.memory import MemoryLog
from tests.tile_reader import TileReader, consistent, included
from tests.world import World

SIZES = (255, 256, 257, 700)


def grown(home: Path, log: MemoryLog, size: int) -> None:
    """Let the mirror of the access log go on to a size."""
    verifier = log.signer.verifier
    with AccessMirror.opened(home / FILE, verifier, create=True) as mirror:
        start, note = mirror.size, log.checkpoint(size)
        mirror.observe(open_checkpoint(note, verifier), note)
        entries = [LoggedEntry(index, log.leaves[index], b"") for index in range(start, size)]
        pending = mirror.checkpoints(verified=False)
        growth = grow(mirror.frontier(), [entry.leaf for entry in entries], pending)
        mirror.extend(start, entries, growth.nodes, growth.verified)


@pytest.fixture(scope="module")
def long_log(busy: World) -> MemoryLog:
    log = MemoryLog(busy.access_log.signer.name)
    for number in range(700):
        log.append(b"leaf %d" % number)
    return log


@pytest.fixture
def office(synced: Path) -> Path:
    """An auditor's home, the access log of which is to be filled."""
    (synced / FILE).unlink()
    return synced


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return tmp_path / "tree"


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.stat().st_ino, path.read_bytes()) for path in found}


def test_another_reader_finds_every_entry_and_proof(run: Run, office: Path, long_log: MemoryLog, tree: Path) -> None:
    roots = {}
    for size in SIZES:
        grown(office, long_log, size)
        result = run("tiles", tree, home=office)
        assert result.exit_code == 0, result.output
        reader = TileReader(tree, str(long_log.signer.verifier))
        assert (reader.origin, reader.size, reader.root) == (long_log.signer.name, size, long_log.roots[size])
        for index in {0, 1, 254, size // 2, size - 2, size - 1}:
            assert reader.entry(index) == long_log.leaves[index]
            assert included(reader, index)
        for old, root in roots.items():
            assert consistent(reader.consistency(old), old, root, size, reader.root)
            assert not consistent(reader.consistency(old), old, bytes(32), size, reader.root)
        roots[size] = reader.root


def test_the_directory_is_written_too(run: Run, synced: Path, busy: World, tree: Path) -> None:
    shown = json.loads(run("tiles", tree, "--log", "directory", "--json", home=synced).stdout)
    reader = TileReader(tree, str(busy.directory_log.signer.verifier))
    assert (shown["log"], shown["size"]) == (reader.origin, busy.directory_log.size)
    for index, leaf in enumerate(busy.directory_log.leaves):
        assert reader.entry(index) == leaf
        assert included(reader, index)


def test_full_tiles_are_never_written_again_and_partial_ones_are_replaced(
    run: Run, office: Path, long_log: MemoryLog, tree: Path
) -> None:
    grown(office, long_log, 300)
    run("tiles", tree, home=office)
    before = files(tree)
    assert "0 files written" in run("tiles", tree, home=office).stdout
    assert files(tree) == before
    grown(office, long_log, 700)
    run("tiles", tree, home=office)
    after = files(tree)
    full = {name for name in before if ".p/" not in name and name != "checkpoint"}
    assert full == {"tile/0/000", "tile/entries/000"}
    assert all(after[name] == before[name] for name in full)
    assert {name for name in after if ".p/" in name} == {
        "tile/0/002.p/188",
        "tile/entries/002.p/188",
        "tile/1/000.p/2",
    }


@pytest.mark.parametrize("writes", range(6))
def test_goes_on_wherever_it_was_interrupted(
    run: Run, office: Path, long_log: MemoryLog, tree: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    grown(office, long_log, 300)
    run("tiles", tree, home=office)
    grown(office, long_log, 700)
    left = iter(range(writes))
    replace = Path.replace

    def interrupted(self: Path, target: Path) -> Path:
        if next(left, None) is None:
            raise OSError(28, "No space left on device")
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", interrupted)
        assert run("tiles", tree, home=office).exit_code == 3
    # What was there can still be read under the checkpoint that is there.
    old = TileReader(tree, str(long_log.signer.verifier))
    assert old.size == 300
    assert all(included(old, index) for index in (0, 255, 256, 299))
    assert run("tiles", tree, home=office).exit_code == 0
    assert run("tiles", tree.with_name("fresh"), home=office).exit_code == 0
    contents = [{name: data for name, (_, data) in files(path).items()} for path in (tree, tree.with_name("fresh"))]
    assert contents[0] == contents[1]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET leaf = x'00' WHERE idx = 3",
        "DELETE FROM entries WHERE idx = 3",
        "UPDATE nodes SET hash = zeroblob(32) WHERE place = 0",
        "UPDATE nodes SET hash = zeroblob(32) WHERE place = (SELECT max(place) - 3 FROM nodes)",
        # The node over the first 256 entries.
        "UPDATE nodes SET hash = zeroblob(32) WHERE place = 510",
    ],
)
def test_an_altered_mirror_is_not_published(
    run: Run, office: Path, long_log: MemoryLog, tree: Path, statement: str
) -> None:
    grown(office, long_log, 600)
    alter(office, statement)
    result = run("tiles", tree, home=office)
    assert result.exit_code == 1
    assert "was altered" in result.stderr
    assert not (tree / "checkpoint").exists()


def test_a_folder_belongs_to_one_log_and_one_history(run: Run, office: Path, long_log: MemoryLog, tree: Path) -> None:
    grown(office, long_log, 300)
    run("tiles", tree, home=office)
    result = run("tiles", tree, "--log", "directory", home=office)
    assert result.exit_code == 1
    assert "holds something else" in result.stderr
    forked = rebuilt(long_log, [b"another", *long_log.leaves[1:]], long_log.bodies)
    (office / FILE).unlink()
    grown(office, forked, 300)
    result = run("tiles", tree, home=office)
    assert result.exit_code == 4
    assert "another history" in result.stderr


def test_a_mirror_that_is_behind_changes_nothing(run: Run, office: Path, long_log: MemoryLog, tree: Path) -> None:
    grown(office, long_log, 300)
    run("tiles", tree, home=office)
    before = files(tree)
    (office / FILE).unlink()
    grown(office, long_log, 299)
    result = run("tiles", tree, home=office)
    assert result.exit_code == 3
    assert files(tree) == before


def test_a_full_tile_that_was_altered_is_not_written_over(
    run: Run, office: Path, long_log: MemoryLog, tree: Path
) -> None:
    grown(office, long_log, 300)
    run("tiles", tree, home=office)
    (tree / "checkpoint").unlink()
    (tree / "tile/0/000").write_bytes(bytes(8192))
    result = run("tiles", tree, home=office)
    assert result.exit_code == 1
    assert "is not the tile that the log signed" in result.stderr


def test_a_tree_of_three_levels_is_read(run: Run, office: Path, busy: World, tree: Path) -> None:
    log = MemoryLog(busy.access_log.signer.name)
    for number in range(65_800):
        log.append(b"%d" % number)
    grown(office, log, log.size)
    assert run("tiles", tree, home=office).exit_code == 0
    reader = TileReader(tree, str(log.signer.verifier))
    assert (tree / "tile/2/000.p/1").stat().st_size == 32
    assert all(included(reader, index) for index in (0, 65_535, 65_536, 65_799))
