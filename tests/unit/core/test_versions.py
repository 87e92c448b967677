from collections.abc import Callable

import pytest

from exchange.core.descriptor import DescriptorError, check_descriptor
from exchange.core.terms import AgreementTerms
from exchange.core.versions import broken_agreements, changes
from exchange.v1.catalogue_pb2 import CodeValue, Overlap, Sharing, SharingClass
from exchange.v1.directory_pb2 import Dataset, Field, FieldType
from tests.world import DAY, HOUSING, LOOKUP, POPULATION, PURPOSE, QUERY, World

CONDITIONAL = SharingClass.SHARING_CLASS_CONDITIONAL
NOT_SHARED = SharingClass.SHARING_CLASS_NOT_SHARED


def later(world: World, change: Callable[[Dataset], object] = lambda _dataset: None) -> Dataset:
    dataset = Dataset()
    dataset.CopyFrom(world.dataset.descriptor)
    change(dataset)
    return dataset


def drop(name: str) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        kept = [field for field in dataset.fields if field.name != name]
        del dataset.fields[:]
        dataset.fields.extend(kept)

    return change


def retype(name: str, kind: FieldType.ValueType) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        next(field for field in dataset.fields if field.name == name).type = kind

    return change


def offers(*operations: int) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        dataset.operations[:] = operations

    return change


def filters(*names: str) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        dataset.filterable[:] = names

    return change


def shares(sharing: Sharing) -> Callable[[Dataset], None]:
    return lambda dataset: dataset.sharing.CopyFrom(sharing)


# What is changed, what is said of it, and whether it breaks the standard agreement: LOOKUP and QUERY of granted fields,
# filtered by area_m2, for one purpose.
CHANGES = [
    (drop("address"), "the field address is gone", True),
    (drop("birth_date"), "the field birth_date is gone", False),
    (retype("area_m2", FieldType.FIELD_TYPE_INTEGER), "the type of area_m2 goes from decimal to integer", True),
    (filters("birth_date"), "area_m2 can no longer be filtered by", True),
    (filters("area_m2"), "birth_date can no longer be filtered by", False),
    (offers(LOOKUP), "QUERY is no longer offered", True),
    (lambda dataset: dataset.fields.add(name="new", type=1), "the field new is new", False),
    (lambda dataset: setattr(dataset, "key", "name"), "the key goes from id_number to name", True),
    (lambda dataset: setattr(dataset, "system", f"{POPULATION}/other"), f"{POPULATION}/other answers", False),
    (shares(Sharing(sharing_class=NOT_SHARED)), "it is no longer shared", True),
    (shares(Sharing(sharing_class=CONDITIONAL, purposes=["other"])), "it is shared for other alone", True),
    (shares(Sharing(sharing_class=CONDITIONAL, purposes=[PURPOSE])), f"it is shared for {PURPOSE} alone", False),
]


@pytest.mark.parametrize(("change", "text", "breaks"), CHANGES, ids=[text for _, text, _ in CHANGES])
def test_a_change_breaks_the_agreements_that_rest_on_what_it_takes(
    change: Callable[[Dataset], object], text: str, breaks: bool
) -> None:
    world = World.standard()
    after = later(world, change)
    assert any(found.text.startswith(text) for found in changes(world.dataset, after))
    broken = broken_agreements(world.directory, world.dataset, after, world.now)
    assert [item.agreement for item in broken] == ([world.agreement] if breaks else [])


def test_the_same_again_changes_nothing() -> None:
    world = World.standard()
    assert changes(world.dataset, later(world)) == ()
    assert broken_agreements(world.directory, world.dataset, later(world), world.now) == ()


def test_breaking_changes_come_first() -> None:
    world = World.standard()

    def both(dataset: Dataset) -> None:
        dataset.fields.add(name="another", type=1)
        drop("address")(dataset)

    assert [found.breaking for found in changes(world.dataset, later(world, both))] == [True, False]


@pytest.mark.parametrize("end", ["revoked", "over"])
def test_an_agreement_that_has_ended_is_not_broken(end: str) -> None:
    world = World.standard()
    agreement: AgreementTerms = world.agreement
    if end == "revoked":
        world.revoke(agreement.digest, POPULATION)
    else:
        world.now = agreement.not_after + DAY
    assert broken_agreements(world.directory, world.dataset, later(world, drop("address")), world.now) == ()


