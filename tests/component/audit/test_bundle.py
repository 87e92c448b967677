"""Offline bundles: verified by the trust file alone, one form, and no way to hide or add anything."""

import asyncio
import io
import json
import tarfile
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.cli.audit.bundles.archive import Archive, ArchiveWriter
from exchange.cli.audit.bundles.format import MAX_BODY, BundleReader, Manifest, parse_manifest
from exchange.client.errors import EvidenceError
from exchange.core.access import read_access_leaf
from exchange.core.ranges import gap_nodes
from exchange.home import Home
from tests.component.audit.conftest import Run
from tests.component.audit.copies import AuditedExchange, mirror, rebuilt
from tests.component.audit.test_audit_commands import NO_WITNESSES, alter
from tests.component.audit.witnessing import TWO_OF_THREE, cosigned
from tests.world import World

Members = list[tuple[str, bytes]]


@pytest.fixture
def packed(run: Run, synced: Path, tmp_path: Path) -> Path:
    """A bundle of the whole log."""
    path = tmp_path / "log.tar"
    result = run("bundle", "--output", path, home=synced)
    assert result.exit_code == 0, result.output
    return path


def members(path: Path) -> Members:
    with path.open("rb") as file:
        archive = Archive(file)
        return [(name, archive.read(name, 1 << 30)) for name in archive.members]


def written(path: Path, parts: Members) -> Path:
    with path.open("wb") as file:
        writer = ArchiveWriter(file)
        for name, data in parts:
            writer.add(name, data)
        writer.finish()
    return path


def replaced(path: Path, name: str, change: Callable[[bytes], bytes]) -> Path:
    parts = members(path)
    assert name in dict(parts)
    return written(path, [(item, change(data) if item == name else data) for item, data in parts])


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


# What it holds.


def test_a_bundle_is_verified_by_the_trust_file_alone(run: Run, packed: Path, home: Home) -> None:
    result = run("verify", "bundle", packed, home=home.path)
    assert result.exit_code == 0, result.output
    assert "city.example/access     asked 0 to 4, verified 0 to 4, checkpoint 5" in result.stdout
    assert result.stdout.splitlines()[-1] == f"verified; {NO_WITNESSES}"
    assert "this home has no mirror" in result.stderr
    shown = json.loads(run("verify", "bundle", packed, "--json", home=home.path).stdout)
    assert (shown["verified"], shown["ranges_verified"], shown["findings"]) == (True, [[0, 5]], [])


def test_the_same_content_is_the_same_bytes(run: Run, packed: Path, synced: Path, tmp_path: Path) -> None:
    run("bundle", "--output", tmp_path / "again.tar", home=synced)
    assert (tmp_path / "again.tar").read_bytes() == packed.read_bytes()


def test_an_empty_log_is_packed_too(run: Run, home: Home, tmp_path: Path) -> None:
    asyncio.run(mirror(home, AuditedExchange(World.standard())))
    path = tmp_path / "empty.tar"
    assert run("bundle", "--output", path, home=home.path).exit_code == 0
    result = run("verify", "bundle", path, home=home.path)
    assert result.exit_code == 0, result.output
    assert "verified none, checkpoint 0" in result.stdout


def test_any_tar_reads_it(packed: Path, busy: World) -> None:
    with tarfile.open(packed) as archive:
        assert archive.getnames()[:3] == ["bundle", "policy", "directory/checkpoint"]
        file = archive.extractfile("access/leaves/0")
        assert file is not None
        leaf = busy.access_log.leaves[0]
        assert file.read()[: 4 + len(leaf)] == len(leaf).to_bytes(4) + leaf


