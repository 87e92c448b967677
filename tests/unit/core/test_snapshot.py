"""A folded state has one encoding, and a snapshot entry holds only where everybody folds to what its broker signed."""

from collections.abc import Iterable
from dataclasses import replace
from operator import attrgetter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from immutables import Map

from exchange.core import kept as kept_module
from exchange.core.belongings import Belongings, rows_since
from exchange.core.chunks import CHUNK, Folded
from exchange.core.directory import Directory
from exchange.core.entries import ObjectVersion, directory_leaf, snapshot_entry
from exchange.core.envelope import sign
from exchange.core.errors import CoreError, DecodeError
from exchange.core.fold import apply
from exchange.core.kept import SCANS, Kept, KeptChunk, SnapshotBrokenError
from exchange.core.keys import key_id
from exchange.core.merkle import leaf_hash, root_of
from exchange.core.names import Party
from exchange.core.records import chunk_message
from exchange.core.snapshot import (
    digest_of,
    encode_part,
    encode_state,
    open_state,
    part_hashes,
    said_digest,
    state_digest,
)
from exchange.core.state import KeyRecord, Other, State, Version, genesis
from exchange.core.terms import SALT
from exchange.core.wire import decode, encode
from exchange.v1.directory_pb2 import (
    Application,
    DirectoryChunk,
    DirectoryState,
    EntryKind,
    EntryState,
    Purpose,
    Role,
    Suite,
)
from exchange.v1.people_pb2 import Mandate, OfficerStanding
from tests.corruption import anything
from tests.memory import LoggedBodies, fixed, signer
from tests.world import (
    AUDITOR,
    BROKER,
    COORDINATOR,
    HOUSING,
    ORIGIN,
    POPULATION,
    PURPOSE,
    World,
)

GENESIS = genesis(ORIGIN, signer("root").public_key)


def busy() -> World:
    """Keys that were revoked, versions that were superseded, purposes that changed and ended."""
    world = World.standard()
    world.register("tax.assessment")
    digest = world.directory.state.purposes["tax.assessment"]
    version = world.directory.state.versions[digest]
    world.register("tax.assessment", ObjectVersion(version.object_id, digest), label="税务评估")
    world.revoke(world.directory.state.purposes["tax.assessment"], COORDINATOR)
    world.admit(AUDITOR, Role.ROLE_AUDITOR, signer("second auditor"))
    world.revoke(key_id(signer(str(AUDITOR)).public_key), next(iter(world.keys)))
    agreement = world.agreement
    application = world.directory.terms.applications[agreement.application]
    world.now += 1
    world.grant(application, ObjectVersion(agreement.version.object_id, agreement.digest), fields=["name"])
    world.revoke(world.agreement.digest, POPULATION)
    return world


WORLD = busy()
STATE = WORLD.directory.state
PARTS = tuple(encode_state(STATE))


def reopened(parts: Iterable[bytes]) -> State:
    """The state of an encoding, with every record opened and checked."""
    state = open_state(list(parts)).state
    list(state.records())
    return state


# --- one encoding ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", range(WORLD.directory_log.size + 1))
def test_every_state_of_a_log_is_read_as_it_was_written(size: int) -> None:
    state = GENESIS
    for leaf in WORLD.directory_log.leaves[:size]:
        state, _ = apply(state, leaf)
    assert reopened(encode_state(state)) == state


names = st.sampled_from([Party(ORIGIN, "health"), Party(ORIGIN, "housing"), Party(ORIGIN, "health", "registry")])
times = st.integers(0, 2**63 - 1)
digests = st.integers(0, 10**6).map(lambda number: fixed(f"digest {number}"))
NAMED = (
    OfficerStanding(pseudonym="officer-1"),
    OfficerStanding(pseudonym="officer-1", removed=True),
    OfficerStanding(pseudonym="officer-2"),
    Mandate(auditor=str(AUDITOR), departments=[str(HOUSING)], not_after=7),
    Mandate(auditor="exchange://city.example/second", since=3, datasets=[bytes(16)]),
)
kinds = st.sampled_from(EntryKind.values()[1:])


