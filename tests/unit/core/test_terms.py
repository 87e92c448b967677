"""A body gives rights only when it belongs to its entry and fits the objects it names."""

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.directory import Directory
from exchange.core.entries import Body, ObjectVersion
from exchange.core.errors import CoreError
from exchange.core.names import Party
from exchange.core.opening import open_terms
from exchange.core.terms import Terms, TermsError
from exchange.core.wire import MAX_TIME
from exchange.v1.directory_pb2 import Agreement, Application, Dataset, Field, FieldType
from exchange.v1.request_pb2 import Comparator, Comparison, Filter, NullTest, Value
from tests.corruption import anything
from tests.drafts import entry_draft
from tests.memory import fixed, signer
from tests.world import (
    APPLICATIONS,
    CIVIL_AFFAIRS,
    COORDINATOR,
    FIELDS,
    GRANTED,
    HOUSING,
    LOOKUP,
    MARRIAGE,
    ORIGIN,
    POPULATION,
    PURPOSE,
    QUERY,
    REGISTRY,
    START,
    YEAR,
    World,
)

TEXT, DECIMAL = FieldType.FIELD_TYPE_TEXT, FieldType.FIELD_TYPE_DECIMAL


@pytest.fixture
def world() -> World:
    return World.standard()


def dataset(**changes: Any) -> Dataset:
    """A dataset of households, right but for the changes."""
    fields = {
        "format": 1,
        "code": "households",
        "title": "户籍",
        "system": str(REGISTRY),
        "fields": [Field(name="household_id", type=TEXT), Field(name="area_m2", type=DECIMAL)],
        "key": "household_id",
        "operations": [LOOKUP],
        "filterable": ["area_m2"],
    }
    return Dataset(**(fields | changes))


def application(world: World, **changes: Any) -> Application:
    """An application of housing for residents, right but for the changes."""
    fields = {
        "format": 1,
        "dataset": world.dataset.object_id,
        "grantee": str(APPLICATIONS),
        "operations": [LOOKUP, QUERY],
        "fields": GRANTED,
        "filterable": ["area_m2"],
        "purposes": [PURPOSE],
        "not_after": START + YEAR,
    }
    return Application(**(fields | changes))


def agreement(world: World, **changes: Any) -> Agreement:
    """What the registry's department grants of the standard application, right but for the changes."""
    fields = {
        "format": 1,
        "dataset": world.dataset.object_id,
        "grantee": str(APPLICATIONS),
        "application": world.agreement.application,
        "operations": [LOOKUP, QUERY],
        "fields": GRANTED,
        "filterable": ["area_m2"],
        "purposes": [PURPOSE],
        "not_before": START,
        "not_after": START + YEAR,
    }
    return Agreement(**(fields | changes))


def refused(world: World, body: Body, owner: Party, reason: str, version: ObjectVersion | None = None) -> None:
    """The leaf is folded, the body gives no rights, for this reason."""
    before = world.directory
    applied = world.append(world.body_draft(owner, body, version), owner)
    assert reason in applied.reason
    assert world.directory.terms == before.terms
    assert applied.digest in world.directory.state.versions


def accepted(world: World, body: Body, owner: Party, version: ObjectVersion | None = None) -> bytes:
    """The entry and its body hold."""
    applied = world.append(world.body_draft(owner, body, version), owner)
    assert not applied.reason
    return applied.digest


# --- the body belongs to its entry -------------------------------------------------------------------


def test_a_body_is_the_one_that_was_signed(world: World) -> None:
    version, body = world.agreement.version, world.directory_log.bodies[-1]
    assert open_terms(world.directory.state, world.directory.terms, version, body).agreements[version.digest]
    for other in (b"", body[:-1], body + b"\0", bytes(32) + body[32:], world.directory_log.bodies[-2]):
        with pytest.raises(TermsError, match="not the one that was signed"):
            open_terms(world.directory.state, world.directory.terms, version, other)