def test_only_its_owner_can_read_it(packed: Path) -> None:
    assert packed.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("asked", "held"),
    [
        (("--range", "1:3"), "1 to 2"),
        (("--range", "4:5", "--range", "0:1"), "0 to 0, 4 to 4"),
        (("--range", "0:2", "--range", "1:3", "--range", "3:4"), "0 to 3"),
        (("--range", "0:5"), "0 to 4"),
    ],
)
def test_it_holds_what_is_asked_for(
    run: Run, synced: Path, home: Home, tmp_path: Path, asked: tuple[str, ...], held: str
) -> None:
    path = tmp_path / "part.tar"
    result = run("bundle", *asked, "--output", path, home=synced)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{path}: access entries {held} of 5, directory of ")
    result = run("verify", "bundle", path, home=home.path)
    assert result.exit_code == 0, result.output
    assert f"asked {held}, verified {held}, checkpoint 5" in result.stdout
    assert "warning" not in result.stdout


def test_it_holds_all_entries_about_a_request(run: Run, synced: Path, home: Home, tmp_path: Path, busy: World) -> None:
    about = str(uuid.UUID(bytes=read_access_leaf(busy.access_log.leaves[2]).request_id))
    path = tmp_path / "case.tar"
    assert "access entries 2 to 3 of 5" in run("bundle", "--request", about, "--output", path, home=synced).stdout
    assert run("verify", "bundle", path, home=home.path).exit_code == 0


@pytest.mark.parametrize("asked", [("--range", "3:6"), ("--range", "x"), ("--request", str(uuid.UUID(int=0)))])
def test_what_is_not_there_is_wrong_usage(run: Run, synced: Path, tmp_path: Path, asked: tuple[str, ...]) -> None:
    path = tmp_path / "part.tar"
    assert run("bundle", *asked, "--output", path, home=synced).exit_code == 2
    assert not path.exists()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET leaf = leaf || x'00' WHERE idx = 1",
        "DELETE FROM entries WHERE idx = 1",
        "UPDATE nodes SET hash = zeroblob(32) WHERE place = 0",
    ],
)
def test_an_altered_mirror_makes_no_bundle(run: Run, synced: Path, tmp_path: Path, statement: str) -> None:
    alter(synced, statement)
    result = run("bundle", "--range", "1:3", "--output", tmp_path / "part.tar", home=synced)
    assert result.exit_code == 1
    assert list(tmp_path.glob("*.tar*")) == []


# What is altered.


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("access/leaves/0", 1),
        ("access/bodies/0", 1),
        ("access/checkpoint", 5),
        ("directory/checkpoint", 5),
        ("directory/leaves/0", 1),
        ("directory/bodies/0", 1),
        ("bundle", 1),
        ("policy", 0),
    ],
)
def test_what_was_altered_is_found_in_every_member(run: Run, packed: Path, home: Home, name: str, code: int) -> None:
    change = (lambda _: b"quorum none\n") if name == "policy" else flipped
    result = run("verify", "bundle", replaced(packed, name, change), home=home.path)
    assert result.exit_code == code, result.output


def test_an_altered_node_beside_a_range_is_found(run: Run, synced: Path, home: Home, tmp_path: Path) -> None:
    path = tmp_path / "part.tar"
    for change in (flipped, lambda data: data[:-32], lambda data: data + bytes(32), lambda data: data[:-1]):
        run("bundle", "--range", "1:3", "--output", path, home=synced)
        result = run("verify", "bundle", replaced(path, "access/nodes", change), home=home.path)
        assert result.exit_code == 1, result.output
        assert "NOT VERIFIED" in result.stdout


def test_entries_cannot_be_swapped_or_moved(run: Run, packed: Path, home: Home) -> None:
    def swap(data: bytes) -> bytes:
        first = 4 + int.from_bytes(data[:4])
        second = first + 4 + int.from_bytes(data[first : first + 4])
        return data[first:second] + data[:first] + data[second:]

    replaced(packed, "access/leaves/0", swap)
    result = run("verify", "bundle", replaced(packed, "access/bodies/0", swap), home=home.path)
    assert result.exit_code == 1
    assert "do not make the root" in result.stdout


def test_another_history_that_the_log_signed_ends_with_4(
    run: Run, synced: Path, packed: Path, busy: World, home: Home
) -> None:
    log = busy.access_log
    forked = rebuilt(log, [*log.leaves[:4], log.leaves[3]], [*log.bodies[:4], log.bodies[3]])
    replaced(packed, "access/checkpoint", lambda _: forked.checkpoint())
    assert run("verify", "bundle", packed, home=home.path).exit_code == 1
    result = run("verify", "bundle", packed, home=synced)
    assert result.exit_code == 4
    assert (synced / "evidence/access-later.checkpoint").read_bytes() == forked.checkpoint()


