"""The one append path: what is durable, what is proven, and what happens when the store fails."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from exchange.broker.logs import (
    AccessProposal,
    AccessRecord,
    AuditUnavailableError,
    DirectoryProposal,
    Entered,
    EntryRefusedError,
    Logs,
    Standing,
)
from exchange.core.access import verify_receipt
from exchange.core.checkpoint import open_checkpoint
from exchange.core.decision import Deny
from exchange.core.directory import Directory
from exchange.core.entries import ObjectVersion, purpose_entry
from exchange.core.merkle import leaf_hash, root_of, verify_inclusion
from exchange.core.wire import decode
from exchange.store.ports import (
    CommitUnknownError,
    Head,
    Log,
    NodeMissingError,
    StoreBusyError,
    StoreError,
    StoreFatalError,
    Transaction,
)
from exchange.v1.access_pb2 import AccessKind, Code
from exchange.v1.directory_pb2 import Dataset, DirectoryLeaf, Purpose
from exchange.v1.envelope_pb2 import Receipt
from tests.component.broker.parts import FailingStore, logs_of, store_of
from tests.world import APPLICATIONS, POPULATION, REGISTRY, World

ERRORS = [StoreBusyError("busy"), NodeMissingError("a node"), CommitUnknownError("unknown")]


@pytest.fixture
def store(world: World) -> FailingStore:
    return store_of(world)


@pytest.fixture
async def logs(world: World, store: FailingStore) -> AsyncIterator[Logs]:
    logs = logs_of(world, store)
    yield logs
    await logs.close()


def refusal(number: int = 0) -> AccessRecord:
    return AccessRecord(
        AccessKind.ACCESS_KIND_REFUSED,
        Code.CODE_MALFORMED,
        str(APPLICATIONS),
        request_digest=number.to_bytes(32, "big"),
    )


def saying(record: AccessRecord | Standing) -> AccessProposal:
    return AccessProposal(lambda _directory, _transaction, _now: record)


def purpose(world: World, code: str) -> DirectoryProposal:
    """A purpose, registered in the world too; the broker is still to hear of it."""
    world.register(code)
    return DirectoryProposal(world.entries[-1], b"")


def purpose_of_a_department(world: World) -> DirectoryProposal:
    draft = purpose_entry(POPULATION, ObjectVersion(world.fresh(16)), Purpose(code="own", label="own"))
    return DirectoryProposal(world.sign(draft, POPULATION), b"")


def check_log(world: World, store: FailingStore, log: Log) -> Head:
    """The head's checkpoint is signed by the log, and is of exactly the leaves that are stored."""
    head = store.head(log)
    verifier = {Log.DIRECTORY: world.directory_log, Log.ACCESS: world.access_log}[log].signer.verifier
    checkpoint = open_checkpoint(head.checkpoint, verifier)
    leaves = [entry.leaf for entry in store.entries(log, 0, 1 << 30, 1 << 30)]
    assert (checkpoint.size, checkpoint.root) == (head.size, root_of([leaf_hash(leaf) for leaf in leaves]))
    assert len(leaves) == head.size
    return head


def check_directory_receipt(world: World, receipt: Receipt) -> DirectoryLeaf:
    checkpoint = open_checkpoint(receipt.checkpoint, world.directory_log.signer.verifier)
    verify_inclusion(leaf_hash(receipt.leaf), receipt.index, checkpoint.size, tuple(receipt.path), checkpoint.root)
    return decode(DirectoryLeaf, receipt.leaf)


async def test_every_entry_of_a_batch_is_proven_by_its_receipt(world: World, store: FailingStore, logs: Logs) -> None:
    entered = await asyncio.gather(*(logs.append(saying(refusal(number))) for number in range(13)))
    for number, one in enumerate(entered):
        proven = verify_receipt(one.receipt, world.access_log.signer.verifier)
        assert (proven.index, proven.checkpoint.size) == (number, 13)
        assert proven.leaf.request_digest == refusal(number).request_digest
        assert (proven.leaf.time, proven.leaf.directory_size) == (world.now, world.directory.size)
    assert check_log(world, store, Log.ACCESS).size == 13


async def test_what_waits_for_the_lock_shares_one_transaction(store: FailingStore, logs: Logs) -> None:
    await asyncio.gather(*(logs.append(saying(refusal(number))) for number in range(200)))
    assert store.transactions == 1