@pytest.mark.parametrize("size", [0, 31])
def test_a_body_begins_with_its_salt(world: World, size: int) -> None:
    body = bytes(size)
    draft = entry_draft(world, POPULATION, "DATASET", body_sha256=hashlib.sha256(body).digest())
    digest = world.append(draft, POPULATION).digest
    state = world.directory.state
    with pytest.raises(TermsError, match="32 bytes of salt"):
        open_terms(state, Terms(), state.versions[digest], body)


def test_salt_alone_is_no_body(world: World) -> None:
    draft = entry_draft(world, POPULATION, "DATASET", body_sha256=hashlib.sha256(bytes(32)).digest())
    digest = world.append(draft, POPULATION).digest
    with pytest.raises(CoreError, match="format 0"):
        open_terms(world.directory.state, Terms(), world.directory.state.versions[digest], bytes(32))


STANDARD = World.standard()
BODIES = [body[32:] for body in STANDARD.directory_log.bodies if body]


@given(st.sampled_from(["DATASET", "APPLICATION", "AGREEMENT"]), anything(*BODIES))
def test_any_body_is_opened_or_refused(kind: str, body: bytes) -> None:
    world = STANDARD.copy()
    attachment = fixed("salt") + body
    owner = HOUSING if kind == "APPLICATION" else POPULATION
    draft = entry_draft(world, owner, kind, body_sha256=hashlib.sha256(attachment).digest())
    digest = world.append(draft, owner).digest
    state, before = world.directory.state, world.directory.terms
    try:
        terms = open_terms(state, before, state.versions[digest], attachment)
    except CoreError:
        return
    assert terms != before


# --- datasets ----------------------------------------------------------------------------------------


def test_a_dataset_is_known_by_its_code_and_id(world: World) -> None:
    digest = accepted(world, dataset(abstract="all"), POPULATION)
    found = world.directory.dataset_named(str(POPULATION), "households")
    assert found is not None
    assert (found.version.digest, found.code, found.title, found.abstract) == (digest, "households", "户籍", "all")
    assert (found.system, found.key, found.operations) == (REGISTRY, "household_id", {LOOKUP})
    assert (found.types, found.filterable) == ({"household_id": TEXT, "area_m2": DECIMAL}, {"area_m2"})
    assert world.directory.dataset(found.object_id) == found


DATASETS: list[tuple[str, dict[str, Any], str]] = [
    ("another department's system", {"system": str(MARRIAGE)}, "does not lie under"),
    ("the department itself", {"system": str(POPULATION)}, "does not lie under"),
    ("a department with a longer name", {"system": f"exchange://{ORIGIN}/population-2/a"}, "does not lie under"),
    ("another exchange's system", {"system": "exchange://town.example/population/registry"}, "does not lie under"),
    ("no system", {"system": ""}, "not a party's name"),
    ("no code", {"code": ""}, "a code and a title"),
    ("a code of another form", {"code": "House holds"}, "a code and a title"),
    ("a code in use", {"code": "residents"}, "another dataset with the code"),
    ("no title", {"title": ""}, "a code and a title"),
    ("a title of 2,001 characters", {"title": "字" * 2001}, "a code and a title"),
    ("no field", {"fields": [], "filterable": []}, "1 to 500 fields"),
    ("a field twice", {"fields": [Field(name="household_id", type=TEXT)] * 2}, "1 to 500 fields"),
    ("501 fields", {"fields": [Field(name=f"f{n}", type=TEXT) for n in range(501)]}, "1 to 500 fields"),
    ("a field of another form", {"fields": [Field(name="Household", type=TEXT)]}, "no valid name or no type"),
    ("a field without a type", {"fields": [Field(name="household_id")]}, "no valid name or no type"),
    ("a field of a later type", {"fields": [Field(name="a", type=6)]}, "number that this version does not know"),
    ("no key", {"key": ""}, "key is not a field"),
    ("a key that is no field", {"key": "id_number"}, "key is not a field"),
    ("no operation", {"operations": []}, "at least one operation"),
    ("an unspecified operation", {"operations": [LOOKUP, 0]}, "at least one operation"),
    ("an operation twice", {"operations": [LOOKUP, LOOKUP]}, "each operation is named once"),
    ("a later operation", {"operations": [3]}, "number that this version does not know"),
    ("a filterable field twice", {"filterable": ["area_m2"] * 2}, "each filterable field is named once"),
    ("a filterable field of nowhere", {"filterable": ["name"]}, "no field 'name'"),
    ("a later format", {"format": 2}, "format 2"),
]