FAULTS: list[tuple[str, Callable[[Dataset], object], str]] = [
    ("a long English title", lambda d: setattr(d, "title_en", "x" * 2001), "title_en"),
    ("an empty keyword", lambda d: d.keywords.append(""), "keywords"),
    ("a keyword twice", lambda d: d.keywords.extend(["a", "a"]), "keywords"),
    ("more keywords than fit", lambda d: d.keywords.extend(map(str, range(51))), "keywords"),
    ("a theme that is no code", lambda d: setattr(d, "theme", "Population"), "theme"),
    ("an unknown frequency", lambda d: setattr(d, "update_frequency", "NIGHTLY"), "update_frequency"),
    ("a short id of a related dataset", lambda d: d.related.append(b"short"), "related"),
    ("conditions of nothing", lambda d: d.sharing.conditions.append("a"), "sharing"),
    ("conditional without purposes", shares(Sharing(sharing_class=CONDITIONAL, conditions=["a"])), "sharing"),
    ("conditional without conditions", shares(Sharing(sharing_class=CONDITIONAL, purposes=["a"])), "sharing"),
    (
        "a purpose that is no code",
        shares(Sharing(sharing_class=CONDITIONAL, conditions=["a"], purposes=["A b"])),
        "sharing",
    ),
    ("not shared without a reason", shares(Sharing(sharing_class=NOT_SHARED, legal_basis="a")), "sharing"),
    ("not shared without a law", shares(Sharing(sharing_class=NOT_SHARED, reason="a")), "sharing"),
    ("seers of what everybody sees", lambda d: d.visible_to.append(str(HOUSING)), "visible_to"),
    ("a sensitivity past the scale", lambda d: setattr(d.fields[0], "sensitivity", 5), "sensitivity"),
    ("an element with a space", lambda d: setattr(d.fields[0], "element", "a b"), "element"),
    ("a code twice", lambda d: d.fields[0].codes.extend([CodeValue(code="1"), CodeValue(code="1")]), "codes"),
    ("an empty code", lambda d: d.fields[0].codes.append(CodeValue()), "codes"),
    ("an overlap with nothing", lambda d: d.overlaps.append(Overlap()), "overlaps"),
    (
        "an overlap without a justification",
        lambda d: d.overlaps.append(Overlap(dataset=bytes(16), fields=["name"], source=str(HOUSING))),
        "overlaps",
    ),
    (
        "an overlap whose source is a system",
        lambda d: d.overlaps.append(
            Overlap(dataset=bytes(16), fields=["name"], source=f"{HOUSING}/a", justification="a")
        ),
        "overlaps",
    ),
]


@pytest.mark.parametrize(("change", "key"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS])
def test_a_descriptor_is_refused_with(change: Callable[[Dataset], object], key: str) -> None:
    world = World.standard()
    with pytest.raises(DescriptorError, match=f"^{key}: "):
        check_descriptor(later(world, change), POPULATION)


@pytest.mark.parametrize("name", ["exchange://other.example/housing", "housing", "exchange://city.example"])
def test_who_may_see_a_restricted_dataset_is_named_as_parties_are(name: str) -> None:
    dataset = Dataset(restricted=True, visible_to=[name], fields=[Field(name="a", type=1)])
    with pytest.raises(DescriptorError, match=r"^visible_to: "):
        check_descriptor(dataset, POPULATION)


def test_nobody_is_granted_what_is_not_shared() -> None:
    world = World.standard()
    sharing = Sharing(sharing_class=NOT_SHARED, reason="secret", legal_basis="Secrets Act")
    dataset = world.publish("secrets", sharing=sharing)
    application = world.apply_for(dataset)
    with pytest.raises(AssertionError, match="says that it is not shared"):
        world.grant(application)


@pytest.mark.parametrize("operations", [[LOOKUP, QUERY]])
def test_a_conditional_dataset_is_for_its_own_purposes_alone(operations: list[int]) -> None:
    world = World.standard()
    world.register("other.purpose")
    sharing = Sharing(sharing_class=CONDITIONAL, conditions=["within the city"], purposes=["other.purpose"])
    dataset = world.publish("conditional", sharing=sharing, operations=operations)
    with pytest.raises(AssertionError, match=r"shared for other\.purpose alone"):
        world.apply_for(dataset)
    assert world.grant(world.apply_for(dataset, purposes=["other.purpose"])).purposes == {"other.purpose"}
