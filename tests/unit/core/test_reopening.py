"""A directory that is kept anywhere and gone on with says what the one says that was folded from its first entry."""

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import fields
from functools import cache
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.core.belongings import CATALOGUE_KEY, INDEX, KEY, Belongings, rows_of, rows_since
from exchange.core.correction import Correction
from exchange.core.directory import Directory
from exchange.core.entries import ObjectVersion
from exchange.core.names import Party
from exchange.core.procedure import Stage
from exchange.core.snapshot import encode_state, open_state
from exchange.core.state import Version
from exchange.core.terms import Terms
from exchange.v1.catalogue_pb2 import Sharing, SharingClass
from exchange.v1.directory_pb2 import Field
from exchange.v1.procedure_pb2 import Action, Outcome
from tests.memory import LoggedBodies, fixed, signer
from tests.world import (
    APPLICATIONS,
    CIVIL_AFFAIRS,
    COORDINATOR,
    HOUSING,
    HOUSING_HEAD,
    MARRIAGE,
    ORIGIN,
    POPULATION,
    POPULATION_HEAD,
    PURPOSE,
    REGISTRY,
    World,
)

PARTIES = (HOUSING, HOUSING_HEAD, POPULATION, POPULATION_HEAD, COORDINATOR)
GRANTEES = (APPLICATIONS, HOUSING, MARRIAGE)
UNCONDITIONAL = Sharing(sharing_class=SharingClass.SHARING_CLASS_UNCONDITIONAL)
DISPUTES = (fixed("one dispute", 16), fixed("another dispute", 16))
CORRECTIONS = (fixed("one correction", 16), fixed("another correction", 16))


@cache
def start() -> World:
    world = World.founded()
    world.register(PURPOSE)
    world.admit_heads()
    world.publish(sharing=UNCONDITIONAL)
    world.publish("households", sharing=UNCONDITIONAL)
    world.grant(world.apply_for(world.dataset))
    world.apply_for(world.dataset, MARRIAGE)
    return world


def pick(items: list[bytes], which: int) -> bytes:
    return items[-1 - which % len(items)] if items else bytes(32)


