"""A database that is not the one the anchor was written beside is found out before anything is served."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from exchange.broker.anchor import Anchor, AnchorError
from exchange.broker.logs import DirectoryProposal
from exchange.core.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from exchange.core.merkle import EMPTY_ROOT
from exchange.core.note import NoteSigner
from exchange.home import HomeError
from exchange.store.ports import Head, Log, NodeMissingError, StoreBusyError, StoreError, StoreLostError
from tests.component.broker.parts import Broker, FailingStore, note_signers, store_of
from tests.world import ORIGIN, World


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "anchor"


@pytest.fixture
def store(world: World) -> FailingStore:
    return store_of(world)


def anchor_of(folder: Path, world: World, store: FailingStore) -> Anchor:
    return Anchor(folder, store, {log: signer.verifier for log, signer in note_signers(world).items()})


def sized(folder: Path, world: World, log: Log = Log.DIRECTORY) -> int:
    if not (folder / log.value).exists():
        return 0
    return open_checkpoint((folder / log.value).read_bytes(), note_signers(world)[log].verifier).size


async def grown(world: World, count: int = 1) -> FailingStore:
    """The store of a world whose directory a broker has made larger."""
    broker = Broker(world)
    for number in range(count):
        world.register(f"purpose-{number}")
        await broker.logs.append(DirectoryProposal(world.entries[-1], b""))
    await broker.close()
    return broker.store


def test_the_database_that_it_was_placed_beside_passes(folder: Path, world: World, store: FailingStore) -> None:
    anchor = anchor_of(folder, world, store)
    anchor.place()
    anchor.check()
    anchor_of(folder, world, store).check()
    assert {path.name for path in folder.iterdir()} == {"directory", "access"}


@pytest.mark.parametrize("count", [1, 2, 3, 7])
async def test_a_database_that_has_grown_since_passes(
    folder: Path, world: World, store: FailingStore, count: int
) -> None:
    anchor_of(folder, world, store).place()
    anchor_of(folder, world, await grown(world, count)).check()


@pytest.mark.parametrize("error", [StoreBusyError("no connection was free"), StoreLostError("the server restarts")])
async def test_a_store_that_is_busy_or_lost_for_a_while_does_not_end_it(
    folder: Path, world: World, store: FailingStore, monkeypatch: pytest.MonkeyPatch, error: StoreError
) -> None:
    monkeypatch.setattr("exchange.broker.anchor.INTERVAL", 0.001)
    refused = [error] * 3
    head = store.head

    def busy(log: Log) -> Head:
        if refused:
            raise refused.pop()
        return head(log)

    monkeypatch.setattr(store, "head", busy)
    following = asyncio.create_task(anchor_of(folder, world, store).follow())
    async with asyncio.timeout(5):
        while not following.done() and sized(folder, world) < world.directory.size:  # noqa: ASYNC110 - it is a file
            await asyncio.sleep(0.001)
    assert not following.done()
    following.cancel()
    await asyncio.wait([following])


async def test_it_follows_the_heads(folder: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exchange.broker.anchor.INTERVAL", 0.001)
    broker = Broker(world)
    anchor = anchor_of(folder, world, broker.store)
    following = asyncio.create_task(anchor.follow())
    world.register("tax.audit")
    await broker.publish()
    async with asyncio.timeout(5):
        while sized(folder, world) < world.directory.size:  # noqa: ASYNC110 - what it waits for is a file
            await asyncio.sleep(0.001)
    following.cancel()
    await asyncio.wait([following])
    await broker.close()


def test_what_has_not_moved_is_not_written_again(folder: Path, world: World, store: FailingStore) -> None:
    anchor = anchor_of(folder, world, store)
    anchor.place()
    written = (folder / "directory").stat().st_mtime_ns, (folder / "directory").stat().st_ino
    anchor.place()
    assert ((folder / "directory").stat().st_mtime_ns, (folder / "directory").stat().st_ino) == written


def test_a_place_that_cannot_be_written_is_an_error(folder: Path, world: World, store: FailingStore) -> None:
    folder.write_bytes(b"a file where a folder should be")
    with pytest.raises(HomeError):
        anchor_of(folder, world, store).place()


# --- refused ------------------------------------------------------------------------------------------


def refused(folder: Path, world: World, store: FailingStore, text: str) -> None:
    with pytest.raises(AnchorError, match=text) as caught:
        anchor_of(folder, world, store).check()
    assert "do not delete the anchor" in caught.value.hint


async def test_a_database_that_was_rolled_back_is_refused(folder: Path, world: World) -> None:
    earlier = store_of(world)
    anchor_of(folder, world, await grown(world)).place()
    refused(folder, world, earlier, "rolled back")


async def test_a_database_that_was_rolled_back_and_grew_again_is_refused(folder: Path, world: World) -> None:
    twin = world.copy()
    twin.now += 1
    anchor_of(folder, world, await grown(world, 2)).place()
    refused(folder, world, await grown(twin, 3), "not the one")


async def test_a_database_of_the_same_size_with_another_history_is_refused(folder: Path, world: World) -> None:
    twin = world.copy()
    twin.now += 1
    anchor_of(folder, world, await grown(world, 2)).place()
    refused(folder, world, await grown(twin, 2), "not the one")


@pytest.mark.parametrize("log", list(Log))
def test_a_missing_anchor_is_refused(folder: Path, world: World, store: FailingStore, log: Log) -> None:
    refused(folder, world, store, "cannot be read")
    anchor_of(folder, world, store).place()
    (folder / log.value).unlink()
    refused(folder, world, store, "cannot be read")


def test_the_anchor_of_the_other_log_is_refused(folder: Path, world: World, store: FailingStore) -> None:
    anchor_of(folder, world, store).place()
    (folder / "access").write_bytes((folder / "directory").read_bytes())
    refused(folder, world, store, "not a checkpoint of this log")


@pytest.mark.parametrize("log", list(Log))
def test_an_anchor_of_another_key_is_refused(folder: Path, world: World, store: FailingStore, log: Log) -> None:
    anchor_of(folder, world, store).place()
    name = f"{ORIGIN}/{log.value}"
    forger = NoteSigner(name, Ed25519PrivateKey.generate())
    (folder / log.value).write_bytes(sign_checkpoint(Checkpoint(name, 0, EMPTY_ROOT), forger))
    refused(folder, world, store, "not a checkpoint of this log")


@pytest.mark.parametrize("data", [b"", b"rubbish", b"city.example/directory\n0\n"])
def test_a_tampered_anchor_is_refused(folder: Path, world: World, store: FailingStore, data: bytes) -> None:
    anchor_of(folder, world, store).place()
    (folder / "directory").write_bytes(data)
    refused(folder, world, store, "not a checkpoint of this log")


def test_an_anchor_that_was_cut_back_does_not_pass_for_an_older_one(
    folder: Path, world: World, store: FailingStore
) -> None:
    anchor_of(folder, world, store).place()
    text = (folder / "directory").read_text()
    size = str(world.directory.size)
    (folder / "directory").write_text(text.replace(f"\n{size}\n", "\n1\n"))
    refused(folder, world, store, "not a checkpoint of this log")


def tampered(store: FailingStore, head: Head) -> None:
    store._content.heads[head.log] = head


def test_a_head_that_its_log_has_not_signed_is_refused(folder: Path, world: World, store: FailingStore) -> None:
    anchor_of(folder, world, store).place()
    head = store.head(Log.DIRECTORY)
    tampered(store, replace(head, checkpoint=world.access_log.checkpoint(0)))
    refused(folder, world, store, "not signed by its key")
    tampered(store, replace(head, checkpoint=b""))
    refused(folder, world, store, "not signed by its key")


def test_a_head_whose_checkpoint_is_of_another_size_is_refused(folder: Path, world: World, store: FailingStore) -> None:
    anchor_of(folder, world, store).place()
    head = store.head(Log.DIRECTORY)
    tampered(store, replace(head, checkpoint=world.directory_log.checkpoint(head.size - 1)))
    refused(folder, world, store, "not the one")


def test_a_tree_with_another_node_is_refused(folder: Path, world: World, store: FailingStore) -> None:
    anchor_of(folder, world, store).place()
    for key in list(store._content.nodes):
        if key[0] == Log.DIRECTORY:
            store._content.nodes[key] = bytes(32)
    refused(folder, world, store, "not the one")


def test_a_tree_that_lacks_a_node_is_refused(folder: Path, world: World, store: FailingStore) -> None:
    anchor_of(folder, world, store).place()
    store.on_read = NodeMissingError("a node of the directory log is not stored")
    refused(folder, world, store, "lacks nodes")
