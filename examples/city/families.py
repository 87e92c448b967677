"""Families: couples, children, grandparents, the divorced, the widowed, the single; who lives with whom."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Literal

from examples.city.identity_numbers import Sex
from examples.city.registrar import Marriage, Person, Registrar, earliest_wedding, years_after

Role = Literal["head", "spouse", "child", "parent"]
ResidentStatus = Literal["registered", "deceased"]

_AT_HOME_UNTIL = 26
_LONGEST_WAIT_TO_MARRY = timedelta(days=3000)
_SHORTEST_MARRIAGE = timedelta(days=120)
_CHILD_COUNT_WEIGHTS = (12, 50, 32, 6)


@dataclass(frozen=True, slots=True)
class Member:
    """A person's place in a household; the role is towards the head."""

    person: Person
    role: Role
    status: ResidentStatus = "registered"


@dataclass(frozen=True, slots=True)
class Kin:
    """People related to each other: the households they live in and all their marriages."""

    households: tuple[tuple[Member, ...], ...]
    marriages: tuple[Marriage, ...] = ()


def kin(registrar: Registrar) -> Kin:
    """Make one family; which kind is drawn."""
    return registrar.rng.choices(_KINDS, _KIND_WEIGHTS)[0](registrar)


def _nuclear(registrar: Registrar) -> Kin:
    marriage = _couple(registrar, registrar.born_at_age(27, 76))
    offspring = _children(registrar, marriage, registrar.as_of)
    return Kin((_home(_couple_order(registrar, marriage), offspring),), (marriage,))


def _with_grandparents(registrar: Registrar) -> Kin:
    marriage = _couple(registrar, registrar.born_at_age(28, 52))
    head, spouse = _couple_order(registrar, marriage)
    offspring = _children(registrar, marriage, registrar.as_of)
    elders = _parents_of(registrar, head)
    parents = tuple(_member(person, "parent", elders) for person in (elders.husband, elders.wife))
    return Kin((_home((head, spouse), offspring) + parents,), (marriage, elders))


def _single(registrar: Registrar) -> Kin:
    person = registrar.person(_either_sex(registrar), registrar.born_at_age(20, 60))
    return Kin(((Member(person, "head"),),))


def _divorced(registrar: Registrar) -> Kin:
    marriage = _ended(registrar, _couple(registrar, registrar.born_at_age(30, 66)), "divorced")
    keeper, leaver = _couple_order(registrar, marriage)
    offspring = _children(registrar, marriage, marriage.ended_on or registrar.as_of)
    stayed = (Member(keeper, "head"), *(Member(child, "child") for child in offspring))
    again = _remarriage(registrar, leaver, marriage.ended_on or registrar.as_of)
    if again is None:
        return Kin((stayed, (Member(leaver, "head"),)), (marriage,))
    return Kin((stayed, _home(_couple_order(registrar, again), ())), (marriage, again))


def _widowed(registrar: Registrar) -> Kin:
    marriage = _ended(registrar, _couple(registrar, registrar.born_at_age(36, 86)), "widowed")
    survivor, dead = _couple_order(registrar, marriage)
    offspring = _children(registrar, marriage, marriage.ended_on or registrar.as_of)
    children = tuple(Member(child, "child") for child in offspring)
    return Kin(((Member(survivor, "head"), Member(dead, "spouse", "deceased"), *children),), (marriage,))


_KINDS: tuple[Callable[[Registrar], Kin], ...] = (_nuclear, _with_grandparents, _single, _divorced, _widowed)
_KIND_WEIGHTS = (52, 18, 13, 9, 8)


def _couple(registrar: Registrar, husband_born: date) -> Marriage:
    husband = registrar.person("male", husband_born)
    wife = registrar.person("female", husband_born + timedelta(days=registrar.rng.randint(-900, 1500)))
    first = earliest_wedding(husband, wife)
    last = min(first + _LONGEST_WAIT_TO_MARRY, registrar.as_of)
    return registrar.marry(husband, wife, registrar.between(first, last))


def _ended(registrar: Registrar, marriage: Marriage, status: Literal["divorced", "widowed"]) -> Marriage:
    first = min(marriage.registered_on + _SHORTEST_MARRIAGE, registrar.as_of)
    ended_on = registrar.between(first, registrar.as_of)
    return replace(marriage, status=status, ended_on=ended_on)


def _remarriage(registrar: Registrar, person: Person, free_since: date) -> Marriage | None:
    if registrar.rng.random() < 0.5:
        return None
    other_sex: Sex = "female" if person.sex == "male" else "male"
    partner = registrar.person(other_sex, person.born + timedelta(days=registrar.rng.randint(-1500, 1500)))
    first = max(earliest_wedding(person, partner), free_since + timedelta(days=30))
    if first > registrar.as_of:
        return None
    husband, wife = (person, partner) if person.sex == "male" else (partner, person)
    return registrar.marry(husband, wife, registrar.between(first, registrar.as_of))


def _children(registrar: Registrar, marriage: Marriage, until: date) -> tuple[Person, ...]:
    """Bear children while both parents are 20 to 45; those grown out of the home are left out."""
    parents = (marriage.husband, marriage.wife)
    first = max(marriage.registered_on, *(years_after(parent.born, 20) for parent in parents))
    last = min(until, *(years_after(parent.born, 45) for parent in parents))
    family_name = (marriage.husband if registrar.rng.random() < 0.88 else marriage.wife).surname
    births = _birthdays(registrar, first, last)
    at_home = [born for born in births if years_after(born, _AT_HOME_UNTIL) > registrar.as_of]
    return tuple(registrar.person(_either_sex(registrar), born, family_name) for born in at_home)


def _birthdays(registrar: Registrar, first: date, last: date) -> list[date]:
    births: list[date] = []
    for _ in range(registrar.rng.choices(range(4), _CHILD_COUNT_WEIGHTS)[0]):
        first += timedelta(days=registrar.rng.randint(330, 1900))
        if first > last:
            break
        births.append(first)
    return births


def _parents_of(registrar: Registrar, child: Person) -> Marriage:
    """Give somebody parents who married before the birth; one of them may have died."""
    father_born = registrar.between(years_after(child.born, -39), years_after(child.born, -25))
    mother_born = father_born + timedelta(days=registrar.rng.randint(-900, 1400))
    father = registrar.person("male", father_born, child.surname)
    mother = registrar.person("female", mother_born)
    wedding = registrar.between(earliest_wedding(father, mother), child.born)
    marriage = registrar.marry(father, mother, wedding)
    if registrar.rng.random() < 0.7:
        return marriage
    died_on = registrar.between(max(child.born, years_after(father_born, 45)), registrar.as_of)
    return replace(marriage, status="widowed", ended_on=died_on)


def _member(person: Person, role: Role, marriage: Marriage) -> Member:
    """Place one of a couple; of a widowed couple it is the husband who died."""
    dead = marriage.status == "widowed" and person is marriage.husband
    return Member(person, role, "deceased" if dead else "registered")


def _home(couple: tuple[Person, Person], offspring: tuple[Person, ...]) -> tuple[Member, ...]:
    head, spouse = couple
    return (Member(head, "head"), Member(spouse, "spouse"), *(Member(child, "child") for child in offspring))


def _couple_order(registrar: Registrar, marriage: Marriage) -> tuple[Person, Person]:
    couple = (marriage.husband, marriage.wife)
    return couple if registrar.rng.random() < 0.65 else (couple[1], couple[0])


def _either_sex(registrar: Registrar) -> Sex:
    return "male" if registrar.rng.random() < 0.51 else "female"
