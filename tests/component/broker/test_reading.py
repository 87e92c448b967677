"""Who may read what of the two logs (DESIGN section 7)."""

from collections.abc import Iterable
from dataclasses import replace

import pytest

from exchange.broker.logs import DirectoryProposal
from exchange.broker.reading import Reading
from exchange.broker.status import NotPermittedError
from exchange.core.access import access_body
from exchange.core.checkpoint import open_checkpoint
from exchange.core.entries import ObjectVersion
from exchange.core.errors import NameFormatError, ProofError
from exchange.core.keys import key_id
from exchange.core.merkle import leaf_hash, verify_inclusion
from exchange.core.names import Party
from exchange.v1.access_pb2 import AccessKind, Code
from exchange.v1.catalogue_pb2 import Sharing, SharingClass
from exchange.v1.directory_pb2 import EntryKind
from exchange.v1.log_pb2 import Record, SearchRequest
from exchange.v1.procedure_pb2 import Action
from tests.component.broker.parts import Broker, logs_of
from tests.world import (
    APPLICATIONS,
    AUDITOR,
    BROKER,
    CIVIL_AFFAIRS,
    COORDINATOR,
    HOUSING,
    MARRIAGE,
    ORIGIN,
    POPULATION,
    POPULATION_HEAD,
    REGISTRY,
    World,
)

DATASET = EntryKind.ENTRY_KIND_DATASET
APPLICATION = EntryKind.ENTRY_KIND_APPLICATION
AGREEMENT = EntryKind.ENTRY_KIND_AGREEMENT
STRANGER = Party(ORIGIN, "tax", "refunds")
ROOT = Party(ORIGIN)
PEERS = (
    BROKER,
    COORDINATOR,
    AUDITOR,
    POPULATION,
    REGISTRY,
    HOUSING,
    APPLICATIONS,
    CIVIL_AFFAIRS,
    MARRIAGE,
    ROOT,
)


@pytest.fixture
def reading(broker: Broker) -> Reading:
    return Reading(broker.logs, broker.clock)


def visible(world: World, records: Iterable[Record]) -> set[int]:
    """The kinds of entries whose bodies are there."""
    versions = {version.index: version for version in world.directory.state.versions.values()}
    return {versions[record.index].kind for record in records if record.body}


# --- the directory ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "kinds"),
    [
        (BROKER, {DATASET, APPLICATION, AGREEMENT}),
        (COORDINATOR, {DATASET, APPLICATION, AGREEMENT}),
        (AUDITOR, {DATASET, APPLICATION, AGREEMENT}),
        (POPULATION, {DATASET, APPLICATION, AGREEMENT}),
        (REGISTRY, {DATASET, APPLICATION, AGREEMENT}),
        (HOUSING, {DATASET, APPLICATION, AGREEMENT}),
        (APPLICATIONS, {DATASET, APPLICATION, AGREEMENT}),
        (CIVIL_AFFAIRS, {DATASET}),
        (MARRIAGE, {DATASET}),
        (ROOT, {DATASET}),
    ],
    ids=str,
)
async def test_a_body_is_seen_by_those_whom_it_concerns(
    reading: Reading, world: World, peer: Party, kinds: set[int]
) -> None:
    records, head = reading.directory(peer, 0)
    assert visible(world, records) == kinds
    assert [record.leaf for record in records] == world.directory_log.leaves
    for record in records:
        assert record.body in {b"", world.directory_log.bodies[record.index]}
    assert open_checkpoint(head.checkpoint, world.directory_log.signer.verifier).size == len(records)


async def test_a_restricted_dataset_is_seen_by_nobody_whom_its_owner_does_not_name(
    reading: Reading, broker: Broker, world: World
) -> None:
    world.publish("secret", restricted=True, visible_to=[str(MARRIAGE)])
    await broker.publish()
    index = world.directory.size - 1
    seers = {peer for peer in PEERS if reading.directory(peer, index)[0][0].body}
    assert seers == {BROKER, COORDINATOR, AUDITOR, POPULATION, REGISTRY, CIVIL_AFFAIRS, MARRIAGE}


