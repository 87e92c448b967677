from collections import defaultdict
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, text

from examples.city.databases import FILL
from examples.city.identity_numbers import birth_date, identity_number, is_identity_number, sex
from examples.city.population import generate_city
from examples.city.records import City, Resident
from examples.city.registrar import MINIMUM_AGE, Marriage, years_after


@pytest.fixture(scope="module", params=[1, 20_260_101])
def city(request: pytest.FixtureRequest) -> City:
    return generate_city(request.param)


@pytest.fixture(scope="module")
def registry(city: City) -> dict[str, Resident]:
    return {resident.id_number: resident for resident in city.residents}


@pytest.fixture(scope="module")
def databases(city: City, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    """Read all three departments' databases through one connection, each under its department's name."""
    folder = tmp_path_factory.mktemp("city")
    for department, fill in FILL.items():
        source = create_engine(f"sqlite:///{folder / department}")
        fill(source, city)
        source.dispose()
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        for department in FILL:
            name = department.replace("-", "_")
            connection.exec_driver_sql(f"ATTACH '{folder / department}' AS {name}")
        yield connection
    engine.dispose()


@pytest.mark.parametrize("number", ["11010519491231002X", "440524188001010014"])
def test_accepts_the_examples_of_the_standard(number: str) -> None:
    assert is_identity_number(number)


@pytest.mark.parametrize(
    "number",
    [
        "",
        "110105194912310021",
        "11010519491231002x",
        "1101051949123100２X",
        "11010519491231002X\n",
        "11010519491331002X",
    ],
)
def test_rejects_what_is_no_identity_number(number: str) -> None:
    assert not is_identity_number(number)


@given(st.dates(date(1900, 1, 1), date(2099, 12, 31)), st.integers(1, 999), st.integers(0, 16), st.integers(1, 9))
def test_one_wrong_digit_is_always_noticed(born: date, sequence: int, position: int, change: int) -> None:
    number = identity_number("339801", born, sequence)
    wrong = str((int(number[position]) + change) % 10)
    assert is_identity_number(number)
    assert not is_identity_number(number[:position] + wrong + number[position + 1 :])


def test_the_same_seed_makes_the_same_city(city: City) -> None:
    assert generate_city(city.seed) == city


def test_another_seed_makes_another_city(city: City) -> None:
    assert generate_city(city.seed + 1).residents != city.residents


@pytest.mark.parametrize("residents", [1, 50])
def test_a_small_city_can_be_made(residents: int) -> None:
    assert len(generate_city(3, residents).residents) >= residents


def test_at_least_two_thousand_residents_live_there(city: City) -> None:
    assert sum(resident.status == "registered" for resident in city.residents) >= 2_000


def test_identity_numbers_are_valid_unique_and_tell_birth_and_sex(city: City) -> None:
    for resident in city.residents:
        assert is_identity_number(resident.id_number)
        assert birth_date(resident.id_number) == resident.birth_date
        assert sex(resident.id_number) == resident.sex
    assert len({resident.id_number for resident in city.residents}) == len(city.residents)


def test_names_are_chinese(city: City) -> None:
    for resident in city.residents:
        assert 2 <= len(resident.name) <= 4
        assert all("\u4e00" <= character <= "\u9fff" for character in resident.name)
    assert any(resident.name.startswith(("欧阳", "上官", "司马", "诸葛")) for resident in city.residents)


def test_nothing_is_later_than_the_day_of_the_records(city: City) -> None:
    days = [resident.birth_date for resident in city.residents]
    days += [resident.registered_on for resident in city.residents]
    days += [marriage.ended_on or marriage.registered_on for marriage in city.marriages]
    days += [dwelling.registered_on for dwelling in city.dwellings]
    assert max(days) <= city.as_of


def test_every_household_has_one_head_and_one_address(city: City) -> None:
    for household in city.households:
        assert [member.household_role for member in household.members].count("head") == 1
        assert {member.address for member in household.members} == {household.address}
        assert {member.household_id for member in household.members} == {household.household_id}
    assert len({household.address for household in city.households}) == len(city.households)


def test_parents_are_20_to_45_years_older_than_their_children(city: City) -> None:
    for elder, younger in parents_and_children(city):
        assert years_after(elder.birth_date, 20) <= younger.birth_date <= years_after(elder.birth_date, 45)


def parents_and_children(city: City) -> Iterator[tuple[Resident, Resident]]:
    for household in city.households:
        members = defaultdict(list)
        for member in household.members:
            members[member.household_role].append(member)
        yield from ((elder, child) for elder in members["head"] + members["spouse"] for child in members["child"])
        yield from ((elder, members["head"][0]) for elder in members["parent"])


def test_children_bear_their_fathers_or_mothers_surname(city: City) -> None:
    surnames: dict[str, set[str]] = defaultdict(set)
    for marriage in city.marriages:
        for person in (marriage.husband, marriage.wife):
            surnames[person.id_number] |= {marriage.husband.surname, marriage.wife.surname}
    for household in city.households:
        children = [member for member in household.members if member.household_role == "child"]
        parents = [member for member in household.members if member.household_role == "head"]
        for child in children:
            assert child.name.startswith(tuple(surnames[parents[0].id_number]))


def test_spouses_were_old_enough_to_marry(city: City) -> None:
    for marriage in city.marriages:
        for person in (marriage.husband, marriage.wife):
            assert years_after(person.born, MINIMUM_AGE[person.sex]) <= marriage.registered_on


def test_nobody_has_two_spouses_at_once(city: City) -> None:
    marriages: dict[str, list[Marriage]] = defaultdict(list)
    for marriage in city.marriages:
        marriages[marriage.husband.id_number].append(marriage)
        marriages[marriage.wife.id_number].append(marriage)
    for history in marriages.values():
        for earlier, later in pairwise(history):
            assert earlier.ended_on is not None
            assert earlier.ended_on < later.registered_on
    assert any(len(history) > 1 for history in marriages.values())


def test_married_couples_share_a_home_and_divorced_ones_do_not(city: City, registry: dict[str, Resident]) -> None:
    assert {marriage.status for marriage in city.marriages} == {"married", "divorced", "widowed"}
    for marriage in city.marriages:
        husband, wife = registry[marriage.husband.id_number], registry[marriage.wife.id_number]
        assert (husband.address == wife.address) == (marriage.status != "divorced")
        dead = [husband.status, wife.status].count("deceased")
        assert dead == (marriage.status == "widowed")
        assert (marriage.ended_on is None) == (marriage.status == "married")


def test_owners_are_living_adults_when_they_buy(city: City) -> None:
    for ownership in city.ownerships:
        assert ownership.owner.status == "registered"
        assert years_after(ownership.owner.birth_date, 18) <= ownership.dwelling.registered_on


def test_the_shares_of_a_dwelling_are_the_whole_of_it(city: City) -> None:
    shares: dict[str, Decimal] = defaultdict(Decimal)
    for ownership in city.ownerships:
        shares[ownership.dwelling.certificate_number] += ownership.share
    assert set(shares) == {dwelling.certificate_number for dwelling in city.dwellings}
    assert set(shares.values()) == {Decimal(100)}


def test_some_families_own_nothing_some_a_dwelling_some_more(city: City) -> None:
    owned: dict[str, set[str]] = {household.household_id: set() for household in city.households}
    for ownership in city.ownerships:
        owned[ownership.owner.household_id].add(ownership.dwelling.certificate_number)
    assert {0, 1, 2} <= {len(certificates) for certificates in owned.values()}


@pytest.mark.parametrize(
    ("table", "number", "name"),
    [
        ("civil_affairs.marriage_records", "id_number", "name"),
        ("civil_affairs.marriage_records", "spouse_id_number", "spouse_name"),
        ("housing.ownerships", "owner_id_number", "owner_name"),
    ],
)
def test_departments_know_people_by_the_same_number_and_name(
    databases: Connection, table: str, number: str, name: str
) -> None:
    unknown = text(
        f"SELECT count(*), count(r.id_number) FROM {table} AS t"
        f" LEFT JOIN population.residents AS r ON r.id_number = t.{number} AND r.name = t.{name}"
    )
    rows, matched = databases.execute(unknown).one()
    assert rows == matched > 100


def test_registered_homes_are_where_their_owners_or_tenants_live(databases: Connection) -> None:
    own_home = text(
        "SELECT count(DISTINCT r.household_id) FROM population.residents AS r JOIN housing.ownerships AS o"
        " ON o.owner_id_number = r.id_number AND o.address = r.address"
    )
    lived_in = text(
        "SELECT count(DISTINCT o.certificate_number) FROM housing.ownerships AS o"
        " JOIN population.residents AS r ON r.address = o.address"
    )
    assert 0 < databases.scalar(own_home) < databases.scalar(lived_in)


def test_area_and_share_have_two_decimal_places(databases: Connection) -> None:
    rough = text(
        "SELECT count(*) FROM housing.ownerships WHERE round(area_m2, 2) != area_m2 OR round(share, 2) != share"
    )
    assert databases.scalar(rough) == 0


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ("population.residents", "id_number"),
        ("civil_affairs.marriage_records", "id_number"),
        ("housing.ownerships", "owner_id_number"),
    ],
)
def test_a_lookup_by_identity_number_uses_an_index(databases: Connection, table: str, key: str) -> None:
    plan = databases.execute(text(f"EXPLAIN QUERY PLAN SELECT * FROM {table} WHERE {key} = '0'")).one()
    assert plan.detail.startswith("SEARCH")
    assert "INDEX" in plan.detail


def test_filling_again_replaces_what_was_there(city: City, tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'population'}")
    FILL["population"](engine, city)
    smaller = generate_city(5, residents=20)
    FILL["population"](engine, smaller)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM residents")) == len(smaller.residents)
    engine.dispose()
