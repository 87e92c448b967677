"""Folding the directory log is total: any leaf grows it by one, and only a valid entry changes anything else."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.directory import Directory
from exchange.core.entries import directory_leaf, revocation_entry
from exchange.core.envelope import ENTRY, REQUEST, Draft, Envelope, sign, sign_batch
from exchange.core.fold import Applied, apply
from exchange.core.keys import key_id
from exchange.core.names import Party
from exchange.core.state import State, genesis
from exchange.core.wire import MAX_TIME, encode
from exchange.v1.directory_pb2 import DirectoryLeaf, Entry, Purpose, Role
from tests.corruption import anything
from tests.drafts import entry_draft
from tests.memory import sealing_public, signer
from tests.world import BROKER, COORDINATOR, DAY, EXCHANGE, HOUSING, ORIGIN, POPULATION, REGISTRY, START, YEAR, World

WORLD = World.standard()
LEAVES, BODIES = tuple(WORLD.directory_log.leaves), tuple(WORLD.directory_log.bodies)
STATE = WORLD.directory.state


def fold(leaves: tuple[bytes, ...], state: State | None = None) -> State:
    """The state that the leaves lead to."""
    state = state or genesis(ORIGIN, signer("root").public_key)
    for leaf in leaves:
        state, _ = apply(state, leaf)
    return state


def grown(state: State) -> State:
    """The same state, one entry on."""
    return replace(state, size=state.size + 1)


def leaf_of(draft: Draft, party: Party = POPULATION, time: int = START) -> bytes:
    """The leaf of an entry that a party signs."""
    return directory_leaf(sign(WORLD.keys[party], ORIGIN, draft), time)


VALID = leaf_of(revocation_entry(POPULATION, bytes(16), WORLD.agreement.digest, "no longer needed"))


def refused(leaf: bytes, reason: str, state: State = STATE) -> None:
    """The leaf changes nothing but the size, for this reason."""
    after, applied = apply(state, leaf)
    assert after == grown(state)
    assert reason in applied.reason
    assert applied == Applied(state.size, reason=applied.reason)


# --- it is total -------------------------------------------------------------------------------------


@given(anything(VALID, *LEAVES))
def test_any_leaf_grows_the_log_by_one_and_an_invalid_one_changes_nothing_else(leaf: bytes) -> None:
    after, applied = apply(STATE, leaf)
    assert after.size == STATE.size + 1
    assert applied.index == STATE.size
    assert bool(applied.reason) == (after == grown(STATE))


@given(st.sampled_from(LEAVES), st.sampled_from(BODIES), st.binary())
def test_a_directory_takes_any_leaf_with_any_body(leaf: bytes, body: bytes, tail: bytes) -> None:
    for extra in (body, body + tail, tail, body[: len(tail)]):
        directory, applied = WORLD.directory.apply(leaf, extra)
        assert directory.size == applied.index + 1 == STATE.size + 1


@given(st.integers(0, len(LEAVES)), st.data())
def test_a_stray_leaf_anywhere_leads_to_the_same_state(place: int, data: st.DataObject) -> None:
    stray = data.draw(st.binary(max_size=64) | st.sampled_from(LEAVES[place:] or LEAVES).map(lambda leaf: leaf[:-1]))
    state = fold((*LEAVES[:place], stray, *LEAVES[place:]))
    assert (state.size, state.time) == (STATE.size + 1, STATE.time)
    assert set(state.keys) == set(STATE.keys)
    assert (state.parties, state.objects, state.purposes) == (STATE.parties, STATE.objects, STATE.purposes)
    assert [v.body_sha256 for v in state.versions.values()] == [v.body_sha256 for v in STATE.versions.values()]


@given(st.permutations(range(len(LEAVES))))
def test_leaves_in_any_order_are_folded_without_an_error(order: list[int]) -> None:
    state = fold(tuple(LEAVES[place] for place in order))
    assert state.size == len(LEAVES)
    assert set(state.keys) <= set(STATE.keys)


def test_the_fold_is_the_same_for_everyone() -> None:
    assert fold(LEAVES) == STATE
    assert len(STATE.keys) == 1 + 3 + 3 + 3 + 3
    assert (STATE.size, STATE.time) == (len(LEAVES), START)


def test_the_fold_reads_no_bodies() -> None:
    directory = Directory.genesis(ORIGIN, signer("root").public_key)
    for leaf in LEAVES:
        directory, applied = directory.apply(leaf, b"")
        assert not applied.reason
    assert directory.state == STATE
    assert not directory.terms.datasets


def test_a_valid_entry_is_reported_with_its_digest_and_content() -> None:
    state, applied = apply(STATE, VALID)
    assert (applied.index, applied.reason) == (STATE.size, "")
    assert applied.digest == state.objects[bytes(16)]
    assert applied.entry is not None
    assert applied.entry.revocation.target == WORLD.agreement.digest


def test_a_state_is_never_changed_in_place() -> None:
    before = fold(LEAVES)
    apply(before, VALID)
    assert before == STATE


# --- what holds for every kind of entry --------------------------------------------------------------


def test_a_leaf_is_the_one_encoding_of_a_leaf() -> None:
    refused(b"", "format 0")
    refused(b"\xff", "cannot be parsed")
    refused(VALID + b"\xf8\x7f\x01", "canonical")
    refused(VALID[:-1], "cannot be parsed")
    frame = DirectoryLeaf.FromString(VALID)
    frame.format = 2
    refused(encode(frame), "format 2")


def test_an_entry_has_at_most_32_kib() -> None:
    refused(bytes(32 * 1024), "cannot be parsed")
    refused(bytes(32 * 1024 + 1), "at most 32,768 are allowed")


def test_time_never_runs_backwards() -> None:
    draft = revocation_entry(POPULATION, bytes(16), WORLD.agreement.digest, "")
    refused(leaf_of(draft, time=START - 1), "time runs backwards")
    state, applied = apply(STATE, leaf_of(draft, time=START + 1))
    assert (state.time, applied.reason) == (START + 1, "")


def test_time_ends_with_the_calendar() -> None:
    draft = revocation_entry(POPULATION, bytes(16), WORLD.agreement.digest, "")
    refused(leaf_of(draft, time=MAX_TIME + 1), "beyond the year 9999")


def test_a_refused_entry_does_not_move_the_time() -> None:
    late = leaf_of(revocation_entry(POPULATION, bytes(16), bytes(32), ""), time=START + DAY)
    state, _ = apply(STATE, late)
    assert state.time == START
    assert not apply(state, VALID)[1].reason


def _reframed(change: Callable[[Envelope], Envelope]) -> bytes:
    envelope = sign(WORLD.keys[POPULATION], ORIGIN, revocation_entry(POPULATION, bytes(16), bytes(32), ""))
    return encode(DirectoryLeaf(format=1, time=START, envelope=change(envelope).encode()))


FRAMES: list[tuple[str, Callable[[Envelope], Envelope], str]] = [
    ("an attachment", lambda e: replace(e, attachments=(b"body",)), "carries no attachments"),
    ("another kind", lambda e: replace(e, kind=REQUEST), "kind is not"),
    ("a path that does not fit", lambda e: replace(e, path=(bytes(32),)), "path does not fit"),
    ("an altered payload", lambda e: replace(e, payload=e.payload[:-1]), "does not verify"),
    ("another signature", lambda e: replace(e, signature=bytes(70)), "does not verify"),
    ("a foreign key", lambda e: replace(e, key_id=bytes(32)), "not in the directory"),
    ("another's key", lambda e: replace(e, key_id=key_id(signer(str(HOUSING)).public_key)), "does not verify"),
    ("a sealing key", lambda e: replace(e, key_id=key_id(sealing_public(str(REGISTRY)))), "not in the directory"),
]


@pytest.mark.parametrize(("change", "reason"), [f[1:] for f in FRAMES], ids=[f[0] for f in FRAMES])
def test_refuses_an_envelope_with(change: Callable[[Envelope], Envelope], reason: str) -> None:
    refused(_reframed(change), reason)


@pytest.mark.parametrize("envelope", [b"", b"\xff", LEAVES[0]])
def test_refuses_a_leaf_without_an_envelope(envelope: bytes) -> None:
    refused(encode(DirectoryLeaf(format=1, time=START, envelope=envelope)), "nvelope")


def test_refuses_an_entry_of_another_exchange() -> None:
    draft = revocation_entry(POPULATION, bytes(16), WORLD.agreement.digest, "")
    refused(directory_leaf(sign(WORLD.keys[POPULATION], "town.example", draft), START), "does not verify")


def test_refuses_a_payload_that_is_no_entry() -> None:
    refused(leaf_of(Draft(ENTRY, b"\xff")), "Entry cannot be parsed")
    refused(leaf_of(Draft(ENTRY, b"")), "format 0")
    draft = revocation_entry(POPULATION, bytes(16), WORLD.agreement.digest, "")
    refused(leaf_of(Draft(ENTRY, draft.payload + b"\xf8\x7f\x01")), "canonical")


@pytest.mark.parametrize("owner", [EXCHANGE, HOUSING, REGISTRY, Party("town.example", "population")], ids=str)
def test_refuses_an_entry_that_another_party_signed(owner: Party) -> None:
    draft = revocation_entry(owner, bytes(16), WORLD.agreement.digest, "")
    refused(leaf_of(draft, POPULATION), f"signed by {POPULATION}, but owned by {owner}")


@pytest.mark.parametrize("size", [0, 15, 17, 32])
def test_refuses_an_object_id_of_another_length(size: int) -> None:
    refused(leaf_of(revocation_entry(POPULATION, bytes(size), WORLD.agreement.digest, "")), "an object id has 16 bytes")


@pytest.mark.parametrize(("begins", "ends"), [(1, DAY), (-DAY, -1)])
def test_refuses_a_key_out_of_its_validity(begins: int, ends: int) -> None:
    world = World.standard()
    world.admit(REGISTRY, Role.ROLE_SYSTEM, signer("later"), validity=(START + begins, START + ends))
    draft = revocation_entry(REGISTRY, bytes(16), world.agreement.digest, "")
    assert "not valid at this time" in world.append(draft, REGISTRY).reason


@pytest.mark.parametrize(("begins", "ends"), [(0, DAY), (-DAY, 0)])
def test_takes_a_key_at_the_ends_of_its_validity(begins: int, ends: int) -> None:
    world = World.standard()
    world.admit(REGISTRY, Role.ROLE_SYSTEM, signer("later"), validity=(START + begins, START + ends))
    draft = revocation_entry(REGISTRY, bytes(16), world.agreement.digest, "")
    assert not world.append(draft, REGISTRY).reason


def test_the_entrys_time_counts_not_a_clock() -> None:
    world = World.standard()
    draft = revocation_entry(POPULATION, bytes(16), world.agreement.digest, "")
    for time, reason in ((START + 10 * YEAR, ""), (START + 10 * YEAR + 1, "not valid at this time")):
        assert reason in apply(STATE, leaf_of(draft, time=time))[1].reason


def test_refuses_a_revoked_key() -> None:
    world = World.standard()
    draft = revocation_entry(POPULATION, bytes(16), world.agreement.digest, "")
    world.revoke(key_id(world.keys[POPULATION].public_key), EXCHANGE)
    assert f"the signing key of {POPULATION} is revoked" in world.append(draft, POPULATION).reason


def test_a_key_revoked_after_its_batch_was_verified_signs_no_later_entry_of_it() -> None:
    world = World.standard()
    me = world.keys[POPULATION]
    targets = (key_id(me.public_key), world.agreement.digest)
    drafts = [revocation_entry(POPULATION, world.fresh(16), target, "") for target in targets]
    first, second = sign_batch(me, ORIGIN, drafts)
    assert not world.append_envelope(first).reason
    assert "is revoked" in world.append_envelope(second).reason
    assert world.directory.stands(world.agreement)


def test_the_same_entry_twice_is_refused() -> None:
    for place, leaf in enumerate(LEAVES):
        _, applied = apply(STATE, leaf)
        assert applied.reason, f"leaf {place} was folded twice"


KINDS: list[tuple[str, Party, dict[str, Any]]] = [
    ("PURPOSE", COORDINATOR, {"purpose": Purpose(code="a.b", label="a")}),
    ("DATASET", POPULATION, {"body_sha256": bytes(32)}),
    ("REVOCATION", REGISTRY, {"revocation": {"target": WORLD.agreement.digest}}),
]


@pytest.mark.parametrize(("kind", "party", "body"), KINDS, ids=[kind for kind, _, _ in KINDS])
def test_every_kind_needs_a_signature_by_its_owner(kind: str, party: Party, body: dict[str, Any]) -> None:
    draft = entry_draft(World.standard(), party, kind, **body)
    assert not apply(STATE, leaf_of(draft, party))[1].reason
    refused(leaf_of(draft, BROKER), "but owned by")
    assert Entry.FromString(draft.payload).owner == str(party)