async def test_what_is_restricted_later_is_hidden_in_all_its_versions_but_from_who_has_an_agreement(
    reading: Reading, broker: Broker, world: World
) -> None:
    dataset = world.dataset
    version = ObjectVersion(dataset.object_id, dataset.version.digest)
    world.publish("residents", version=version, restricted=True)
    await broker.publish()
    indexes = {dataset.version.index, world.directory.size - 1}
    for peer in PEERS:
        seen = {record.index for record in reading.directory(peer, 0)[0] if record.body} & indexes
        assert seen == (set() if peer in {CIVIL_AFFAIRS, MARRIAGE, ROOT} else indexes), peer


async def test_who_may_not_see_a_dataset_cannot_probe_its_fields(world: World) -> None:
    secret = world.publish("secret", restricted=True)
    unknown = replace(secret, version=replace(secret.version, object_id=bytes(16)))
    said = set()
    for dataset, changes in ((secret, {}), (secret, {"fields": ["no_such_field"]}), (unknown, {})):
        with pytest.raises(AssertionError) as caught:
            world.apply_for(dataset, **changes)
        said.add(str(caught.value).splitlines()[0])
    assert said == {"the dataset is not known here"}


async def test_bodies_that_ended_are_still_seen_by_those_whom_they_bound(
    reading: Reading, broker: Broker, world: World
) -> None:
    world.revoke(world.agreement.digest, REGISTRY)
    await broker.publish()
    assert AGREEMENT in visible(world, reading.directory(APPLICATIONS, 0)[0])


async def test_a_party_whose_application_was_not_granted_sees_that_application(
    reading: Reading, broker: Broker, world: World
) -> None:
    world.apply_for(world.dataset, MARRIAGE)
    await broker.publish()
    records, _ = reading.directory(MARRIAGE, 0)
    assert visible(world, records) == {DATASET, APPLICATION}
    assert [record.index for record in records if record.body][-1] == world.directory.size - 1
    # The other applicant does not see it.
    assert not reading.directory(APPLICATIONS, 0)[0][-1].body


@pytest.mark.parametrize(
    ("peer", "sees"),
    [(HOUSING, True), (REGISTRY, True), (COORDINATOR, True), (AUDITOR, True), (MARRIAGE, False), (ROOT, False)],
    ids=str,
)
async def test_a_step_is_seen_by_those_whom_its_application_binds(
    reading: Reading, broker: Broker, world: World, peer: Party, sees: bool
) -> None:
    application = world.apply_for(world.dataset)
    step = world.do(POPULATION, Action.ACTION_RETURN, application.version.object_id, missing=["a paper"])
    dispute = world.fresh(16)
    disputed = world.do(HOUSING, Action.ACTION_OPEN_DISPUTE, dispute, about=application.version.object_id, text="no")
    await broker.publish()
    records, _ = reading.directory(peer, 0)
    assert {bool(records[index].body) for index in (step.index, disputed.index)} == {sees}


async def test_a_correction_is_seen_by_owner_and_filer_and_a_notice_by_its_recipient_alone(
    reading: Reading, broker: Broker, world: World
) -> None:
    about = {"about": world.dataset.object_id, "fields": ["address"]}
    correction = world.fresh(16)
    filed = world.do(HOUSING, Action.ACTION_OPEN_CORRECTION, correction, case_id="ZF-1", text="wrong", **about)
    answered = world.do(POPULATION, Action.ACTION_CORRECT, correction)
    told = {"recipient": str(CIVIL_AFFAIRS), "request_ids": [world.fresh(16)]}
    notice = world.do(REGISTRY, Action.ACTION_NOTIFY, correction, **about, **told)
    known = world.do(MARRIAGE, Action.ACTION_ACKNOWLEDGE, correction, digest=notice.digest)
    await broker.publish()

    def sees(peer: Party) -> set[int]:
        records, _ = reading.directory(peer, filed.index)
        return {record.index for record in records if record.body}

    filing, telling = {filed.index, answered.index}, {notice.index, known.index}
    assert sees(HOUSING) == sees(APPLICATIONS) == filing
    assert sees(CIVIL_AFFAIRS) == sees(MARRIAGE) == telling
    assert sees(POPULATION) == sees(REGISTRY) == sees(COORDINATOR) == filing | telling
    assert sees(ROOT) == set()