@st.composite
def states(draw: st.DrawFn) -> State:
    """States with any records that entries can have left, whether or not their rules would; over several chunks."""
    size = draw(st.integers(1, 3 * CHUNK))
    places = draw(st.lists(st.integers(0, size - 1), unique=True, max_size=12))
    state = GENESIS.moved(size, draw(times))
    for index in sorted(places):
        ended = draw(st.none() | st.integers(index + 1, size - 1)) if index + 1 < size else None
        state = draw(st.sampled_from([with_key, with_version, with_object]))(draw, state, index, ended)
    return state


def with_key(draw: st.DrawFn, state: State, index: int, ended: int | None) -> State:
    party, public_key = draw(names), fixed(f"key {index}", 91)
    role, suite = draw(st.sampled_from(Role.values()[1:])), draw(st.sampled_from(Suite.values()[1:]))
    record = KeyRecord(key_id(public_key), party, role, suite, public_key, draw(times), draw(times), index, ended)
    return state.with_key(record, fixed(f"key object {index}", 16), fixed(f"key entry {index}"))


def with_version(draw: st.DrawFn, state: State, index: int, ended: int | None) -> State:
    purpose = None
    kind, number = draw(kinds), draw(st.integers(0, 3))
    if kind == EntryKind.ENTRY_KIND_PURPOSE:
        purpose = Purpose(code=draw(st.sampled_from(["a", "b"])), label=draw(st.text(max_size=5)))
    named = draw(st.none() | st.sampled_from(NAMED))
    # A rule holds that an object's versions are all of one kind.
    object_id = fixed(f"object {number} of kind {kind}", 16)
    body, after = draw(st.sampled_from([b"", fixed("body")])), draw(st.none() | digests)
    return state.with_version(
        Version(
            fixed(f"version {index}"),
            kind,
            object_id,
            draw(names),
            index,
            draw(times),
            body,
            purpose,
            ended,
            after,
            named=named,
        )
    )


def with_object(draw: st.DrawFn, state: State, index: int, _ended: int | None) -> State:
    closes = draw(st.sampled_from([b"", *list(state.objects)[:3]]))
    return state.with_object(index, fixed(f"other object {index}", 16), fixed(f"entry {index}"), closes)


@given(states())
def test_any_state_is_read_as_it_was_written(state: State) -> None:
    parts = list(encode_state(state))
    read = reopened(parts)
    assert read == state
    assert list(encode_state(read)) == parts
    assert state_digest(read) == state_digest(state) == digest_of(parts) == open_state(parts).digest


