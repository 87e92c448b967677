"""What every store of invites promises: one suite for each engine."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Barrier, Thread

import pytest

from exchange.store.invites import Invite, InviteStore, MemoryInvites, SqlInvites
from exchange.store.memory import MemoryLogStore
from exchange.store.ports import Log
from exchange.store.sql import SqlLogStore
from tests.databases import Server
from tests.store.fixtures import access, append, check_whole, digest

ROOT = "exchange://city.example"
FIRST = Invite(f"{ROOT}/schools", ROOT, 2, digest("code"), 1_800_000_000_000, 1_800_000_600_000)
JOINED = replace(FIRST, joined_at=1_800_000_000_001, statement=b"\0statement", csr=b"\xffcsr")
SYSTEM = replace(FIRST, party=f"{ROOT}/schools/records", parent=f"{ROOT}/schools")


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def log_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MemoryLogStore | SqlLogStore]:
    if request.param == "postgresql":
        server: Server = request.getfixturevalue("postgres_server")
        opened: MemoryLogStore | SqlLogStore = SqlLogStore.create(server.new_database())
    elif request.param == "sqlite":
        opened = SqlLogStore.create(tmp_path / "log.db")
    else:
        opened = MemoryLogStore()
    yield opened
    opened.close()


@pytest.fixture
def store(log_store: MemoryLogStore | SqlLogStore) -> InviteStore:
    return MemoryInvites(log_store) if isinstance(log_store, MemoryLogStore) else SqlInvites(log_store)


def test_a_new_store_has_no_invites(store: InviteStore) -> None:
    assert store.find(FIRST.party) is None
    assert store.of_parent(ROOT) == ()


@pytest.mark.parametrize(
    "invite", [FIRST, JOINED, replace(JOINED, rejected_at=7, reason="无人接听"), replace(JOINED, certificate=b"PEM")]
)
def test_an_invite_reads_back_as_it_was_kept(store: InviteStore, invite: Invite) -> None:
    assert store.replace(invite.party, None, invite)
    assert store.find(invite.party) == invite
    assert store.of_parent(ROOT) == (invite,)


def test_invites_are_found_by_their_parent_in_order_of_their_names(store: InviteStore) -> None:
    others = [replace(FIRST, party=f"{ROOT}/{name}") for name in ("zoo", "a-b", "ab", "a")]
    for invite in (*others, SYSTEM):
        assert store.replace(invite.party, None, invite)
    assert [invite.party for invite in store.of_parent(ROOT)] == sorted(invite.party for invite in others)
    assert store.of_parent(SYSTEM.parent) == (SYSTEM,)
    assert store.of_parent(f"{ROOT}/school") == ()


def test_an_invite_takes_the_place_only_of_the_one_that_was_expected(store: InviteStore) -> None:
    assert store.replace(FIRST.party, None, FIRST)
    assert not store.replace(FIRST.party, None, JOINED)
    assert not store.replace(FIRST.party, replace(FIRST, code_sha256=digest("other")), JOINED)
    assert store.find(FIRST.party) == FIRST
    assert store.replace(FIRST.party, FIRST, JOINED)
    assert not store.replace(FIRST.party, FIRST, replace(JOINED, csr=b"thief"))
    assert store.find(FIRST.party) == JOINED


def test_an_invite_can_be_forgotten(store: InviteStore) -> None:
    assert not store.replace(FIRST.party, FIRST, None)
    store.replace(FIRST.party, None, FIRST)
    assert store.replace(FIRST.party, FIRST, None)
    assert store.find(FIRST.party) is None
    assert store.replace(FIRST.party, None, JOINED)


def test_of_two_that_use_one_invite_at_once_one_has_it(store: InviteStore) -> None:
    store.replace(FIRST.party, None, FIRST)
    start, taken = Barrier(2), list[bytes]()

    def take(csr: bytes) -> None:
        start.wait()
        if store.replace(FIRST.party, FIRST, replace(JOINED, csr=csr)):
            taken.append(csr)

    threads = [Thread(target=take, args=(csr,)) for csr in (b"one", b"other")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = store.find(FIRST.party)
    assert found is not None
    assert taken == [found.csr]


def test_invites_leave_both_logs_alone(log_store: MemoryLogStore | SqlLogStore, store: InviteStore) -> None:
    append(log_store, Log.ACCESS, access(1))
    heads = [log_store.head(log) for log in Log]
    store.replace(FIRST.party, None, FIRST)
    assert [log_store.head(log) for log in Log] == heads
    append(log_store, Log.ACCESS, access(2))
    check_whole(log_store)
    assert store.find(FIRST.party) == FIRST


def test_invites_outlive_the_process(tmp_path: Path) -> None:
    first = SqlLogStore.create(tmp_path / "log.db")
    SqlInvites(first).replace(FIRST.party, None, JOINED)
    first.close()
    again = SqlLogStore.open(tmp_path / "log.db")
    assert SqlInvites(again).find(FIRST.party) == JOINED
    again.close()