@pytest.mark.parametrize("peer", [MARRIAGE, HOUSING, REGISTRY], ids=str)
async def test_a_standing_approval_and_the_consent_to_it_are_seen_by_all(
    reading: Reading, broker: Broker, world: World, peer: Party
) -> None:
    world.admit_heads()
    sharing = Sharing(sharing_class=SharingClass.SHARING_CLASS_UNCONDITIONAL)
    dataset = world.publish("open", sharing=sharing)
    approval = world.approve_standing(dataset)
    consent = world.do(POPULATION_HEAD, Action.ACTION_CONSENT_ANSWER, dataset.object_id, digest=bytes([7]) * 32)
    await broker.publish()
    records, _ = reading.directory(peer, 0)
    assert records[world.directory.state.versions[approval].index].body
    assert records[consent.index].body


async def test_a_body_is_seen_as_soon_as_its_entry_is_durable(reading: Reading, broker: Broker, world: World) -> None:
    """An entry may be durable before this process has folded it: another broker wrote it, or this one just now."""
    other = logs_of(world, broker.store)
    world.apply_for(world.dataset, MARRIAGE)
    await other.append(DirectoryProposal(world.entries[-1], world.entries[-1].attachments[0]))
    await other.close()
    assert broker.logs.directory.size < world.directory.size
    for peer in (MARRIAGE, POPULATION):
        assert reading.directory(peer, 0)[0][-1].body == world.directory_log.bodies[-1]
        assert reading.directory(peer, world.directory.size - 1)[0][-1].body == world.directory_log.bodies[-1]
    assert not reading.directory(APPLICATIONS, 0)[0][-1].body


async def test_reads_go_on_from_where_they_are_asked_to(reading: Reading, world: World) -> None:
    size = world.directory.size
    records, _ = reading.directory(REGISTRY, size - 2)
    assert [record.index for record in records] == [size - 2, size - 1]
    assert reading.directory(REGISTRY, size)[0] == []
    with pytest.raises(ProofError, match="none from"):
        reading.directory(REGISTRY, size + 1)