@given(states(), st.integers(0, SCANS), st.data())
def test_a_reopened_state_answers_every_lookup_as_the_folded_one(state: State, scans: int, data: st.DataObject) -> None:
    """Before a column has an index, while it gets one, and after."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept_module, "SCANS", scans)
        read = reopened(encode_state(state))
        texts = {"parties", "purposes", "people.officers", "people.mandates"}
        for name in ("keys", "versions", "objects", "histories", *sorted(texts)):
            table, folded = attrgetter(name)(read), attrgetter(name)(state)
            for key in data.draw(st.permutations([*folded])):
                assert table[key] == folded[key]
            stranger = "nobody" if name in texts else bytes(16 if name in {"objects", "histories"} else 32)
            assert table.get(stranger) is None
            if isinstance(stranger, bytes):
                # Bodies name what they like.
                assert [table.get(stranger[:size]) for size in (0, 5, 15)] == [None] * 3
                assert table.get(stranger * 2) is None
            assert set(table) == set(folded)
            assert len(table) == len(folded)
        for owner in (Party(ORIGIN, "health"), Party(ORIGIN, "housing"), Party(ORIGIN, "nobody")):
            assert list(read.versions_of(owner)) == list(state.versions_of(owner))
        assert list(read.records()) == list(state.records())
        for code in ("a", "b", "c"):
            for size in (0, state.size // 2, state.size):
                assert read.purpose_at(code, size) == state.purpose_at(code, size)


@given(states(), st.data())
def test_a_reopened_state_goes_on_as_the_folded_one(state: State, data: st.DataObject) -> None:
    """What comes later, and what changes in old chunks, lies over the snapshot and leaves it as it was."""
    parts = list(encode_state(state))
    read = open_state(parts).state
    draw, index = data.draw, state.size
    grow = draw(st.sampled_from([with_key, with_version, with_object]))
    for version in list(state.versions.values())[:2]:
        changed = replace(version, ended_index=index, superseded_by=draw(digests))
        state, read = state.with_changed_version(changed), read.with_changed_version(changed)
    for key in [record for record in state.keys.values() if record.index >= 0][:2]:
        revoked = replace(key, revoked_index=index)
        state, read = state.with_changed_key(revoked), read.with_changed_key(revoked)
    state = grow(draw, state.moved(index + 1, 1), index, None)
    [record] = [record for record in state.records() if record.index == index]
    if isinstance(record, Version):
        read = read.moved(index + 1, 1).with_version(record)
    elif record.key is not None:
        read = read.moved(index + 1, 1).with_key(record.key, record.object_id, record.digest)
    else:
        read = read.moved(index + 1, 1).with_object(index, record.object_id, record.digest, record.closes)
    assert read == state
    assert state_digest(read) == state_digest(state)
    assert list(encode_state(open_state(parts).state)) == parts


# --- the digest --------------------------------------------------------------------------------------


@given(states(), st.data())
def test_a_digest_that_goes_on_from_the_last_is_the_one_from_scratch(state: State, data: st.DataObject) -> None:
    state_digest(state)
    for version in data.draw(
        st.lists(st.sampled_from([*state.versions.values()]), max_size=3) if state.versions else st.just([])
    ):
        state = state.with_changed_version(replace(version, time=data.draw(times)))
    state = with_object(data.draw, state.moved(state.size + 1, 1), state.size, None)
    from_scratch = replace(state, chunks=Map({n: Folded(chunk.records) for n, chunk in state.chunks.items()}))
    assert state_digest(state) == state_digest(from_scratch) == digest_of(list(encode_state(from_scratch)))


def test_only_the_chunks_that_changed_are_encoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    state = GENESIS.moved(10 * CHUNK, 1)
    for index in range(10 * CHUNK):
        state = state.with_object(index, fixed(f"object {index}", 16), fixed(f"entry {index}"))
    encoded: list[int] = []

    def counting(records: Any) -> bytes:
        encoded.append(records[0].index // CHUNK)
        return encode(chunk_message(records))

    monkeypatch.setattr("exchange.core.snapshot.encode_chunk", counting)
    state_digest(state)
    assert encoded == list(range(10))
    encoded.clear()
    state = state.moved(10 * CHUNK + 1, 2).with_object(10 * CHUNK, fixed("new", 16), fixed("new entry"))
    state = replace(state, chunks=state._recorded(Other(3 * CHUNK, bytes(16), bytes(32))))
    state_digest(state)
    assert encoded == [3, 10]
    encoded.clear()
    assert open_state([encode_part(state, 0), *(encode_part(state, n) for n in range(1, 12))]).digest == state_digest(
        state
    )


def test_the_digest_is_the_root_of_a_tree_over_the_parts() -> None:
    assert state_digest(STATE) == root_of([leaf_hash(part) for part in PARTS]) == root_of(part_hashes(STATE))


@given(states(), st.data())
def test_any_flipped_bit_is_another_digest(state: State, data: st.DataObject) -> None:
    parts = [bytearray(part) for part in encode_state(state)]
    part = data.draw(st.sampled_from([part for part in parts if part]))
    part[data.draw(st.integers(0, len(part) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        read = open_state([bytes(part) for part in parts])
    except CoreError:
        return
    assert read.digest != state_digest(state)


# --- strict ------------------------------------------------------------------------------------------


@given(anything(PARTS[1], *(tuple(encode_state(state))[-1] for state in (GENESIS, World.founded().directory.state))))
def test_any_bytes_are_one_chunks_only_encoding_or_refused(data: bytes) -> None:
    try:
        state = reopened([PARTS[0], data])
    except CoreError:
        return
    assert list(encode_state(state)) == [PARTS[0], data]
    assert encode(chunk_message(tuple(state.records()))) == data


@given(anything(*(next(encode_state(state)) for state in (GENESIS, STATE))))
def test_any_bytes_are_one_heads_only_encoding_or_refused(data: bytes) -> None:
    try:
        state = reopened([data, PARTS[1]])
    except CoreError:
        return
    assert list(encode_state(state)) == [data, PARTS[1]]


def refused(parts: Iterable[bytes]) -> None:
    with pytest.raises(CoreError):
        reopened(parts)


HEADS: dict[str, Any] = {
    "another format": {"format": 2},
    "no root": {"root_key": b""},
    "a size of more chunks": {"size": CHUNK + 1},
    "a size of no chunk": {"size": 0},
    "records past its size": {"size": 5},
}


@pytest.mark.parametrize("change", HEADS.values(), ids=HEADS.keys())
def test_refuses_a_head_with(change: dict[str, Any]) -> None:
    head = DirectoryState.FromString(PARTS[0])
    for name, value in change.items():
        setattr(head, name, value)
    refused([encode(head), PARTS[1]])


def changed(place: int, change: Any) -> Any:
    def apply_to(chunk: DirectoryChunk) -> None:
        said = EntryState.FromString(chunk.records[place])
        change(said)
        chunk.records[place] = encode(said)

    return apply_to


KEY = next(place for place, record in enumerate(STATE.records()) if isinstance(record, Other) and record.key)
VERSION = next(place for place, record in enumerate(STATE.records()) if isinstance(record, Version))
OTHER = next(place for place, record in enumerate(STATE.records()) if isinstance(record, Other) and not record.key)
RECORDS: dict[str, Any] = {
    "a record past its size": changed(-1, lambda said: setattr(said, "index", STATE.size)),
    "a record out of order": changed(2, lambda said: setattr(said, "index", 1)),
    "a record twice": lambda chunk: chunk.records.append(chunk.records[-1]),
    "a record less": lambda chunk: chunk.records.pop(),
    "a short object id": changed(OTHER, lambda said: setattr(said, "object_id", bytes(15))),
    "a short digest": changed(OTHER, lambda said: setattr(said, "digest", bytes(31))),
    "a short closed object": changed(OTHER, lambda said: setattr(said, "closes", bytes(15))),
    "nothing that is closed": changed(OTHER, lambda said: setattr(said, "closes", b"")),
    "another digest": changed(OTHER, lambda said: setattr(said, "digest", bytes(32))),
    "a key that ended before it came": changed(
        KEY, lambda said: setattr(said.key, "revoked_index", said.index or 9999)
    ),
    "a role that nobody has": changed(KEY, lambda said: setattr(said.key, "role", 0)),
    "a suite that nobody knows": changed(KEY, lambda said: setattr(said.key, "suite", 9)),
    "a party that is none": changed(KEY, lambda said: setattr(said.key, "party", "health")),
    "a second root": changed(KEY, lambda said: setattr(said.key, "party", f"exchange://{ORIGIN}")),
    "a version that ended past its size": changed(
        VERSION, lambda said: setattr(said.version, "ended_index", STATE.size)
    ),
    "a kind that nobody knows": changed(VERSION, lambda said: setattr(said.version, "kind", 99)),
    "no kind": changed(VERSION, lambda said: setattr(said.version, "kind", 0)),
    "a long body digest": changed(VERSION, lambda said: setattr(said.version, "body_sha256", bytes(33))),
    "a short successor": changed(VERSION, lambda said: setattr(said.version, "superseded_by", bytes(31))),
    **{
        f"no column of {name}": lambda chunk, name=name: chunk.ClearField(name)
        for name in ("keys", "parties", "entries", "objects", "purposes", "histories", "owners")
    },
}


@pytest.mark.parametrize("change", RECORDS.values(), ids=RECORDS.keys())
def test_refuses_a_chunk_with(change: Any) -> None:
    chunk = DirectoryChunk.FromString(PARTS[1])
    assert list(reopened([PARTS[0], encode(chunk)]).records()) == list(STATE.records())
    change(chunk)
    refused([PARTS[0], encode(chunk)])


def test_refuses_a_record_in_another_chunk_than_its_own() -> None:
    state = GENESIS.moved(2 * CHUNK, 0).with_object(CHUNK, fixed("object", 16), fixed("entry"))
    head, first, second = encode_state(state)
    assert reopened([head, first, second]) == state
    refused([head, second, first])


def test_refuses_an_empty_state() -> None:
    with pytest.raises(DecodeError, match="empty"):
        open_state([])


def test_a_row_that_leads_to_another_record_stops_whoever_reads_it() -> None:
    """No program of this kind writes one, and the digest is right: what signed it is broken."""
    chunk = decode(DirectoryChunk, PARTS[1])
    digest, place = chunk.entries[:32], chunk.entries[32:33]
    chunk.entries = digest + bytes((place[0] + 1,)) + chunk.entries[33:]
    state = Kept([KeptChunk(chunk, 0, STATE.size, bytes(32))]).state(DirectoryState.FromString(PARTS[0]))
    with pytest.raises(SnapshotBrokenError, match="leads to another record"):
        state.versions.get(digest)


def test_bytes_of_two_rows_next_to_each_other_are_no_row() -> None:
    state = GENESIS.moved(2, 0)
    for index in range(2):
        state = state.with_object(index, fixed(f"object {index}", 16), fixed(f"entry {index}"))
    rows = DirectoryChunk.FromString(list(encode_state(state))[1]).entries
    read = reopened(encode_state(state))
    assert [read.versions.get(rows[start : start + 32]) for start in range(len(rows) - 32)] == [None] * (len(rows) - 32)
    assert read.objects[fixed("object 1", 16)] == fixed("entry 1")


def test_an_entrys_place_is_found_by_its_digest() -> None:
    kept = open_state(PARTS).kept
    for record in STATE.records():
        assert kept.index_of(record.digest) == record.index
    assert kept.index_of(bytes(32)) is None


# --- the entry ---------------------------------------------------------------------------------------


def snapshot_leaf(world: World, party: Party = BROKER, size: int | None = None, digest: bytes = b"") -> bytes:
    state = world.directory.state
    draft = snapshot_entry(party, world.fresh(16), state.size if size is None else size, digest or state_digest(state))
    return directory_leaf(sign(world.keys[party], ORIGIN, draft), world.now)


def test_a_snapshot_of_what_everybody_folds_to_holds() -> None:
    world = busy()
    state, applied = apply(STATE, snapshot_leaf(world))
    assert (applied.reason, applied.differs) == ("", False)
    assert (state.keys, state.versions, state.purposes) == (STATE.keys, STATE.versions, STATE.purposes)
    assert len(state.objects) == len(STATE.objects) + 1


def test_whoever_folds_to_another_state_is_told_to_stop() -> None:
    """One that accepted a revoked key, say: it must not go on as if the broker alone were wrong."""
    key = key_id(signer(str(AUDITOR)).public_key)
    other = STATE.with_changed_key(replace(STATE.keys[key], not_after=1))
    after, applied = apply(other, snapshot_leaf(busy()))
    assert applied.differs
    assert "folds to another state here" in applied.reason
    assert after == other.moved(other.size + 1, other.time)


@pytest.mark.parametrize("offset", [-1, 1])
def test_a_snapshot_of_another_size_is_no_difference(offset: int) -> None:
    _, applied = apply(STATE, snapshot_leaf(busy(), size=STATE.size + offset))
    assert "just before it" in applied.reason
    assert not applied.differs


def test_a_snapshot_takes_an_object_id_of_its_own() -> None:
    world = busy()
    used = next(iter(STATE.objects))
    draft = snapshot_entry(BROKER, used, STATE.size, state_digest(STATE))
    _, applied = apply(STATE, directory_leaf(sign(world.keys[BROKER], ORIGIN, draft), world.now))
    assert "object id is in use" in applied.reason


@pytest.mark.parametrize("party", [AUDITOR, COORDINATOR, POPULATION])
def test_only_a_broker_signs_snapshots(party: Party) -> None:
    _, applied = apply(STATE, snapshot_leaf(busy(), party))
    assert "is not a broker" in applied.reason


def test_a_false_snapshot_by_nobody_who_may_sign_one_is_no_difference() -> None:
    _, applied = apply(STATE, snapshot_leaf(busy(), AUDITOR, digest=bytes(32)))
    assert not applied.differs


# --- terms, opened again -----------------------------------------------------------------------------


def again(world: World, *without: int) -> Directory:
    """The directory of a snapshot of now, some bodies of which are not at hand."""
    return Directory.reopened(
        reopened(encode_state(world.directory.state)), LoggedBodies(world.directory_log, *without)
    )


def test_bodies_opened_again_long_after_give_the_same_terms() -> None:
    for world in (busy(), World.standard(), World.founded()):
        assert again(world) == world.directory


def test_a_purpose_counts_as_it_stood_when_the_agreement_came() -> None:
    world = World.standard()
    before = world.directory.state.purposes[PURPOSE]
    world.revoke(before, COORDINATOR)
    assert again(world) == world.directory
    assert len(again(world).terms.agreements) == 1


def test_an_agreement_before_its_purpose_gives_no_rights_however_late_it_is_opened() -> None:
    world = World.standard()
    purpose = "tax.assessment"
    draft = world.body_draft(HOUSING, changed_application(world, purpose))
    assert "not registered" in world.append(draft, HOUSING).reason
    world.register(purpose)
    assert again(world) == world.directory


def changed_application(world: World, purpose: str) -> Any:
    application = world.directory.terms.applications[world.agreement.application]
    body = Application.FromString(world.directory_log.bodies[application.version.index][SALT:])
    del body.purposes[:]
    body.purposes.append(purpose)
    return body


def test_the_state_of_an_empty_directory_has_an_encoding() -> None:
    assert reopened(encode_state(GENESIS)) == GENESIS


def test_a_body_is_read_when_it_is_looked_up_and_once() -> None:
    world = World.standard()
    bodies, state = LoggedBodies(world.directory_log), reopened(encode_state(world.directory.state))
    directory = Directory.reopened(state, bodies, Belongings.of(rows_since(state, bodies, 0)))
    bodies.asked.clear()
    agreement, index = world.agreement, world.agreement.version.index
    for _ in range(2):
        assert directory.agreement(agreement.digest) == agreement
        assert directory.dataset(agreement.dataset) == world.dataset
    assert bodies.asked.count(index) == 1
    assert len(bodies.asked) == len(set(bodies.asked))


def test_without_a_body_there_are_no_rights_and_it_is_known_what_lacks() -> None:
    world = World.standard()
    agreement, dataset = world.agreement, world.dataset
    application = world.directory.terms.applications[agreement.application]
    directory = again(world, agreement.version.index)
    assert directory.agreement(agreement.digest) is None
    assert directory.lacks_body(POPULATION)
    assert not directory.lacks_body(HOUSING)
    assert [version.digest for version in directory.bodies_lacking(POPULATION)] == [agreement.digest]
    for lacking in (application.version.index, dataset.version.index):
        assert again(world, lacking).agreement(agreement.digest) is None
    directory = again(world, dataset.version.index, application.version.index)
    assert directory.dataset(dataset.object_id) is None
    assert dataset.version.digest in [version.digest for version in directory.datasets_lacking()]
    assert [version.digest for version in directory.applications_lacking()] == [application.version.digest]
    assert not [*again(world).datasets_lacking(), *again(world).applications_lacking()]
    assert not again(world).lacks_body(POPULATION)


def test_what_comes_after_a_snapshot_may_name_what_came_before() -> None:
    world = busy()
    directory, start = again(world), world.directory.size
    world.grant(next(iter(world.directory.terms.applications.values())))
    world.publish(code="residents.moved")
    for leaf, body in zip(world.directory_log.leaves[start:], world.directory_log.bodies[start:], strict=True):
        directory, applied = directory.apply(leaf, body)
        assert not applied.reason
    assert directory == world.directory


def test_who_keeps_the_bodies_may_say_that_one_was_altered() -> None:
    class AlteredError(Exception):
        pass

    class Altered:
        def body(self, version: Version) -> bytes:
            raise AlteredError

    world = World.standard()
    directory = Directory.reopened(reopened(encode_state(world.directory.state)), Altered())
    with pytest.raises(AlteredError):
        directory.agreement(world.agreement.digest)
    with pytest.raises(AlteredError):
        directory.dataset(world.dataset.object_id)


def test_a_snapshot_entry_says_what_it_is_of() -> None:
    leaf = snapshot_leaf(busy())
    assert said_digest(leaf, STATE.size) == state_digest(STATE)
    assert said_digest(leaf, STATE.size + 1) is None
    assert said_digest(WORLD.directory_log.leaves[0], 0) is None
    assert said_digest(leaf[:-1], STATE.size) is None