async def test_both_logs_grow_in_one_transaction(world: World, store: FailingStore, logs: Logs) -> None:
    proposals = [purpose(world, "tax.audit"), saying(refusal()), purpose(world, "tax.refund")]
    first, refused, second = await asyncio.gather(*(logs.append(proposal) for proposal in proposals))
    assert store.transactions == 1
    size = world.directory.size
    assert [first.receipt.index, second.receipt.index] == [size - 2, size - 1]
    for entered in (first, second):
        check_directory_receipt(world, entered.receipt)
    # It was decided between the two, in the order in which they came.
    leaf = verify_receipt(refused.receipt, world.access_log.signer.verifier).leaf
    assert leaf.directory_size == size - 1
    assert check_log(world, store, Log.DIRECTORY).size == size == logs.directory.size
    check_log(world, store, Log.ACCESS)
    assert logs.directory == world.directory


async def test_the_log_grows_over_many_batches(world: World, store: FailingStore, logs: Logs) -> None:
    for count in (1, 2, 3, 5, 8):
        entered = await asyncio.gather(*(logs.append(saying(refusal(number))) for number in range(count)))
        for one in entered:
            verify_receipt(one.receipt, world.access_log.signer.verifier)
        check_log(world, store, Log.ACCESS)
    assert store.head(Log.ACCESS).size == 19


async def test_the_same_directory_entry_again_gives_its_receipt_again(
    world: World, store: FailingStore, logs: Logs
) -> None:
    proposal = purpose(world, "tax.audit")
    first = await logs.append(proposal)
    await logs.append(purpose(world, "tax.refund"))
    again = await logs.append(proposal)
    assert (again.receipt.index, again.receipt.leaf) == (first.receipt.index, first.receipt.leaf)
    check_directory_receipt(world, again.receipt)
    assert store.head(Log.DIRECTORY).size == world.directory.size


async def test_an_entry_from_before_this_process_gives_its_receipt_too(world: World, logs: Logs) -> None:
    envelope = world.entries[0]
    entered = await logs.append(DirectoryProposal(envelope, b""))
    assert entered.receipt.index == 0
    check_directory_receipt(world, entered.receipt)


async def test_the_same_directory_entry_twice_in_one_batch_is_entered_once(
    world: World, store: FailingStore, logs: Logs
) -> None:
    proposal = purpose(world, "tax.audit")
    first, again = await asyncio.gather(logs.append(proposal), logs.append(proposal))
    assert first.receipt == again.receipt
    assert store.head(Log.DIRECTORY).size == world.directory.size


async def test_a_refused_entry_leaves_no_trace(world: World, store: FailingStore, logs: Logs) -> None:
    before = store.head(Log.DIRECTORY), store.head(Log.ACCESS), logs.directory
    with pytest.raises(EntryRefusedError, match="is not a coordinator"):
        await logs.append(purpose_of_a_department(world))
    assert (store.head(Log.DIRECTORY), store.head(Log.ACCESS), logs.directory) == before


async def test_a_refused_entry_does_not_hold_up_its_batch(world: World, logs: Logs) -> None:
    found = await asyncio.gather(
        logs.append(purpose(world, "tax.audit")),
        logs.append(purpose_of_a_department(world)),
        logs.append(purpose(world, "tax.refund")),
        return_exceptions=True,
    )
    assert [type(one) for one in found] == [Entered, EntryRefusedError, Entered]
    assert logs.directory == world.directory


async def test_a_body_that_breaks_a_rule_is_refused(world: World, store: FailingStore, logs: Logs) -> None:
    before = store.head(Log.DIRECTORY), logs.directory
    body = Dataset(format=1, code="strangers", system=str(APPLICATIONS))
    envelope = world.sign(world.body_draft(POPULATION, body), POPULATION)
    with pytest.raises(EntryRefusedError, match="does not lie under"):
        await logs.append(DirectoryProposal(envelope, envelope.attachments[0]))
    assert (store.head(Log.DIRECTORY), logs.directory) == before


async def test_a_standing_entry_gives_its_receipt_again(world: World, store: FailingStore, logs: Logs) -> None:
    first = await logs.append(saying(refusal()))
    deny = Deny(6, Code.CODE_AGREEMENT_ENDED, "ended")
    again = await logs.append(saying(Standing(0, deny)))
    assert (again.receipt.leaf, again.deny) == (first.receipt.leaf, deny)
    verify_receipt(again.receipt, world.access_log.signer.verifier)
    assert store.head(Log.ACCESS).size == 1