class Aim:
    """What a move is about, picked out of what there is, with or without sense."""

    def __init__(self, world: World, which: int, other: int) -> None:
        terms, versions = world.directory.terms, world.directory.state.versions
        self.world, self.which, self.other = world, which, other
        self.application, self.agreement = (
            pick(sorted(table, key=lambda digest: versions[digest].index), which)
            for table in (terms.applications, terms.agreements)
        )
        self.subject = versions[self.application].object_id if self.application in versions else bytes(16)
        self.approval, self.dispute = pick(sorted(terms.approvals), other), DISPUTES[which % 2]
        datasets = sorted(terms.datasets.values(), key=lambda dataset: dataset.code)
        self.dataset, self.grantee = datasets[other % len(datasets)], GRANTEES[which % len(GRANTEES)]
        self.correction = CORRECTIONS[other % 2]

    @property
    def known(self) -> Correction | None:
        return self.world.directory.terms.corrections.get(self.correction)

    def apply(self, **changes: Any) -> None:
        self.world.apply_for(self.dataset, self.grantee, **changes)

    def apply_as_approved(self) -> None:
        """For what the last standing approval is for."""
        terms = self.world.directory.terms
        for approval in sorted(terms.approvals.values(), key=lambda approval: -approval.version.index)[:1]:
            dataset, digest = terms.datasets[approval.dataset], approval.version.digest
            self.world.apply_for(dataset, self.grantee, standing_approval=digest)

    def consented(self) -> None:
        """An application, as it goes where heads consent."""
        self.apply(standing_approval=self.approval if self.which % 2 else b"")
        version = self.world.directory.state.versions[self.world.entries[-1].digest]
        self.step(HOUSING_HEAD, Action.ACTION_CONSENT, version.object_id, digest=version.digest)
        self.step(HOUSING, Action.ACTION_SUBMIT, version.object_id, digest=version.digest)

    def step(self, party: Party, action: Action.ValueType, subject: bytes, **said: Any) -> None:
        self.world.step(party, action, subject, **said)

    def grant(self, version: ObjectVersion | None = None) -> None:
        self.world.grant(self.world.directory.terms.applications[self.application], version)

    def settle(self) -> None:
        outcome = Outcome.values()[1 + self.which]
        self.step(PARTIES[self.other], Action.ACTION_SETTLE, self.dispute, outcome=outcome, text="so be it")

    def consent_to_answer(self) -> None:
        """To a standing approval, and to an agreement, that is signed afterwards."""
        world, dataset = self.world.copy(), self.dataset
        if self.which % 2:
            with suppress(AssertionError, KeyError):
                world.grant(world.directory.terms.applications[self.application])
        else:
            with suppress(AssertionError):
                world.approve_standing(dataset)
        draft = world.entries[-1]
        entry = world.directory.state.versions.get(draft.digest)
        if entry is None:
            return
        subject = self.subject if self.which % 2 else dataset.object_id
        self.step(POPULATION_HEAD, Action.ACTION_CONSENT_ANSWER, subject, digest=entry.body_sha256)
        with suppress(AssertionError):
            self.world.append_envelope(draft)

    def file(self) -> None:
        about, party = self.dataset.object_id, (HOUSING, POPULATION, CIVIL_AFFAIRS)[self.which % 3]
        said: dict[str, Any] = {"about": about, "fields": ["address"], "text": "wrong", "case_id": "ZF-2027-0001"}
        self.step(party, Action.ACTION_OPEN_CORRECTION, self.correction, **said)

    def notify(self) -> None:
        said = {"fields": ["address"], "recipient": str(CIVIL_AFFAIRS), "request_ids": [fixed("asked", 16)]}
        about = self.known.dataset if self.known is not None else self.dataset.object_id
        self.step(REGISTRY, Action.ACTION_NOTIFY, self.correction, about=about, **said)

    def acknowledge(self) -> None:
        notices = self.known.notices if self.known is not None else ()
        digest = notices[-1].version.digest if notices else bytes(32)
        self.step(MARRIAGE, Action.ACTION_ACKNOWLEDGE, self.correction, digest=digest)


def latest(aim: Aim, digest: bytes) -> ObjectVersion:
    return ObjectVersion(aim.world.directory.state.versions[digest].object_id, digest)