@pytest.mark.parametrize(("changes", "reason"), [d[1:] for d in DATASETS], ids=[d[0] for d in DATASETS])
def test_refuses_a_dataset_with(world: World, changes: dict[str, Any], reason: str) -> None:
    refused(world, dataset(**changes), POPULATION, reason)


def test_a_dataset_has_up_to_500_fields_and_a_title_of_2000_characters(world: World) -> None:
    fields = [Field(name=f"f{number}", type=TEXT) for number in range(500)]
    accepted(world, dataset(fields=fields, key="f0", filterable=[], title="字" * 2000), POPULATION)


def test_two_departments_may_use_one_code(world: World) -> None:
    accepted(world, dataset(code="residents", system=str(MARRIAGE)), CIVIL_AFFAIRS)
    found = [world.directory.dataset_named(str(owner), "residents") for owner in (POPULATION, CIVIL_AFFAIRS)]
    assert [terms and terms.version.owner for terms in found] == [POPULATION, CIVIL_AFFAIRS]


def test_the_next_version_of_a_dataset_takes_its_place(world: World) -> None:
    before = world.dataset
    version = ObjectVersion(before.object_id, before.version.digest)
    digest = accepted(world, dataset(code="residents", title="v2"), POPULATION, version)
    assert (world.dataset.version.digest, world.dataset.title) == (digest, "v2")
    assert world.dataset.object_id == before.object_id


def test_a_dataset_whose_next_version_is_not_valid_gives_no_rights(world: World) -> None:
    before = world.dataset
    version = ObjectVersion(before.object_id, before.version.digest)
    refused(world, dataset(code="residents", title=""), POPULATION, "a code and a title", version)
    assert world.directory.dataset(before.object_id) is None
    assert world.directory.dataset_named(str(POPULATION), "residents") is None


# --- applications ------------------------------------------------------------------------------------


def test_an_application_says_what_is_asked_for(world: World) -> None:
    body = application(world, legal_basis="Housing Act", scenario="queue")
    digest = accepted(world, body, HOUSING)
    terms = world.directory.terms.applications[digest]
    assert (terms.dataset, terms.grantee) == (world.dataset.object_id, APPLICATIONS)
    assert (terms.operations, terms.fields) == ({LOOKUP, QUERY}, GRANTED)
    assert (terms.filterable, terms.purposes) == ({"area_m2"}, {PURPOSE})
    assert (terms.legal_basis, terms.scenario, terms.not_after) == ("Housing Act", "queue", START + YEAR)


GRANTS: list[tuple[str, dict[str, Any], str]] = [
    ("an unknown dataset", {"dataset": bytes(16)}, "dataset is not known here"),
    ("no grantee", {"grantee": ""}, "not a party's name"),
    ("no operation", {"operations": []}, "at least one operation"),
    ("an operation twice", {"operations": [LOOKUP, LOOKUP]}, "each operation is named once"),
    ("no field", {"fields": []}, "at least one field"),
    ("a field twice", {"fields": ["name", "name"]}, "each field is named once"),
    ("a filterable field twice", {"filterable": ["area_m2"] * 2}, "each filterable field is named once"),
    ("no purpose", {"purposes": []}, "at least one purpose"),
    ("a purpose twice", {"purposes": [PURPOSE, PURPOSE]}, "at least one purpose"),
    ("a later format", {"format": 2}, "format 2"),
]
ASKED: list[tuple[str, dict[str, Any], str]] = [
    *GRANTS,
    ("an unspecified operation", {"operations": [0]}, "at least one operation"),
    ("another department", {"grantee": str(MARRIAGE)}, "cannot apply for"),
    ("a department with a longer name", {"grantee": f"exchange://{ORIGIN}/housing-2"}, "cannot apply for"),
    ("the exchange", {"grantee": f"exchange://{ORIGIN}"}, "cannot apply for"),
    ("a field of nowhere", {"fields": ["name", "mother", "father"]}, "no field 'mother'"),
    ("a filterable field of nowhere", {"filterable": ["mother"]}, "no field 'mother'"),
    ("a field that filters may not use", {"filterable": ["name"]}, "does not offer this field for filters"),
    ("an unregistered purpose", {"purposes": [PURPOSE, "housing.sale"]}, "'housing.sale' is not registered"),
]


