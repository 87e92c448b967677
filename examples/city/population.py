"""The generator: a whole city from one seed, the same city every time."""

from datetime import date, timedelta
from itertools import chain
from random import Random

from examples.city.addresses import AddressBook
from examples.city.dwellings import LandRegistry
from examples.city.families import Member, kin
from examples.city.records import City, Household, Resident
from examples.city.registrar import DISTRICTS, Marriage, Registrar, years_after

DEFAULT_RESIDENTS = 2_400
DEFAULT_AS_OF = date(2026, 1, 1)

_DISTRICT_CODES = tuple(DISTRICTS)
_DISTRICT_WEIGHTS = (35, 30, 20, 15)
_DAYS_TO_REGISTER_A_BIRTH = 60
_PHONE_AGE = 12


def generate_city(seed: int, residents: int = DEFAULT_RESIDENTS, as_of: date = DEFAULT_AS_OF) -> City:
    """Generate a city.

    Args:
        seed: everything is drawn from it.
        residents: how many living residents there are at least; the last family may bring a few more.
        as_of: the day the records were taken; nothing in them is later.
    """
    rng = Random(seed)
    addresses = AddressBook(rng)
    households, marriages = _inhabit(Registrar(rng, as_of), addresses, residents)
    land = LandRegistry(rng, addresses, as_of)
    land.settle(households)
    people = tuple(chain.from_iterable(household.members for household in households))
    return City(seed, as_of, people, households, marriages, land.dwellings, land.ownerships)


def _inhabit(
    registrar: Registrar, addresses: AddressBook, residents: int
) -> tuple[tuple[Household, ...], tuple[Marriage, ...]]:
    census = Census(registrar, addresses)
    marriages: list[Marriage] = []
    while census.living < residents:
        relatives = kin(registrar)
        marriages.extend(relatives.marriages)
        for members in relatives.households:
            census.enter(members)
    return tuple(census.households), tuple(marriages)


class Census:
    """Enters households: gives each a number and an address, and each member a telephone number."""

    def __init__(self, registrar: Registrar, addresses: AddressBook) -> None:
        self.households: list[Household] = []
        self.living = 0
        self._registrar = registrar
        self._addresses = addresses
        self._phones = 0

    def enter(self, members: tuple[Member, ...]) -> None:
        """Enter one household."""
        district = self._registrar.rng.choices(_DISTRICT_CODES, _DISTRICT_WEIGHTS)[0]
        household_id = f"{district}{len(self.households) + 1:06d}"
        address = self._addresses.flat(DISTRICTS[district])
        residents = tuple(self._resident(member, household_id, address) for member in members)
        self.households.append(Household(household_id, district, address, residents))
        self.living += sum(resident.status == "registered" for resident in residents)

    def _resident(self, member: Member, household_id: str, address: str) -> Resident:
        person = member.person
        return Resident(
            id_number=person.id_number,
            name=person.name,
            sex=person.sex,
            birth_date=person.born,
            household_id=household_id,
            household_role=member.role,
            address=address,
            registered_on=self._registration_day(member),
            phone=self._phone(person.born),
            status=member.status,
        )

    def _registration_day(self, member: Member) -> date:
        """Children are registered after birth, of the others some after moving here."""
        registrar, born = self._registrar, member.person.born
        soon = min(born + timedelta(days=_DAYS_TO_REGISTER_A_BIRTH), registrar.as_of)
        moved_here = member.role != "child" and registrar.rng.random() < 0.4
        last = years_after(born, 20) if moved_here else soon
        return registrar.between(born, last)

    def _phone(self, born: date) -> str | None:
        """Give a number that starts with 129, which no Chinese carrier has; small children have none."""
        if years_after(born, _PHONE_AGE) > self._registrar.as_of:
            return None
        self._phones += 1
        return f"129{self._phones * 7_919 % 100_000_000:08d}"