def test_the_policy_inside_is_not_believed(run: Run, packed: Path, home: Home, busy: World, tmp_path: Path) -> None:
    """Whoever made the bundle could have made its witnesses, too."""
    policy = tmp_path / "policy"
    policy.write_text(TWO_OF_THREE)
    replaced(packed, "policy", lambda _: b"quorum none\n")
    assert run("verify", "bundle", packed, "--policy", policy, home=home.path).exit_code == 3
    for log in (busy.access_log, busy.directory_log):
        name = f"{log.signer.name.rpartition('/')[2]}/checkpoint"
        replaced(packed, name, lambda _, log=log: cosigned(log, ("archive", "bureau"), 1_800_000_000))  # type: ignore[misc]
    result = run("verify", "bundle", packed, "--policy", policy, home=home.path)
    assert result.exit_code == 0, result.output
    assert "quorum met" in result.stdout


# Its form.


FORMS: dict[str, Callable[[Members], Members]] = {
    "a member is missing": lambda parts: parts[:-1],
    "the policy is missing": lambda parts: [parts[0], *parts[2:]],
    "a member too many": lambda parts: [*parts, ("access/bodies/256", b"")],
    "an unknown member": lambda parts: [*parts, ("readme", b"")],
    "another order": lambda parts: [parts[0], parts[2], parts[1], *parts[3:]],
    "the manifest is not first": lambda parts: [*parts[1:], parts[0]],
    "empty": lambda parts: [],
}


@pytest.mark.parametrize("form", FORMS)
def test_a_bundle_has_one_form(run: Run, packed: Path, home: Home, form: str) -> None:
    result = run("verify", "bundle", written(packed, FORMS[form](members(packed))), home=home.path)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""


BYTES: dict[str, Callable[[bytes], bytes]] = {
    "cut off": lambda data: data[:-1],
    "cut off by a block": lambda data: data[:-512],
    "cut off in a member": lambda data: data[:700],
    "something behind its end": lambda data: data + b"x",
    "a block behind its end": lambda data: data + bytes(512),
    "something in the padding": lambda data: data[:1000] + b"x" + data[1001:],
    "another mode": lambda data: data[:100] + b"0000755\0" + data[108:],
    "a link": lambda data: data[:156] + b"2" + data[157:],
    "a size that reaches past the end": lambda data: data[:124] + b"77777777777" + data[135:],
    "a path to somewhere else": lambda data: b"../../passwd".ljust(100, b"\0") + data[100:],
    "not an archive": lambda data: b"PK\x03\x04" + data[4:],
    "empty": lambda data: b"",
}


@pytest.mark.parametrize("form", BYTES)
def test_an_archive_has_one_encoding(run: Run, packed: Path, home: Home, form: str) -> None:
    packed.write_bytes(BYTES[form](packed.read_bytes()))
    result = run("verify", "bundle", packed, home=home.path)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""


def test_a_member_stands_once() -> None:
    file = io.BytesIO()
    writer = ArchiveWriter(file)
    writer.add("a", b"1")
    writer.add("a", b"2")
    writer.finish()
    with pytest.raises(EvidenceError, match="twice"):
        Archive(file)


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b/0", "access/leaves/12"]), st.binary(max_size=600)), max_size=3),
    st.integers(0, 4000),
    st.integers(0, 255),
)
def test_any_bytes_are_one_archives_only_encoding_or_refused(parts: Members, place: int, byte: int) -> None:
    file = io.BytesIO()
    writer = ArchiveWriter(file)
    for name, data in parts:
        writer.add(name, data)
    writer.finish()
    altered = bytearray(file.getvalue())
    altered[place % len(altered)] = byte
    try:
        archive = Archive(io.BytesIO(altered))
    except EvidenceError:
        return
    again = io.BytesIO()
    writer = ArchiveWriter(again)
    for name in archive.members:
        writer.add(name, archive.read(name, 1000))
    writer.finish()
    assert again.getvalue() == altered