MOVES: tuple[Callable[[Aim], object], ...] = (
    lambda aim: aim.apply(),
    lambda aim: aim.apply(),
    lambda aim: aim.apply(),
    lambda aim: aim.apply(version=latest(aim, aim.application)),
    lambda aim: aim.apply(standing_approval=aim.approval),
    lambda aim: aim.apply_as_approved(),
    lambda aim: aim.apply_as_approved(),
    lambda aim: aim.step(HOUSING_HEAD, Action.ACTION_CONSENT, aim.subject, digest=aim.application),
    lambda aim: aim.step(HOUSING, Action.ACTION_SUBMIT, aim.subject, digest=aim.application),
    lambda aim: aim.consented(),
    lambda aim: aim.consented(),
    lambda aim: aim.step(POPULATION, Action.ACTION_RETURN, aim.subject, missing=["the legal basis"]),
    lambda aim: aim.grant(),
    lambda aim: aim.grant(),
    lambda aim: aim.grant(latest(aim, aim.agreement)),
    lambda aim: aim.step(POPULATION, Action.ACTION_REFUSE, aim.subject, text="no"),
    lambda aim: aim.step(POPULATION, Action.ACTION_END, aim.subject, text="misused"),
    lambda aim: aim.step(HOUSING, Action.ACTION_RATE, aim.subject, rating=1 + aim.other),
    lambda aim: aim.step(HOUSING, Action.ACTION_OPEN_DISPUTE, aim.dispute, about=aim.subject, text="too slow"),
    lambda aim: aim.step(HOUSING, Action.ACTION_OPEN_DISPUTE, aim.dispute, about=aim.subject, text="too slow"),
    lambda aim: aim.step(PARTIES[aim.other], Action.ACTION_ESCALATE, aim.dispute, text="no end of it"),
    lambda aim: aim.settle(),
    lambda aim: aim.world.revoke(aim.application, HOUSING),
    lambda aim: aim.world.revoke(aim.agreement, POPULATION),
    lambda aim: aim.world.revoke(aim.approval, POPULATION),
    lambda aim: aim.world.adopt(consent=True),
    lambda aim: aim.world.adopt(consent=aim.which % 2 == 1, review=aim.other == 1),
    lambda aim: aim.world.publish(
        aim.dataset.code, version=latest(aim, aim.dataset.version.digest), sharing=UNCONDITIONAL
    ),
    lambda aim: aim.step(COORDINATOR, Action.ACTION_PUBLISH, aim.dataset.object_id, digest=aim.dataset.version.digest),
    lambda aim: aim.step(COORDINATOR, Action.ACTION_EXTEND, aim.dataset.object_id, clock="catalogue.update"),
    lambda aim: aim.step(
        COORDINATOR,
        Action.ACTION_RETURN_DATASET,
        aim.dataset.object_id,
        digest=aim.dataset.version.digest,
        missing=["x"],
    ),
    lambda aim: aim.world.approve_standing(aim.dataset),
    lambda aim: aim.consent_to_answer(),
    lambda aim: aim.world.register(f"other.{aim.which}", ObjectVersion((*DISPUTES, *CORRECTIONS)[aim.which])),
    lambda aim: aim.file(),
    lambda aim: aim.file(),
    lambda aim: aim.notify(),
    lambda aim: aim.acknowledge(),
    lambda aim: aim.step(POPULATION, Action.ACTION_CORRECT, aim.correction),
    lambda aim: aim.step(POPULATION, Action.ACTION_REJECT_CORRECTION, aim.correction, text="it is right"),
)


def maps(terms: Terms) -> dict[str, dict[object, object]]:
    return {field.name: dict(getattr(terms, field.name).items()) for field in fields(terms)}


def folded(world: World, directory: Directory, stop: int, without: Collection[int] = ()) -> Directory:
    log = world.directory_log
    for index in range(directory.size, stop):
        directory, _ = directory.apply(log.leaves[index], b"" if index in without else log.bodies[index])
    return directory


def reopened(
    world: World, directory: Directory, without: Collection[int] = (), belongings: Belongings | None = None
) -> Directory:
    state = open_state(list(encode_state(directory.state))).state
    return Directory.reopened(state, LoggedBodies(world.directory_log, *without), belongings)


def indexed(world: World, directory: Directory, before: Belongings, first: int, *without: int) -> Belongings:
    """The index of a directory, out of that of an earlier one of size `first`."""
    return Belongings.of([*before, *rows_since(directory.state, LoggedBodies(world.directory_log, *without), first)])


def done(moves: list[tuple[int, int, int]]) -> World:
    world = start().copy()
    for what, which, other in moves:
        with suppress(AssertionError, KeyError, ValueError):
            MOVES[what](Aim(world, which, other))
    return world


def check_lookups(directory: Directory, whole: Directory) -> None:
    """One by one, in another order than the tables are gone through."""
    for field in reversed(fields(Terms)):
        table, expected = getattr(directory.terms, field.name), getattr(whole.terms, field.name)
        for key in sorted(expected, key=str):
            assert table.get(key) == expected[key], field.name
    for application in whole.terms.events:
        assert directory.case(application) == whole.case(application)
    for agreement in whole.terms.agreements.values():
        assert directory.stands(agreement) == whole.stands(agreement)


MOVE = st.tuples(st.integers(0, len(MOVES) - 1), st.integers(0, 3), st.integers(0, 4))


