"""The registrar of the generated city: it alone issues identity numbers and marriage certificates."""

import calendar
from dataclasses import dataclass
from datetime import date, timedelta
from random import Random
from typing import Literal

from examples.city.identity_numbers import Sex, identity_number
from examples.city.names import given_name, surname

MarriageStatus = Literal["married", "divorced", "widowed"]

MINIMUM_AGE: dict[Sex, int] = {"male": 22, "female": 20}
"""Years of age from which the Civil Code (article 1047) lets a man or a woman marry."""

DISTRICTS = {"339801": "临湖区", "339802": "江北区", "339803": "青石区", "339804": "云山县"}
"""The districts of the fictitious city of Yunjiang; GB/T 2260 assigns no code that starts 3397 or 3398."""

CITY_NAME = "云江市"

_BIRTHPLACES = (*DISTRICTS, "339701", "339702", "339721")
_BIRTHPLACE_WEIGHTS = (30, 24, 18, 12, 6, 6, 4)


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with an identity number, not yet in a household."""

    id_number: str
    surname: str
    given_name: str
    sex: Sex
    born: date

    @property
    def name(self) -> str:
        """The full name, surname first."""
        return self.surname + self.given_name


@dataclass(frozen=True, slots=True)
class Marriage:
    """A marriage; `ended_on` is set once a divorce or a death ended it."""

    certificate_number: str
    husband: Person
    wife: Person
    registered_on: date
    status: MarriageStatus
    ended_on: date | None


class Registrar:
    """Issues people and marriages; keeps what is needed to give no number twice."""

    def __init__(self, rng: Random, as_of: date) -> None:
        self.rng = rng
        self.as_of = as_of
        self._issued: set[str] = set()
        self._certificates = 0

    def person(self, sex: Sex, born: date, family_name: str | None = None) -> Person:
        """Register a birth; without a family name, draw one."""
        number = self._unused_number(sex, born)
        given = given_name(self.rng, sex, born.year)
        return Person(number, family_name or surname(self.rng), given, sex, born)

    def marry(
        self,
        husband: Person,
        wife: Person,
        registered_on: date,
        status: MarriageStatus = "married",
        ended_on: date | None = None,
    ) -> Marriage:
        """Register a marriage."""
        self._certificates += 1
        certificate = f"J339800-{registered_on.year}-{self._certificates:06d}"
        return Marriage(certificate, husband, wife, registered_on, status, ended_on)

    def between(self, first: date, last: date) -> date:
        """Draw a day, both ends included."""
        return first + timedelta(days=self.rng.randint(0, (last - first).days))

    def born_at_age(self, youngest: int, oldest: int) -> date:
        """Draw the birth date of somebody aged from `youngest` up to, not including, `oldest` years today."""
        first = years_after(self.as_of, -oldest) + timedelta(days=1)
        return self.between(first, years_after(self.as_of, -youngest))

    def _unused_number(self, sex: Sex, born: date) -> str:
        while True:
            region = self.rng.choices(_BIRTHPLACES, _BIRTHPLACE_WEIGHTS)[0]
            sequence = 2 * self.rng.randint(1, 499) - (sex == "male")
            number = identity_number(region, born, sequence)
            if number not in self._issued:
                self._issued.add(number)
                return number


def years_after(day: date, years: int) -> date:
    """Return the same day of another year; 29 February becomes 28 February where it must."""
    year = day.year + years
    return date(year, day.month, min(day.day, calendar.monthrange(year, day.month)[1]))


def earliest_wedding(one: Person, other: Person) -> date:
    """Return the first day on which both are old enough to marry."""
    return max(years_after(person.born, MINIMUM_AGE[person.sex]) for person in (one, other))