@pytest.mark.parametrize(("changes", "reason"), [a[1:] for a in ASKED], ids=[a[0] for a in ASKED])
def test_refuses_an_application_with(world: World, changes: dict[str, Any], reason: str) -> None:
    refused(world, application(world, **changes), HOUSING, reason)


def test_refuses_an_application_for_an_operation_that_is_not_offered(world: World) -> None:
    body = application(world, dataset=world.publish("households", operations=[LOOKUP]).object_id)
    refused(world, body, HOUSING, "does not offer this operation")


def test_a_department_applies_for_itself_or_a_system_without_a_key(world: World) -> None:
    for grantee in (HOUSING, Party(ORIGIN, "housing", "planned")):
        accepted(world, application(world, grantee=str(grantee)), HOUSING)


def test_refuses_an_application_for_a_revoked_purpose(world: World) -> None:
    body = application(world)
    world.revoke(world.directory.state.purposes[PURPOSE], COORDINATOR)
    refused(world, body, HOUSING, "is not registered")


# --- agreements --------------------------------------------------------------------------------------


def test_an_agreement_says_what_is_granted(world: World) -> None:
    only_large = Filter(null_test=NullTest(field="household_id"))
    body = agreement(world, fields=["name"], operations=[LOOKUP], filterable=[], row_filter=only_large)
    digest = accepted(world, body, POPULATION)
    terms = world.directory.agreement(digest)
    assert terms is not None
    assert (terms.digest, terms.dataset, terms.grantee) == (digest, world.dataset.object_id, APPLICATIONS)
    assert (terms.operations, terms.fields, terms.filterable) == ({LOOKUP}, ("name",), frozenset())
    assert (terms.purposes, terms.row_filter) == ({PURPOSE}, only_large)
    assert (terms.not_before, terms.not_after) == (START, START + YEAR)


GRANTED_FAULTS: list[tuple[str, dict[str, Any], str]] = [
    *GRANTS,
    ("no application", {"application": b""}, "answers no application"),
    ("an unknown application", {"application": bytes(32)}, "answers no application"),
    ("another grantee", {"grantee": str(HOUSING)}, "answers no application"),
    ("a neighbour", {"grantee": f"exchange://{ORIGIN}/housing/other"}, "answers no application"),
    ("a field not asked for", {"fields": ["name", "birth_date"]}, "more than its application"),
    ("a filter not asked for", {"filterable": ["birth_date"]}, "more than its application"),
    ("a purpose not asked for", {"purposes": [PURPOSE, "a.b"]}, "more than its application"),
    ("a term that ends as it begins", {"not_before": START, "not_after": START}, "term is empty"),
    ("a term that ends before", {"not_after": START - 1}, "term is empty"),
    ("a term beyond the calendar", {"not_after": MAX_TIME + 1}, "beyond the year 9999"),
]


@pytest.mark.parametrize(("changes", "reason"), [g[1:] for g in GRANTED_FAULTS], ids=[g[0] for g in GRANTED_FAULTS])
def test_refuses_an_agreement_with(world: World, changes: dict[str, Any], reason: str) -> None:
    refused(world, agreement(world, **changes), POPULATION, reason)