@settings(deadline=None, max_examples=50)
@given(moves=st.lists(MOVE, min_size=5, max_size=40), data=st.data())
def test_a_directory_kept_anywhere_says_what_the_whole_fold_says(
    moves: list[tuple[int, int, int]], data: st.DataObject
) -> None:
    world = done(moves)
    size, first = world.directory.size, start().directory.size
    withheld = data.draw(st.sets(st.integers(0, size - 1), max_size=4))
    # Or they were at hand while the index was made, and were erased later.
    missing = withheld if data.draw(st.booleans()) else ()
    genesis = Directory.genesis(ORIGIN, signer("root").public_key)
    whole = folded(world, genesis, size, withheld)
    directory, index, before = genesis, Belongings(), 0
    for stop in sorted(data.draw(st.sets(st.integers(first, size), min_size=1, max_size=3))):
        directory = folded(world, directory, stop, withheld)
        index = indexed(world, directory, index, before, *missing)
        directory, before = reopened(world, directory, withheld, index), stop
    directory = folded(world, directory, size, withheld)
    check_lookups(directory, whole)
    assert maps(directory.terms) == maps(whole.terms)
    assert indexed(world, directory, index, before, *missing) == indexed(world, whole, Belongings(), 0, *missing)


@settings(deadline=None, max_examples=15)
@given(moves=st.lists(MOVE, min_size=20, max_size=40), data=st.data())
def test_without_an_index_it_says_the_same(moves: list[tuple[int, int, int]], data: st.DataObject) -> None:
    world = done(moves)
    withheld = data.draw(st.sets(st.integers(0, world.directory.size - 1), max_size=4))
    whole = folded(world, Directory.genesis(ORIGIN, signer("root").public_key), world.directory.size, withheld)
    assert maps(reopened(world, whole, withheld).terms) == maps(whole.terms)


def kept(world: World, *without: int) -> tuple[Directory, LoggedBodies]:
    """The directory as it is opened with its index, and what then reads its bodies."""
    state = open_state(list(encode_state(world.directory.state))).state
    bodies = LoggedBodies(world.directory_log, *without)
    return Directory.reopened(state, bodies, indexed(world, world.directory, Belongings(), 0, *without)), bodies


def in_dispute(world: World, dispute: bytes) -> bytes:
    """The object id of a new application whose refusal is disputed."""
    application = world.apply_for(world.dataset).version.object_id
    world.do(POPULATION, Action.ACTION_REFUSE, application, text="no")
    world.step(HOUSING, Action.ACTION_OPEN_DISPUTE, dispute, about=application, text="why not?")
    return application


def test_a_dispute_stands_whatever_takes_its_id_later() -> None:
    world = start().copy()
    application = in_dispute(world, DISPUTES[0])
    assert world.case(application).stage == Stage.DISPUTED
    world.register("other.purpose", ObjectVersion(DISPUTES[0]))
    assert kept(world)[0].case(application) == world.case(application)
    assert reopened(world, world.directory).case(application) == world.case(application)


def test_a_dispute_whose_id_was_taken_before_stays_refused() -> None:
    world = start().copy()
    world.register("other.purpose", ObjectVersion(DISPUTES[0]))
    application = in_dispute(world, DISPUTES[0])
    assert world.case(application).stage == Stage.REFUSED
    assert kept(world)[0].case(application) == world.case(application)


def test_of_two_cases_the_first_alone_has_a_dispute_of_one_id() -> None:
    world = start().copy()
    first, second = in_dispute(world, DISPUTES[0]), in_dispute(world, DISPUTES[0])
    for order in ((first, second), (second, first)):
        directory, _ = kept(world)
        for application in order:
            assert directory.case(application) == world.case(application)
        assert directory.terms.disputes[DISPUTES[0]] == first


def test_who_had_no_agreement_yet_has_filed_nothing() -> None:
    world = start().copy()
    aim = Aim(world, 2, 0)
    aim.file()
    application = world.apply_for(aim.dataset, MARRIAGE)
    aim.file()
    assert not world.directory.terms.corrections
    world.grant(application)
    assert maps(kept(world)[0].terms) == maps(world.directory.terms)
    aim.file()
    assert set(world.directory.terms.corrections) == {aim.correction}
    assert maps(kept(world)[0].terms) == maps(world.directory.terms)