@pytest.mark.parametrize("name", ["", "/a", "a/", "../a", "a//b", "A", "a b", "a" * 120, "ä", "."])
def test_a_name_is_a_plain_path(name: str) -> None:
    with pytest.raises(ValueError, match="not a member"):
        ArchiveWriter(io.BytesIO()).add(name, b"")


def test_a_member_larger_than_it_may_be_is_not_read() -> None:
    file = io.BytesIO()
    writer = ArchiveWriter(file)
    writer.add("a", bytes(11))
    writer.finish()
    with pytest.raises(EvidenceError, match="may have 10"):
        Archive(file).read("a", 10)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "exchange-audit bundle v2\ncity.example\ndirectory 1\naccess 5\n",
        "exchange-audit bundle v1\ncity.example\ndirectory 01\naccess 5\n",
        "exchange-audit bundle v1\ncity.example\ndirectory 1\naccess 5\nrange 0:6\n",
        "exchange-audit bundle v1\ncity.example\ndirectory 1\naccess 5\nrange 3:3\n",
        "exchange-audit bundle v1\ncity.example\ndirectory 1\naccess 5\nrange 3:4\nrange 0:1\n",
        "exchange-audit bundle v1\ncity.example\ndirectory 1\naccess 5\nrange 0:1\nrange 1:2\n",
        "exchange-audit bundle v1\ncity.example\ndirectory 1\naccess 5\nrange 0:1\nmore\n",
        "exchange-audit bundle v1\ncity.example\ndirectory 1\naccess 5\nrange 0:1",
        "exchange-audit bundle v1\ncity.example\ndirectory 1\naccess 9999999999999999999\n",
    ],
)
def test_a_manifest_has_one_form(text: str) -> None:
    with pytest.raises(EvidenceError):
        parse_manifest(text.encode())


@pytest.mark.parametrize(
    "leaves",
    [b"", b"\0\0\0", b"\0\0\0\1", b"\0\0\0\1ab", b"\0\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\0\0\0\0\0"],
)
def test_a_chunk_holds_exactly_its_entries(leaves: bytes) -> None:
    reader = tiny(leaves, b"\0\0\0\0")
    with pytest.raises(EvidenceError, match=r"does not hold 1 entries|may have"):
        list(reader.rows("access"))


def test_a_body_beyond_the_limit_is_refused() -> None:
    size = MAX_BODY + 1
    with pytest.raises(EvidenceError):
        list(tiny(b"\0\0\0\1a", size.to_bytes(4) + bytes(size)).rows("access"))
    assert [row.leaf for row in tiny(b"\0\0\0\1a", b"\0\0\0\0").rows("access")] == [b"a"]


def tiny(leaves: bytes, bodies: bytes) -> BundleReader:
    """A bundle of one access entry, and of no directory."""
    manifest = Manifest("city.example", 0, 1, ((0, 1),))
    parts = {"bundle": manifest.encode(), "access/leaves/0": leaves, "access/bodies/0": bodies}
    file = io.BytesIO()
    writer = ArchiveWriter(file)
    for name in manifest.names:
        writer.add(name, parts.get(name, b""))
    writer.finish()
    return BundleReader(file)


def test_a_long_log_is_packed_in_chunks() -> None:
    manifest = Manifest("city.example", 300, 1000, ((1, 2), (100, 700)))
    assert parse_manifest(manifest.encode()) == manifest
    names = list(manifest.names)
    assert [name for name in names if name.startswith("access/leaves")] == [
        "access/leaves/1",
        "access/leaves/100",
        "access/leaves/356",
        "access/leaves/612",
    ]
    assert len(list(gap_nodes(manifest.ranges, manifest.access))) < 40


def test_nothing_is_left_where_it_cannot_be_written(run: Run, synced: Path, tmp_path: Path) -> None:
    result = run("bundle", "--output", tmp_path / "missing" / "log.tar", home=synced)
    assert result.exit_code == 3
    assert not (tmp_path / "missing").exists()