async def test_times_never_decrease_when_the_clock_goes_back(world: World, logs: Logs, store: FailingStore) -> None:
    times = []
    for step in (0, 5_000, -60_000, 1, 0):
        world.now += step
        receipt = (await logs.append(saying(refusal()))).receipt
        times.append(verify_receipt(receipt, world.access_log.signer.verifier).leaf.time)
    start = times[0]
    assert times == [start, start + 5_000, start + 5_000, start + 5_000, start + 5_000]
    assert store.head(Log.ACCESS).time == start + 5_000


async def test_it_is_decided_at_the_very_time_that_the_entry_says(world: World, logs: Logs) -> None:
    """Whoever decides again later, an auditor above all, has no other time to go by."""
    seen = []

    def look(_directory: Directory, _transaction: Transaction, now: int) -> AccessRecord:
        seen.append(now)
        return refusal()

    times = []
    for step in (0, 5_000, -60_000):
        world.now += step
        receipt = (await logs.append(AccessProposal(look))).receipt
        times.append(verify_receipt(receipt, world.access_log.signer.verifier).leaf.time)
    assert seen == times


async def test_directory_times_never_decrease_either(world: World, logs: Logs) -> None:
    proposal = purpose(world, "tax.audit")
    start = logs.directory.state.time
    world.now -= 3_600_000
    receipt = (await logs.append(proposal)).receipt
    assert check_directory_receipt(world, receipt).time == start


async def test_the_directory_counts_only_once_it_is_durable(world: World, store: FailingStore, logs: Logs) -> None:
    before = logs.directory
    seen = []

    def look(directory: Directory, _transaction: Transaction, _now: int) -> AccessRecord:
        # In the batch it counts already; outside nobody may see it yet.
        seen.append((directory.size, logs.directory.size))
        return refusal()

    await asyncio.gather(logs.append(purpose(world, "tax.audit")), logs.append(AccessProposal(look)))
    assert seen == [(before.size + 1, before.size)]
    assert logs.directory.size == before.size + 1


async def test_whoever_waits_hears_that_the_directory_has_moved(world: World, logs: Logs) -> None:
    waiting = asyncio.create_task(logs.moved(logs.directory.size))
    await asyncio.sleep(0)
    await logs.append(saying(refusal()))
    assert not waiting.done()
    await logs.append(purpose(world, "tax.audit"))
    assert await waiting == world.directory.size
    assert await logs.moved(0) == world.directory.size


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_a_batch_that_fails_fails_for_all_and_the_next_one_goes_on(
    world: World, store: FailingStore, logs: Logs, error: StoreError
) -> None:
    store.at_commit = error
    proposals = [purpose(world, "tax.audit"), saying(refusal())]
    found = await asyncio.gather(*(logs.append(proposal) for proposal in proposals), return_exceptions=True)
    assert [type(one) for one in found] == [AuditUnavailableError, AuditUnavailableError]
    assert logs.directory.size == world.directory.size - 1
    assert not logs.failed.is_set()
    store.at_commit = None
    await asyncio.gather(*(logs.append(proposal) for proposal in proposals))
    assert logs.directory == world.directory
    for log in Log:
        check_log(world, store, log)
    assert store.head(Log.ACCESS).size == 1


async def test_a_commit_that_happened_all_the_same_is_found_at_the_next_append(
    world: World, store: FailingStore, logs: Logs
) -> None:
    store.after_commit = CommitUnknownError("the answer was lost")
    proposal = purpose(world, "tax.audit")
    with pytest.raises(AuditUnavailableError):
        await asyncio.gather(logs.append(proposal), logs.append(saying(refusal(1))))
    store.after_commit = None
    again, other = await asyncio.gather(logs.append(proposal), logs.append(saying(refusal(2))))
    # Nothing is entered twice, and nothing of the lost batch is overwritten.
    assert check_directory_receipt(world, again.receipt)
    assert (again.receipt.index, other.receipt.index) == (world.directory.size - 1, 1)
    assert check_log(world, store, Log.ACCESS).size == 2
    assert check_log(world, store, Log.DIRECTORY).size == world.directory.size
    assert logs.directory == world.directory