def test_what_is_refused_by_the_dataset_of_then_stays_refused() -> None:
    world = start().copy()
    body = world.application_body(world.dataset, fields=["name", "telephone"])
    assert world.append(world.body_draft(HOUSING, body), HOUSING).reason
    said = world.dataset.descriptor
    more = [*said.fields, Field(name="telephone", label="telephone", type=said.fields[0].type)]
    version = ObjectVersion(world.dataset.object_id, world.dataset.version.digest)
    world.publish(version=version, fields=more, sharing=UNCONDITIONAL)
    assert maps(kept(world)[0].terms) == maps(world.directory.terms)


def test_one_case_opens_without_the_others() -> None:
    world = start().copy()
    world.approve_standing(world.dataset)
    world.adopt(consent=True)
    before = world.directory.size
    for _ in range(2):
        Aim(world, 0, 0).consented()
    directory, bodies = kept(world)
    first, second = (
        [terms for terms in world.directory.terms.steps.values() if terms.about == application.version.object_id]
        for application in world.directory.terms.applications.values()
        if application.version.index >= before
    )
    assert len(first) == len(second) == 2
    assert directory.case(first[0].about) == world.case(first[0].about)
    assert {terms.version.index for terms in first} <= set(bodies.asked)
    assert not {terms.version.index for terms in second} & set(bodies.asked)
    assert len(bodies.asked) == len(set(bodies.asked))


def test_a_correction_opens_without_the_cases_of_others() -> None:
    world = start().copy()
    other = world.grant(world.apply_for(world.dataset, MARRIAGE))
    aim = Aim(world, 0, 1)
    aim.file()
    assert world.directory.terms.corrections
    directory, bodies = kept(world)
    assert directory.terms.corrections[aim.correction] == aim.known
    assert other.version.index not in bodies.asked


def test_what_is_not_at_hand_is_not_asked_for() -> None:
    world = start().copy()
    application = world.apply_for(world.dataset)
    step = world.do(POPULATION, Action.ACTION_REFUSE, application.version.object_id, text="no")
    directory, bodies = kept(world, step.index)
    assert [version.digest for version in directory.steps_lacking()] == [step.digest]
    assert step.index not in bodies.asked


def test_nothing_is_found_under_a_name_of_another_length() -> None:
    """Bodies name what they like: an agreement an application of five bytes, say."""
    directory, _ = kept(start())
    for name in (b"", b"five.", bytes(33), bytes(47)):
        for table in (directory.state.versions, directory.state.objects, directory.state.histories):
            assert table.get(name) is None
        for terms in (directory.terms.agreements, directory.terms.events, directory.terms.corrections):
            assert name not in terms


# The index.

KEYS = st.builds(
    lambda kind, number: bytes((kind,)) + bytes(15) + bytes((number,)), st.integers(1, 3), st.integers(0, 3)
)
ROWS = st.lists(st.builds(lambda key, index: key + index.to_bytes(INDEX, "big"), KEYS, st.integers(0, 9)))


@given(ROWS, KEYS)
def test_an_index_finds_every_row_and_no_other(rows: list[bytes], key: bytes) -> None:
    index = Belongings.of(rows)
    assert set(index) == set(rows)
    assert index.about(key) == sorted({int.from_bytes(row[KEY:], "big") for row in rows if row[:KEY] == key})
    assert index.about(key[:-1]) == index.about(key + b"0") == []
    assert list(index.keys(key[:1])) == sorted({row[:KEY] for row in rows if row[:1] == key[:1]})
    assert [place for place, mark in enumerate(index.marks(5)) if mark] == sorted(
        {int.from_bytes(row[KEY:], "big") for row in rows} & set(range(5))
    )


def test_a_body_that_is_not_the_one_that_was_signed_has_no_rows() -> None:
    world = start()
    indexes = [record.index for record in world.directory.state.records() if isinstance(record, Version)]
    bodies = {index: world.directory_log.bodies[index] for index in indexes}
    assert len(set(rows_of(world.directory.state, bodies))) >= 6
    others = {index: bytes(40) for index, body in bodies.items() if body}
    of_cases = [row for row in rows_of(world.directory.state, others) if row[:KEY] != CATALOGUE_KEY]
    assert of_cases == []
