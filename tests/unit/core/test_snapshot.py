"""A folded state has one encoding, and a snapshot entry holds only where everybody folds to what its broker signed."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core import snapshot
from exchange.core.directory import Directory
from exchange.core.entries import ObjectVersion, directory_leaf, snapshot_entry
from exchange.core.envelope import sign
from exchange.core.errors import CoreError, DecodeError
from exchange.core.fold import apply
from exchange.core.keys import key_id
from exchange.core.names import Party
from exchange.core.snapshot import decode_state, digest_of, encode_state, state_digest
from exchange.core.state import KeyRecord, State, Version, genesis
from exchange.core.terms import SALT
from exchange.core.wire import encode
from exchange.v1.directory_pb2 import (
    Application,
    DirectoryState,
    EntryKind,
    KeyState,
    ObjectState,
    Purpose,
    Role,
    Suite,
    VersionState,
)
from tests.corruption import anything
from tests.memory import fixed, signer
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
WHOLE = b"".join(encode_state(STATE))


# --- one encoding ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", range(WORLD.directory_log.size + 1))
def test_every_state_of_a_log_is_read_as_it_was_written(size: int) -> None:
    state = GENESIS
    for leaf in WORLD.directory_log.leaves[:size]:
        state, _ = apply(state, leaf)
    assert decode_state(encode_state(state)) == state


names = st.sampled_from([Party(ORIGIN, "health"), Party(ORIGIN, "housing"), Party(ORIGIN, "health", "registry")])
times = st.integers(0, 2**63 - 1)
digests = st.integers(0, 10**6).map(lambda number: fixed(f"digest {number}"))


@st.composite
def states(draw: st.DrawFn) -> State:
    """States with any records that entries can have left, whether or not their rules would."""
    size = draw(st.integers(1, 40))
    places = draw(st.lists(st.integers(0, size - 1), unique=True, max_size=12))
    state = replace(GENESIS, size=size, time=draw(times))
    for index in sorted(places):
        ended = draw(st.none() | st.integers(index + 1, size - 1)) if index + 1 < size else None
        state = draw(st.sampled_from([with_key, with_version, with_object]))(draw, state, index, ended)
    return state


def with_key(draw: st.DrawFn, state: State, index: int, ended: int | None) -> State:
    party, public_key = draw(names), fixed(f"key {index}", 91)
    role, suite = draw(st.sampled_from(Role.values()[1:])), draw(st.sampled_from(Suite.values()[1:]))
    record = KeyRecord(key_id(public_key), party, role, suite, public_key, draw(times), draw(times), index, ended)
    known = state.parties.get(str(party), ())
    state = replace(state, parties=state.parties.set(str(party), (*known, record.key_id)))
    return with_object(draw, replace(state, keys=state.keys.set(record.key_id, record)), index, None)


def with_version(draw: st.DrawFn, state: State, index: int, ended: int | None) -> State:
    kind = draw(st.sampled_from(EntryKind.values()[1:]))
    text = st.text(max_size=5)
    purpose = draw(st.none() | st.builds(Purpose, code=st.sampled_from(["a", "b"]), label=text, legal_basis=text))
    digest, object_id = fixed(f"version {index}"), fixed(f"object {draw(st.integers(0, 3))}", 16)
    body = draw(st.sampled_from([b"", fixed("body")]))
    after = draw(st.none() | digests)
    version = Version(digest, kind, object_id, draw(names), index, draw(times), body, purpose, ended, after)
    if purpose is not None:
        state = replace(state, purposes=state.purposes.set(purpose.code, digest))
    versions, objects = state.versions.set(digest, version), state.objects.set(object_id, digest)
    return replace(state, versions=versions, objects=objects)


def with_object(draw: st.DrawFn, state: State, index: int, _ended: int | None) -> State:
    return replace(state, objects=state.objects.set(fixed(f"other object {index}", 16), fixed(f"entry {index}")))


@given(states(), st.integers(1, 5))
def test_any_state_is_read_as_it_was_written_however_it_is_cut(state: State, part: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshot, "PART", part)
        parts = list(encode_state(state))
    assert b"".join(parts) == b"".join(encode_state(state))
    for pieces in (parts, [b"".join(parts)]):
        read = decode_state(pieces)
        assert read == state
        assert state_digest(read) == digest_of(encode_state(state))


@given(anything(WHOLE, *(b"".join(encode_state(state)) for state in (GENESIS, World.founded().directory.state))))
def test_any_bytes_are_one_states_only_encoding_or_refused(data: bytes) -> None:
    try:
        state = decode_state([data])
    except CoreError:
        return
    assert b"".join(encode_state(state)) == data


def message() -> DirectoryState:
    return DirectoryState.FromString(WHOLE)


def refused(said: DirectoryState, *more: DirectoryState) -> None:
    with pytest.raises(CoreError):
        decode_state([encode(said), *map(encode, more)])


CHANGES: dict[str, Any] = {
    "another format": lambda said: setattr(said, "format", 2),
    "no root": lambda said: said.ClearField("root_key"),
    "keys out of order": lambda said: said.keys.sort(key=lambda key: -key.index),
    "versions out of order": lambda said: said.versions.sort(key=lambda version: -version.index),
    "objects out of order": lambda said: said.objects.sort(key=lambda item: item.object_id, reverse=True),
    "a key twice": lambda said: said.keys.add().CopyFrom(said.keys[0]),
    "a version twice": lambda said: said.versions.add().CopyFrom(said.versions[0]),
    "an object twice": lambda said: said.objects.add().CopyFrom(said.objects[0]),
    "a key past its size": lambda said: setattr(said.keys[-1], "index", said.size),
    "a version past its size": lambda said: setattr(said.versions[-1], "index", said.size),
    "a key that ended before it came": lambda said: setattr(said.keys[3], "revoked_index", said.keys[3].index),
    "a version that ended past its size": lambda said: setattr(said.versions[0], "ended_index", said.size),
    "a role that nobody has": lambda said: setattr(said.keys[0], "role", 0),
    "a suite that nobody knows": lambda said: setattr(said.keys[0], "suite", 9),
    "a kind that nobody knows": lambda said: setattr(said.versions[0], "kind", 99),
    "a party that is none": lambda said: setattr(said.keys[0], "party", "health"),
    "a second root": lambda said: setattr(said.keys[0], "party", f"exchange://{ORIGIN}"),
    "a short digest": lambda said: setattr(said.versions[0], "digest", bytes(31)),
    "a short object id": lambda said: setattr(said.versions[0], "object_id", bytes(15)),
    "a long body digest": lambda said: setattr(said.versions[0], "body_sha256", bytes(33)),
    "a short successor": lambda said: setattr(said.versions[0], "superseded_by", bytes(31)),
    "an object with a short id": lambda said: setattr(said.objects[0], "object_id", bytes(15)),
    "an object with a short digest": lambda said: setattr(said.objects[0], "digest", bytes(31)),
    "an object that is a version's": lambda said: setattr(said.objects[0], "digest", said.versions[0].digest),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_refuses(change: Any) -> None:
    said = message()
    decode_state([encode(said)])
    change(said)
    refused(said)


def test_refuses_an_empty_state() -> None:
    with pytest.raises(DecodeError, match="empty"):
        decode_state([])


def test_refuses_parts_in_another_order() -> None:
    head = DirectoryState(format=1, origin=ORIGIN, size=9, root_key=signer("root").public_key)
    key = KeyState(party=str(HOUSING), role=2, suite=1, public_key=b"key", index=1)
    version = VersionState(digest=bytes(32), kind=3, object_id=bytes(16), owner=str(HOUSING), index=2)
    item = ObjectState(object_id=bytes(16), digest=bytes(31) + b"\1")
    keys, versions, objects = (
        DirectoryState(keys=[key]),
        DirectoryState(versions=[version]),
        DirectoryState(objects=[item]),
    )
    decode_state(map(encode, (head, keys, versions, objects)))
    for wrong in ((head, versions, keys), (head, objects, versions), (head, keys, keys), (head, head), (keys, head)):
        refused(*wrong)


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
    other = replace(STATE, keys=STATE.keys.set(key, replace(STATE.keys[key], not_after=1)))
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


def test_bodies_opened_again_long_after_give_the_same_terms() -> None:
    for world in (busy(), World.standard(), World.founded()):
        bodies = [(index, body) for index, body in enumerate(world.directory_log.bodies) if body]
        assert Directory.reopened(world.directory.state, bodies) == world.directory


def test_a_purpose_counts_as_it_stood_when_the_agreement_came() -> None:
    world = World.standard()
    before = world.directory.state.purposes[PURPOSE]
    world.revoke(before, COORDINATOR)
    bodies = [(index, body) for index, body in enumerate(world.directory_log.bodies) if body]
    again = Directory.reopened(world.directory.state, bodies)
    assert again == world.directory
    assert len(again.terms.agreements) == 1


def test_an_agreement_before_its_purpose_gives_no_rights_however_late_it_is_opened() -> None:
    world = World.standard()
    purpose = "tax.assessment"
    draft = world.body_draft(HOUSING, changed_application(world, purpose))
    assert "not registered" in world.append(draft, HOUSING).reason
    world.register(purpose)
    bodies = [(index, body) for index, body in enumerate(world.directory_log.bodies) if body]
    assert Directory.reopened(world.directory.state, bodies) == world.directory


def changed_application(world: World, purpose: str) -> Any:
    application = world.directory.terms.applications[world.agreement.application]
    body = Application.FromString(world.directory_log.bodies[application.version.index][SALT:])
    del body.purposes[:]
    body.purposes.append(purpose)
    return body


def test_the_state_of_an_empty_directory_has_an_encoding() -> None:
    assert decode_state(encode_state(GENESIS)) == GENESIS
