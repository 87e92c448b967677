"""What every log store promises: one suite for each engine."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

import pytest

from exchange.core.merkle import MAX_SIZE, Frontier, NodeId, frontier_nodes
from exchange.store.memory import MemoryLogStore
from exchange.store.ports import (
    RELEASED,
    SUMMARY,
    UNRELEASED,
    AccessIndex,
    AccessQuery,
    Batch,
    Head,
    HeadMovedError,
    Log,
    LogStore,
    NewEntry,
    NodeMissingError,
    Release,
    ReleasedTwiceError,
    StoreBusyError,
    StoredEntry,
    StoreFatalError,
    Witnessed,
)
from exchange.store.sql import SqlLogStore
from exchange.v1.access_pb2 import ACCESS_KIND_REFUSED
from tests.databases import Server
from tests.store.fixtures import (
    ALL,
    PROVIDER,
    REQUESTER,
    access,
    append,
    append_batches,
    batch,
    check_whole,
    digest,
    directory,
)

REFUSED: int = ACCESS_KIND_REFUSED


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LogStore]:
    opened = new_store(request, tmp_path)
    yield opened
    opened.close()


def new_store(request: pytest.FixtureRequest, folder: Path) -> LogStore:
    if request.param == "memory":
        return MemoryLogStore()
    if request.param == "sqlite":
        return SqlLogStore.create(folder / "log.db")
    # Asked for only here: a run of the other engines starts no server.
    server: Server = request.getfixturevalue("postgres_server")
    return SqlLogStore.create(server.new_database())


def indexes(entries: tuple[StoredEntry, ...]) -> list[int]:
    return [entry.index for entry in entries]


# --- erasing


def test_an_erased_body_is_gone_and_everything_else_stays(store: LogStore) -> None:
    rows = [access(number) for number in range(1, 10)]
    append(store, Log.ACCESS, *rows)
    append(store, Log.DIRECTORY, NewEntry(b"leaf", b"body", None))
    heads = [store.head(log) for log in Log]
    with store.locked() as transaction:
        transaction.erase(Log.ACCESS, 2, 5)
    assert [store.head(log) for log in Log] == heads
    check_whole(store)
    found = store.entries(Log.ACCESS, 0, ALL, ALL)
    assert [entry.leaf for entry in found] == [row.leaf for row in rows]
    assert [entry.body for entry in found] == [b"" if 2 <= n < 5 else row.body for n, row in enumerate(rows)]
    assert store.settled(digest("answer 4")) == (StoredEntry(3, rows[3].leaf, b""),)
    assert store.entry(Log.DIRECTORY, 0) == StoredEntry(0, b"leaf", b"body")


def test_erases_what_the_same_transaction_appended(store: LogStore) -> None:
    with store.locked() as transaction:
        transaction.append(batch(store, Log.ACCESS, access(1), access(2)))
        transaction.erase(Log.ACCESS, 1, 2)
    assert [entry.body for entry in store.entries(Log.ACCESS, 0, ALL, ALL)] == [access(1).body, b""]


def test_an_erasure_that_is_rolled_back_erased_nothing(store: LogStore) -> None:
    append(store, Log.ACCESS, access(1))
    with suppress(RuntimeError), store.locked() as transaction:
        transaction.erase(Log.ACCESS, 0, 1)
        raise RuntimeError
    assert [entry.body for entry in store.entries(Log.ACCESS, 0, ALL, ALL)] == [access(1).body]


def test_erasing_passes_over_what_does_not_exist(store: LogStore) -> None:
    append(store, Log.ACCESS, access(1))
    with store.locked() as transaction:
        transaction.erase(Log.ACCESS, 1, 2**63)
        transaction.erase(Log.DIRECTORY, 0, 5)
    assert store.entry(Log.ACCESS, 0) == StoredEntry(0, access(1).leaf, access(1).body)


# --- appending


def test_new_store_has_two_empty_logs(store: LogStore) -> None:
    with store.locked() as transaction:
        assert transaction.heads() == {log: Head(log, 0, b"", 0) for log in Log}
    assert [store.head(log) for log in Log] == [Head(log, 0, b"", 0) for log in Log]
    assert check_whole(store) == {Log.DIRECTORY: 0, Log.ACCESS: 0}


def test_appends_are_contiguous_and_in_order(store: LogStore) -> None:
    for start in (0, 3, 4):
        append(store, Log.ACCESS, *(access(start + step) for step in range(5 if start == 4 else 3 if not start else 1)))
    append(store, Log.DIRECTORY, directory(0), directory(1))
    assert check_whole(store) == {Log.DIRECTORY: 2, Log.ACCESS: 9}
    assert [entry.leaf for entry in store.entries(Log.ACCESS, 2, ALL, 3)] == [
        access(number).leaf for number in (2, 3, 4)
    ]


def test_entry_is_returned_as_it_was_appended(store: LogStore) -> None:
    append(store, Log.ACCESS, access(0), access(1))
    assert store.entry(Log.ACCESS, 1) == StoredEntry(1, access(1).leaf, access(1).body)
    assert store.entry(Log.ACCESS, 2) is None
    assert store.entry(Log.DIRECTORY, 1) is None


def test_head_is_swapped_only_from_the_size_it_was_read_at(store: LogStore) -> None:
    stale = batch(store, Log.ACCESS, access(0))
    head = append(store, Log.ACCESS, access(1))
    with pytest.raises(HeadMovedError):
        append_batches(store, stale)
    assert store.head(Log.ACCESS) == head
    assert check_whole(store)[Log.ACCESS] == 1


def test_both_logs_are_appended_to_at_once_or_not_at_all(store: LogStore) -> None:
    elsewhere = Batch(Log.ACCESS, 3, (), (), Head(Log.ACCESS, 3, b"note", 0))
    with pytest.raises(HeadMovedError):
        append_batches(store, batch(store, Log.DIRECTORY, directory(0)), elsewhere)
    assert check_whole(store) == {Log.DIRECTORY: 0, Log.ACCESS: 0}


def test_one_transaction_appends_twice_to_one_log(store: LogStore) -> None:
    with store.locked() as transaction:
        transaction.append(batch(store, Log.ACCESS, access(0)))
        frontier, nodes = Frontier(1, (batch(store, Log.ACCESS, access(0)).nodes[0].hash,)).extend([digest("leaf")])
        head = Head(Log.ACCESS, 2, b"note", 7)
        transaction.append(Batch(Log.ACCESS, 1, (access(1),), nodes, head))
        assert transaction.heads()[Log.ACCESS] == head
    assert store.nodes(Log.ACCESS, frontier_nodes(2)) == frontier.hashes


def test_empty_batch_replaces_the_checkpoint(store: LogStore) -> None:
    head = append(store, Log.ACCESS, access(0))
    with store.locked() as transaction:
        transaction.append(Batch(Log.ACCESS, 1, (), (), Head(Log.ACCESS, 1, b"cosigned", head.time)))
    assert store.head(Log.ACCESS) == Head(Log.ACCESS, 1, b"cosigned", head.time)


# --- cosigned checkpoints


def keep(store: LogStore, size: int, time: int, log: Log = Log.ACCESS) -> Witnessed:
    witnessed = Witnessed(log, size, time, f"{log} {size} {time}".encode())
    with store.locked() as transaction:
        transaction.keep_cosigned(witnessed)
    return witnessed


def test_nothing_is_cosigned_at_first(store: LogStore) -> None:
    assert [store.cosigned(log) for log in Log] == [Witnessed(log, 0, 0, b"") for log in Log]


def test_the_last_cosigned_checkpoint_is_kept_for_each_log(store: LogStore) -> None:
    other = keep(store, 1, 50, Log.DIRECTORY)
    for size, time in ((0, 1), (0, 7), (3, 5), (3, 9), (8, 9)):
        kept = keep(store, size, time)
        assert store.cosigned(Log.ACCESS) == kept
    assert store.cosigned(Log.DIRECTORY) == other


@pytest.mark.parametrize(("size", "time"), [(7, 9), (7, 999), (8, 8)])
def test_smaller_or_earlier_cosigned_checkpoint_replaces_nothing(store: LogStore, size: int, time: int) -> None:
    kept = keep(store, 8, 9)
    keep(store, size, time)
    assert store.cosigned(Log.ACCESS) == kept


def test_cosigned_checkpoint_is_rolled_back_with_its_transaction(store: LogStore) -> None:
    kept = keep(store, 1, 1)

    def interrupted() -> None:
        with store.locked() as transaction:
            transaction.keep_cosigned(Witnessed(Log.ACCESS, 2, 2, b"lost"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert store.cosigned(Log.ACCESS) == kept


# --- appending, when something fails


def test_exception_rolls_everything_back(store: LogStore) -> None:
    def interrupted() -> None:
        with store.locked() as transaction:
            transaction.append(batch(store, Log.ACCESS, access(1), access(2)))
            raise KeyboardInterrupt

    append(store, Log.ACCESS, access(0))
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert check_whole(store)[Log.ACCESS] == 1
    assert store.entry(Log.ACCESS, 1) is None
    assert store.released(REQUESTER, digest("request 1")[:16]) is None
    assert store.settled(digest("answer 1")) == ()
    append(store, Log.ACCESS, access(1))
    assert check_whole(store)[Log.ACCESS] == 2


def test_caught_error_still_spoils_the_transaction(store: LogStore) -> None:
    def go_on_after_error() -> None:
        with store.locked() as transaction:
            with suppress(ReleasedTwiceError):
                transaction.append(batch(store, Log.ACCESS, access(1), access(0)))
            for call in (transaction.heads, lambda: transaction.released(REQUESTER, b"")):
                with pytest.raises(ReleasedTwiceError):
                    call()

    append(store, Log.ACCESS, access(0))
    with pytest.raises(ReleasedTwiceError):
        go_on_after_error()
    assert check_whole(store)[Log.ACCESS] == 1


@pytest.mark.parametrize("again", [(0,), (1, 1)], ids=["of an earlier batch", "within a batch"])
def test_request_is_released_at_most_once(store: LogStore, again: tuple[int, ...]) -> None:
    append(store, Log.ACCESS, access(0))
    with pytest.raises(ReleasedTwiceError):
        append(store, Log.ACCESS, *(access(number) for number in again))
    assert check_whole(store)[Log.ACCESS] == 1


def test_only_released_entries_of_one_requester_exclude_each_other(store: LogStore) -> None:
    append(store, Log.ACCESS, access(0, kind=UNRELEASED), access(0, kind=REFUSED), access(0, kind=UNRELEASED))
    append(store, Log.ACCESS, access(0), access(0, requester=PROVIDER), access(0, kind=UNRELEASED))
    assert check_whole(store)[Log.ACCESS] == 6


def test_malformed_batches_are_refused(store: LogStore) -> None:
    good = batch(store, Log.ACCESS, access(0), access(1))
    for start, log, nodes in [
        (1, Log.ACCESS, good.nodes),
        (0, Log.DIRECTORY, good.nodes),
        (0, Log.ACCESS, good.nodes[:-1]),
        (0, Log.ACCESS, good.nodes[::-1]),
    ]:
        with pytest.raises(ValueError, match=r"do not lead to|are not those"):
            Batch(log, start, good.entries, nodes, good.head)


def test_lock_is_not_reentrant(store: LogStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exchange.store.sql.WAIT_SECONDS", 0.01)
    monkeypatch.setattr("exchange.store.memory._LOCK_SECONDS", 0.01)
    with store.locked(), pytest.raises(StoreBusyError), store.locked():
        pass
    assert append(store, Log.ACCESS, access(0)).size == 1


def test_closed_store_appends_nothing(store: LogStore) -> None:
    store.close()
    with pytest.raises(StoreFatalError, match="closed"), store.locked():
        pass


def test_waiting_for_others_ends_by_itself(store: LogStore) -> None:
    for _ in range(3):
        store.wait_for_others(0.001)
    store.close()
    # And at once where nobody can append any more.
    store.wait_for_others(3600)


# --- reading


def test_reads_see_only_what_is_committed(store: LogStore) -> None:
    before = append(store, Log.ACCESS, access(0))
    with store.locked() as transaction:
        transaction.append(batch(store, Log.ACCESS, access(1)))
        assert transaction.heads()[Log.ACCESS].size == 2
        assert store.head(Log.ACCESS) == before
        assert indexes(store.entries(Log.ACCESS, 0, ALL, ALL)) == [0]
        assert store.released(REQUESTER, digest("request 1")[:16]) is None
        with pytest.raises(NodeMissingError):
            store.nodes(Log.ACCESS, [NodeId(0, 1)])
    assert check_whole(store)[Log.ACCESS] == 2


def test_entries_stop_at_either_bound_but_never_before_the_first(store: LogStore) -> None:
    append(store, Log.ACCESS, *(access(number) for number in range(10)))
    sizes = [len(entry.leaf) + len(entry.body) for entry in store.entries(Log.ACCESS, 0, ALL, ALL)]
    assert len(sizes) == 10
    assert indexes(store.entries(Log.ACCESS, 4, ALL, 3)) == [4, 5, 6]
    assert indexes(store.entries(Log.ACCESS, 4, sum(sizes[4:7]), 9)) == [4, 5, 6]
    assert indexes(store.entries(Log.ACCESS, 4, sum(sizes[4:7]) - 1, 9)) == [4, 5]
    assert indexes(store.entries(Log.ACCESS, 4, 0, 9)) == [4]
    assert indexes(store.own(REQUESTER, 4, sum(sizes[4:7]) - 1, 9)) == [4, 5]
    assert indexes(store.own(REQUESTER, 4, 0, 9)) == [4]


@pytest.mark.parametrize("start", [10, MAX_SIZE, MAX_SIZE + 1, 2**64 - 1])
def test_nothing_stands_past_the_head(store: LogStore, start: int) -> None:
    append(store, Log.ACCESS, *(access(number) for number in range(10)))
    assert store.entries(Log.ACCESS, start, ALL, 5) == ()
    assert store.own(REQUESTER, start, ALL, 5) == ()
    assert store.entry(Log.ACCESS, start) is None
    with pytest.raises(NodeMissingError):
        store.nodes(Log.ACCESS, [NodeId(0, start)])


def test_nodes_come_in_the_order_asked_for(store: LogStore) -> None:
    following = batch(store, Log.ACCESS, *(access(number) for number in range(6)))
    with store.locked() as transaction:
        transaction.append(following)
    nodes = (*following.nodes[::-1], following.nodes[2])
    assert store.nodes(Log.ACCESS, [NodeId(node.level, node.index) for node in nodes]) == tuple(
        node.hash for node in nodes
    )
    assert store.nodes(Log.ACCESS, []) == ()
    for incomplete in (NodeId(0, 6), NodeId(1, 3), NodeId(2, 1), NodeId(3, 0)):
        with pytest.raises(NodeMissingError):
            store.nodes(Log.ACCESS, [NodeId(0, 0), incomplete])


def test_released_entry_is_found_by_request(store: LogStore) -> None:
    append(store, Log.ACCESS, access(0, kind=UNRELEASED), access(1), access(0))
    request_id = digest("request 0")[:16]
    assert store.released(REQUESTER, request_id) == store.entry(Log.ACCESS, 2)
    assert store.released(PROVIDER, request_id) is None
    with store.locked() as transaction:
        assert transaction.released(REQUESTER, request_id) == Release(2, digest("request 0"))
        assert transaction.released(REQUESTER, b"other") is None


def test_settlements_of_an_answer_come_released_first(store: LogStore) -> None:
    append(store, Log.ACCESS, access(0, kind=UNRELEASED), access(0, kind=REFUSED), access(1))
    append(store, Log.ACCESS, access(0, kind=UNRELEASED), access(0))
    answer = digest("answer 0")
    assert indexes(store.settled(answer)) == [4, 0, 3]
    assert store.settled(digest("no answer")) == ()
    with store.locked() as transaction:
        assert transaction.settled(answer) == (4, 0, 3)
        assert transaction.settlements([answer, digest("answer 1"), digest("none")]) == {
            answer: (4, 0, 3),
            digest("answer 1"): (2,),
        }


def test_entry_without_an_answer_settles_nothing(store: LogStore) -> None:
    append(store, Log.ACCESS, access(0, kind=UNRELEASED, response_digest=b""), directory(0))
    assert store.settled(b"") == ()
    with store.locked() as transaction:
        assert transaction.settled(b"") == ()
        assert transaction.settlements([]) == {}


def test_transaction_sees_its_own_appends(store: LogStore) -> None:
    with store.locked() as transaction:
        transaction.append(batch(store, Log.ACCESS, access(0)))
        assert transaction.released(REQUESTER, digest("request 0")[:16]) == Release(0, digest("request 0"))
        assert transaction.settled(digest("answer 0")) == (0,)


def test_taken_requests_are_iterated_by_time(store: LogStore, monkeypatch: pytest.MonkeyPatch) -> None:
    # More than a page, and equal times across its edge.
    monkeypatch.setattr("exchange.store.sql._TAKEN_PAGE", 3)
    kinds = (RELEASED, REFUSED, UNRELEASED)
    append(store, Log.ACCESS, *(access(number, kind=kinds[number % 3], time=number // 8) for number in range(40)))
    taken = list(store.taken_since(2))
    numbers = [number for number in range(16, 40) if number % 3 != 1]
    assert [one.request_digest for one in taken] == [digest(f"request {number}") for number in numbers]
    assert [one.time for one in taken] == [number // 8 for number in numbers]
    assert {one.requester for one in taken} == {REQUESTER}
    assert taken[0].request_id == taken[0].request_digest[:16]
    assert list(store.taken_since(5)) == []


NAMES = (
    "exchange://a/b",
    "exchange://a/b/c",
    "exchange://a/b/c0",
    "exchange://a/b-",
    "exchange://a/b.c",
    "exchange://a/b0",
    "exchange://a/bc",
    "exchange://a/bc/d",
    "exchange://a/%",
    "exchange://a/_/x",
    "exchange://a/B/c",
    "exchange://a",
    "exchange://aa/b",
    "",
)


@pytest.mark.parametrize("party", [*NAMES, "exchange://a/", "exchange://%", "exchange://a/_", "%", "e", "/"])
def test_own_entries_are_found_by_whole_segments(store: LogStore, party: str) -> None:
    pairs = [(requester, provider) for requester in NAMES for provider in NAMES[::3]]
    append(
        store,
        Log.ACCESS,
        *(access(n, requester=one, provider=other) for n, (one, other) in enumerate(pairs)),
    )
    append(store, Log.DIRECTORY, directory(0))
    depth = len(party.split("/"))
    expected = [
        n for n, pair in enumerate(pairs) if party and any(name.split("/")[:depth] == party.split("/") for name in pair)
    ]
    assert indexes(store.own(party, 0, ALL, ALL)) == expected
    assert indexes(store.own(party, 20, ALL, 3)) == [n for n in expected if n >= 20][:3]


CONDITIONS: tuple[dict[str, object], ...] = (
    {},
    {"kind": REFUSED},
    {"code": 8},
    {"request_id": digest("request 5")[:16]},
    {"since": 1010},
    {"until": 1010},
    {"since": 1003, "until": 1003},
    {"requester": "exchange://a/b"},
    {"requester": "exchange://a/b/c"},
    {"requester": "exchange://a/b", "provider": "exchange://a/bc", "kind": REFUSED, "since": 1002},
    {"provider": "exchange://%"},
    {"provider": "exchange://a/_"},
)


def test_search_finds_every_summary_whatever_the_code(store: LogStore) -> None:
    kinds = ({"kind": REFUSED, "code": 8}, {"kind": SUMMARY}, {"kind": REFUSED, "code": 9}, {"kind": RELEASED})
    append(store, Log.ACCESS, *(access(n, **kind) for n, kind in enumerate(kinds)))
    assert indexes(store.search(AccessQuery(code=8), 0, ALL, ALL, ALL)) == [0, 1]
    assert indexes(store.search(AccessQuery(code=8, kind=REFUSED), 0, ALL, ALL, ALL)) == [0]


@pytest.mark.parametrize("conditions", CONDITIONS, ids=str)
def test_search_finds_exactly_what_fits(store: LogStore, conditions: dict[str, object]) -> None:
    rows = [
        access(n, requester=NAMES[n % len(NAMES)], provider=NAMES[n // 3 % len(NAMES)], **kind)
        for n, kind in enumerate([{"kind": RELEASED}, {"kind": REFUSED, "code": 8}, {"kind": UNRELEASED}] * 20)
    ]
    append(store, Log.ACCESS, *rows)
    append(store, Log.DIRECTORY, directory(0), directory(1))
    query = AccessQuery(**conditions)  # type: ignore[arg-type]
    expected = [n for n, row in enumerate(rows) if row.index is not None and fits(row.index, query)]
    assert indexes(store.search(query, 0, ALL, ALL, ALL)) == expected
    assert indexes(store.search(query, 5, 40, ALL, 3)) == [n for n in expected if 5 <= n < 40][:3]
    assert indexes(store.search(query, 0, ALL, 0, ALL)) == expected[:1]
    assert store.search(query, MAX_SIZE + 1, ALL, ALL, ALL) == ()
    assert store.search(query, 0, ALL, ALL, 0) == ()


def fits(index: AccessIndex, query: AccessQuery) -> bool:
    parties = (index.requester, query.requester), (index.provider, query.provider)
    return (
        query.kind in (None, index.kind)
        and query.code in (None, index.code)
        and query.request_id in (None, index.request_id)
        and all(wanted is None or f"{name}/".startswith(f"{wanted}/") for name, wanted in parties)
        and (query.since is None or index.time >= query.since)
        and (query.until is None or index.time <= query.until)
    )


# --- threads


def test_appends_from_many_threads_are_serialised(store: LogStore) -> None:
    failures: list[BaseException] = []

    def write(writer: int) -> None:
        try:
            for step in range(8):
                append(store, Log.ACCESS, access(100 * writer + step), access(100 * writer + step + 50))
        except BaseException as error:  # noqa: BLE001 - shown by the test's thread
            failures.append(error)

    threads = [Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert check_whole(store)[Log.ACCESS] == 64


def test_readers_beside_a_writer_see_whole_batches_and_no_way_back(store: LogStore) -> None:
    done, failures, seen = Event(), list[BaseException](), set[int]()

    def read() -> None:
        try:
            last = 0
            while not done.is_set():
                size = check_whole(store)[Log.ACCESS]
                assert size >= last
                assert size % 3 == 0
                seen.add(last := size)
        except BaseException as error:  # noqa: BLE001 - shown by the test's thread
            failures.append(error)

    threads = [Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for step in range(15):
        append(store, Log.ACCESS, *(access(3 * step + number) for number in range(3)))
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert seen