async def test_a_page_is_bounded_and_nothing_is_left_out(
    reading: Reading, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exchange.broker.reading.PAGE", 3)
    indexes: list[int] = []
    while page := reading.directory(REGISTRY, len(indexes))[0]:
        assert len(page) <= 3
        indexes.extend(record.index for record in page)
    assert indexes == list(range(world.directory.size))


async def test_strangers_read_nothing(reading: Reading) -> None:
    for read in (reading.directory, reading.access, reading.own):
        with pytest.raises(NotPermittedError):
            read(STRANGER, 0)
    with pytest.raises(NotPermittedError):
        reading.check(STRANGER)


async def test_a_revoked_party_reads_nothing_more(reading: Reading, broker: Broker, world: World) -> None:
    reading.check(APPLICATIONS)
    world.revoke(key_id(world.keys[APPLICATIONS].public_key), APPLICATIONS)
    await broker.publish()
    with pytest.raises(NotPermittedError):
        reading.directory(APPLICATIONS, 0)
    with pytest.raises(NotPermittedError):
        reading.check(APPLICATIONS)


# --- the access log -----------------------------------------------------------------------------------


@pytest.fixture
async def filled(broker: Broker, world: World) -> Broker:
    """An answer for housing, a refusal of marriage's."""
    await broker.attach()
    await broker.submit(world.request())
    await broker.refused(world.request(party=MARRIAGE, agreement=bytes(32)), peer=MARRIAGE)
    return broker


async def test_auditors_read_all_of_the_access_log_with_its_bodies(
    reading: Reading, filled: Broker, world: World
) -> None:
    records, head = reading.access(AUDITOR, 0)
    assert [record.index for record in records] == [0, 1]
    assert all(record.body for record in records)
    assert open_checkpoint(head.checkpoint, world.access_log.signer.verifier).size == 2
    assert reading.access(AUDITOR, 2)[0] == []
    with pytest.raises(ProofError):
        reading.access(AUDITOR, 3)


@pytest.mark.parametrize("peer", [BROKER, COORDINATOR, POPULATION, REGISTRY, APPLICATIONS, HOUSING, ROOT], ids=str)
async def test_nobody_else_reads_all_of_it(reading: Reading, filled: Broker, peer: Party) -> None:
    with pytest.raises(NotPermittedError, match="auditors"):
        reading.access(peer, 0)


@pytest.mark.parametrize(
    ("peer", "indexes"),
    [
        (APPLICATIONS, [0]),
        (HOUSING, [0]),
        (REGISTRY, [0, 1]),
        (POPULATION, [0, 1]),
        (MARRIAGE, [1]),
        (CIVIL_AFFAIRS, [1]),
        (COORDINATOR, []),
        (BROKER, []),
    ],
    ids=str,
)
async def test_a_party_reads_its_own_entries_and_those_below_it(
    reading: Reading, filled: Broker, peer: Party, indexes: list[int]
) -> None:
    records, following, head = reading.own(peer, 0)
    assert [record.index for record in records] == indexes
    assert all(record.body != access_body(None) for record in records)
    assert head.size == 2
    assert reading.own(peer, following)[0] == []


async def test_the_exchange_itself_has_no_entries_of_its_own(reading: Reading, filled: Broker) -> None:
    """Its name covers everybody's, so that it would read every body of the log."""
    with pytest.raises(NotPermittedError):
        reading.own(ROOT, 0)


async def test_own_entries_are_read_page_by_page_to_the_end(
    reading: Reading, filled: Broker, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled.submit(world.request())
    monkeypatch.setattr("exchange.broker.reading.PAGE", 1)
    start, indexes = 0, []
    while page := reading.own(APPLICATIONS, start):
        records, start, head = page
        indexes += [record.index for record in records]
        if start >= head.size:
            break
    assert indexes == [0, 2]


# --- searching ----------------------------------------------------------------------------------------


def found(reading: Reading, **conditions: object) -> list[int]:
    """All that a search gives, page by page, each proven under its checkpoint."""
    start, indexes = 0, []
    while True:
        page = reading.search(AUDITOR, SearchRequest(start=start, **conditions))  # type: ignore[arg-type]
        indexes += [found.entry.index for found in page.entries]
        checkpoint = open_checkpoint(page.checkpoint, World.standard().access_log.signer.verifier)
        for one in page.entries:
            verify_inclusion(leaf_hash(one.entry.leaf), one.entry.index, checkpoint.size, one.path, checkpoint.root)
            assert one.entry.body
        if page.next >= checkpoint.size:
            return indexes
        assert page.next > start
        start = page.next


@pytest.mark.parametrize("window", [1, 2, 200_000])
async def test_auditors_search_the_access_log(
    reading: Reading, filled: Broker, world: World, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    monkeypatch.setattr("exchange.broker.reading.WINDOW", window)
    filled.world.now += 5000
    await filled.submit(world.request())
    assert found(reading) == [0, 1, 2]
    assert found(reading, limit=1) == [0, 1, 2]
    assert found(reading, requester=str(HOUSING)) == [0, 2]
    assert found(reading, requester=str(MARRIAGE), kind=AccessKind.ACCESS_KIND_REFUSED) == [1]
    assert found(reading, code=Code.CODE_NO_AGREEMENT) == [1]
    assert found(reading, requester=str(STRANGER)) == []
    assert found(reading, since=filled.clock()) == [2]
    assert found(reading, until=filled.clock() - 1) == [0, 1]
    assert found(reading, since=1, until=2) == []
    assert found(reading, until=2**64 - 1) == [0, 1, 2]
    assert found(reading, since=2**64 - 1) == []


@pytest.mark.parametrize("peer", [BROKER, COORDINATOR, POPULATION, REGISTRY, APPLICATIONS, ROOT, STRANGER], ids=str)
async def test_nobody_else_searches_it(reading: Reading, filled: Broker, peer: Party) -> None:
    with pytest.raises(NotPermittedError):
        reading.search(peer, SearchRequest())


async def test_a_search_past_the_end_finds_nothing(reading: Reading, filled: Broker) -> None:
    page = reading.search(AUDITOR, SearchRequest(start=99))
    assert (list(page.entries), page.next) == ([], 2)


@pytest.mark.parametrize("name", ["housing", "exchange://city.example/%", "exchange://city.example/a\0", "x" * 5000])
async def test_a_search_names_parties_as_they_are_named(reading: Reading, filled: Broker, name: str) -> None:
    with pytest.raises(NameFormatError):
        reading.search(AUDITOR, SearchRequest(requester=name))