@pytest.mark.parametrize("moment", ["before", "at_commit", "after_commit"])
async def test_after_a_fatal_error_nothing_more_is_appended(
    world: World, store: FailingStore, logs: Logs, moment: str
) -> None:
    setattr(store, moment, StoreFatalError("fsync failed"))
    with pytest.raises(AuditUnavailableError):
        await logs.append(saying(refusal()))
    assert logs.failed.is_set()
    setattr(store, moment, None)
    size, transactions = store.head(Log.ACCESS).size, store.transactions
    for proposal in (saying(refusal()), purpose(world, "tax.audit")):
        with pytest.raises(AuditUnavailableError):
            await logs.append(proposal)
    assert (store.head(Log.ACCESS).size, store.transactions) == (size, transactions)


async def test_an_entry_that_cannot_be_proven_is_not_released(world: World, store: FailingStore, logs: Logs) -> None:
    await asyncio.gather(*(logs.append(saying(refusal(number))) for number in range(2)))
    store.on_read = StoreBusyError("no connection was free")
    with pytest.raises(AuditUnavailableError):
        await logs.append(saying(refusal(2)))
    store.on_read = None
    assert store.head(Log.ACCESS).size == 3
    entered = await logs.append(saying(refusal(3)))
    assert entered.receipt.index == 3
    check_log(world, store, Log.ACCESS)


async def test_what_another_broker_wrote_is_caught_up(world: World, store: FailingStore, logs: Logs) -> None:
    other = logs_of(world, store)
    await asyncio.gather(*(other.append(saying(refusal(number))) for number in range(5)))
    theirs = purpose(world, "tax.audit")
    await other.append(theirs)
    assert logs.directory.size == world.directory.size - 1
    entered = await logs.append(saying(refusal(9)))
    assert entered.receipt.index == 5
    leaf = verify_receipt(entered.receipt, world.access_log.signer.verifier).leaf
    assert leaf.directory_size == world.directory.size
    assert logs.directory == world.directory
    # Their entry is known here by its digest, too.
    assert (await logs.append(theirs)).receipt.index == world.directory.size - 1
    check_log(world, store, Log.ACCESS)
    await other.close()


async def test_a_decision_is_made_again_under_the_lock(world: World, store: FailingStore, logs: Logs) -> None:
    """DESIGN section 6, check 12: the directory has not moved since the decision, or it is decided again."""
    other = logs_of(world, store)
    agreement = world.agreement
    world.revoke(agreement.digest, REGISTRY)
    await other.append(DirectoryProposal(world.entries[-1], b""))
    assert logs.directory.stands(agreement)
    stood = []

    def draw(directory: Directory, _transaction: Transaction, _now: int) -> AccessRecord:
        stood.append(directory.stands(agreement))
        return refusal()

    await logs.append(AccessProposal(draw))
    assert stood == [False]
    await other.close()


async def test_what_a_caught_up_directory_moves_is_announced(world: World, store: FailingStore, logs: Logs) -> None:
    other = logs_of(world, store)
    await other.append(purpose(world, "tax.audit"))
    waiting = asyncio.create_task(logs.moved(logs.directory.size))
    await asyncio.sleep(0)
    await logs.append(saying(refusal()))
    assert await waiting == world.directory.size
    await other.close()


async def test_an_append_goes_on_when_its_caller_has_gone(world: World, store: FailingStore, logs: Logs) -> None:
    gone = asyncio.create_task(logs.append(saying(refusal())))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait([gone])
    await logs.append(saying(refusal(1)))
    assert store.head(Log.ACCESS).size == 2


async def test_closing_writes_what_is_queued_and_takes_no_more(world: World, store: FailingStore) -> None:
    logs = logs_of(world, store)
    queued = [asyncio.create_task(logs.append(saying(refusal(number)))) for number in range(300)]
    await asyncio.sleep(0)
    await logs.close()
    await asyncio.gather(*queued)
    assert store.head(Log.ACCESS).size == 300
    with pytest.raises(AuditUnavailableError):
        await logs.append(saying(refusal()))


async def test_a_new_process_folds_the_store_to_the_same_directory(
    world: World, store: FailingStore, logs: Logs
) -> None:
    await logs.append(purpose(world, "tax.audit"))
    later = logs_of(world, store)
    assert later.directory == logs.directory == world.directory
    await later.close()