def test_an_agreement_may_last_one_millisecond(world: World) -> None:
    accepted(world, agreement(world, not_after=START + 1), POPULATION)


def test_refuses_an_agreement_by_another_department(world: World) -> None:
    for owner in (HOUSING, CIVIL_AFFAIRS):
        refused(world, agreement(world), owner, "does not own the dataset")


def test_refuses_an_operation_that_was_not_asked_for(world: World) -> None:
    asked = world.apply_for(world.dataset, operations=[LOOKUP])
    refused(world, agreement(world, application=asked.version.digest), POPULATION, "more than its application")


def test_refuses_an_application_for_another_dataset(world: World) -> None:
    asked = world.apply_for(world.publish("households"))
    refused(world, agreement(world, application=asked.version.digest), POPULATION, "answers no application")


def test_refuses_an_application_that_was_withdrawn(world: World) -> None:
    asked = world.apply_for(world.dataset)
    world.revoke(asked.version.digest, HOUSING)
    refused(world, agreement(world, application=asked.version.digest), POPULATION, "withdrawn or superseded")


def test_refuses_an_application_that_was_superseded(world: World) -> None:
    asked = world.apply_for(world.dataset)
    later = ObjectVersion(asked.version.object_id, asked.version.digest)
    newer = accepted(world, application(world, fields=["name"]), HOUSING, later)
    refused(world, agreement(world, application=asked.version.digest), POPULATION, "withdrawn or superseded")
    accepted(world, agreement(world, application=newer, fields=["name"]), POPULATION)


def test_an_agreement_outlives_its_application(world: World) -> None:
    world.revoke(world.agreement.application, HOUSING)
    assert world.directory.stands(world.agreement)


def test_refuses_what_the_dataset_offers_no_more(world: World) -> None:
    before = world.dataset
    version = ObjectVersion(before.object_id, before.version.digest)
    fields = [Field(name=name, type=kind) for name, kind in FIELDS.items() if name != "address"]
    world.publish(version=version, fields=fields, operations=[LOOKUP], filterable=["area_m2"])
    refused(world, agreement(world), POPULATION, "no field 'address'")
    kept = [name for name in GRANTED if name != "address"]
    refused(world, agreement(world, fields=kept), POPULATION, "does not offer this operation")
    accepted(world, agreement(world, fields=kept, operations=[LOOKUP]), POPULATION)


ROW_FILTERS: list[tuple[str, Filter, str]] = [
    ("an unknown field", Filter(null_test=NullTest(field="mother")), "the row filter"),
    ("nothing in it", Filter(), "the row filter"),
    (
        "a value of another type",
        Filter(comparison=Comparison(field="name", comparator=1, value=Value(integer=1))),
        "row",
    ),
    ("a later comparator", Filter(comparison=Comparison(field="name", comparator=7)), "does not know"),
]


@pytest.mark.parametrize(("row_filter", "reason"), [r[1:] for r in ROW_FILTERS], ids=[r[0] for r in ROW_FILTERS])
def test_refuses_a_row_filter_with(world: World, row_filter: Filter, reason: str) -> None:
    refused(world, agreement(world, row_filter=row_filter), POPULATION, reason)


def test_a_row_filter_may_use_fields_that_the_grantee_never_sees(world: World) -> None:
    name = Comparison(field="birth_date", comparator=Comparator.COMPARATOR_LESS, value=Value(date="2000-01-01"))
    accepted(world, agreement(world, row_filter=Filter(comparison=name)), POPULATION)


def test_without_the_datasets_body_an_agreement_gives_no_rights(world: World) -> None:
    blind = Directory.genesis(ORIGIN, signer("root").public_key)
    for leaf, body, entry in zip(world.directory_log.leaves, world.directory_log.bodies, world.entries, strict=True):
        blind, _ = blind.apply(leaf, b"" if entry.digest == world.dataset.version.digest else body)
    assert (blind.state, blind.terms) == (world.directory.state, Terms())
