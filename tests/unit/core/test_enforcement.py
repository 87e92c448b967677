"""Every term of an agreement has a name that an adapter says it enforces, and none is forgotten."""

from typing import Any

import pytest

from exchange.core.enforcement import OF_HOST, OF_SOURCE, TERMS, terms_of, terms_of_draft
from exchange.v1.directory_pb2 import Agreement
from exchange.v1.request_pb2 import Filter, NullTest
from exchange.v1.terms_pb2 import Hours, KeyedHash, Limits, Mask, YearOnly
from tests.world import World

CASES: list[tuple[dict[str, Any], set[str]]] = [
    ({}, set()),
    ({"masks": [Mask(field="name", first=1)]}, {"mask.first"}),
    ({"masks": [Mask(field="name", last=1)]}, {"mask.last"}),
    ({"masks": [Mask(field="birth_date", year_only=YearOnly())]}, {"mask.year_only"}),
    (
        {"masks": [Mask(field="name", hash=KeyedHash()), Mask(field="address", first=3)]},
        {"mask.hash", "mask.first"},
    ),
    ({"row_filter": Filter(null_test=NullTest(field="name"))}, {"row_filter"}),
    ({"officers": ["officer-7"]}, {"officers"}),
    ({"hours": Hours(zone="Asia/Shanghai", weekdays=[1], opens=0, closes=9)}, {"hours"}),
    ({"limits": Limits(per_minute=1)}, {"limits.per_minute"}),
    ({"limits": Limits(per_day=1, in_total=2)}, {"limits.per_day", "limits.in_total"}),
    ({"limits": Limits(rows=1)}, {"limits.rows"}),
    ({"review_at": 1_900_000_000_000}, {"review_at"}),
    ({"retention_days": 30}, set()),
]


@pytest.mark.parametrize(("changes", "terms"), CASES)
def test_a_term_is_named_before_and_after_it_is_signed(changes: dict[str, Any], terms: set[str]) -> None:
    assert terms_of_draft(Agreement(**changes)) == terms
    world = World.standard()
    application = world.apply_for(world.dataset, fields=["name", "address", "birth_date"])
    assert terms_of(world.grant(application, **changes)) == terms


def test_all_names_are_reached() -> None:
    assert set().union(*(terms for _, terms in CASES)) == TERMS
    assert OF_SOURCE.isdisjoint(OF_HOST)


# What an agreement grants, and what only the requester promises; everything else restricts.
GRANTS = {
    "format", "dataset", "grantee", "application", "operations", "fields", "filterable", "purposes", "not_before",
    "not_after", "retention_days",
}  # fmt: skip


def test_no_field_of_an_agreement_is_without_a_name() -> None:
    """Whoever adds a restriction to the contract names it here too, or no adapter could say that it lacks it."""
    restricting = {field.name for field in Agreement.DESCRIPTOR.fields} - GRANTS
    assert restricting == {"row_filter", "masks", "officers", "hours", "limits", "review_at"}
    assert {rule.name for rule in Mask.DESCRIPTOR.oneofs_by_name["rule"].fields} == {
        term.removeprefix("mask.") for term in TERMS if term.startswith("mask.")
    }
