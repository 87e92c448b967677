"""Who owns which dwelling: families own none, their home, or more; tenants live in another family's flat."""

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from random import Random

from examples.city.addresses import AddressBook
from examples.city.records import Dwelling, Household, Ownership, Resident, Use
from examples.city.registrar import CITY_NAME, DISTRICTS, years_after

ADULT_AGE = 18

_OWN_THEIR_HOME = 0.72
_RENT_FROM_A_FAMILY = 0.55
_OWN_MORE = {"flat": 0.14, "shop": 0.05, "parking": 0.22}
_SMALLEST_AND_LARGEST: dict[Use, tuple[int, int]] = {
    "residential": (4_200, 16_800),
    "commercial": (1_800, 24_000),
    "parking": (1_100, 1_650),
}  # in hundredths of a square metre
_COUPLE_SHARES = (("50.00", "50.00"), ("50.00", "50.00"), ("60.00", "40.00"), ("70.00", "30.00"))


class LandRegistry:
    """Registers dwellings and their owners."""

    def __init__(self, rng: Random, addresses: AddressBook, as_of: date) -> None:
        self._rng = rng
        self._addresses = addresses
        self._as_of = as_of
        self._dwellings: list[Dwelling] = []
        self._ownerships: list[Ownership] = []

    @property
    def dwellings(self) -> tuple[Dwelling, ...]:
        """All dwellings, in order of registration number."""
        return tuple(self._dwellings)

    @property
    def ownerships(self) -> tuple[Ownership, ...]:
        """All ownerships, in order of their number."""
        return tuple(self._ownerships)

    def settle(self, households: Sequence[Household]) -> None:
        """Give every household an owned home, a landlord, or a flat that nobody registered."""
        landlords = [household for household in households if self._rng.random() < _OWN_THEIR_HOME]
        owning = {household.household_id for household in landlords}
        for household in households:
            if household.household_id in owning:
                self._register(household.address, "residential", self._owners(household))
                self._buy_more(household)
            elif landlords and self._rng.random() < _RENT_FROM_A_FAMILY:
                landlord = self._rng.choice(landlords)
                self._register(household.address, "residential", self._owners(landlord))

    def _buy_more(self, household: Household) -> None:
        district = DISTRICTS[household.district_code]
        if self._rng.random() < _OWN_MORE["flat"]:
            self._register(self._addresses.flat(district), "residential", self._owners(household))
        if self._rng.random() < _OWN_MORE["shop"]:
            self._register(self._addresses.shop(district), "commercial", self._owners(household)[:1])
        if self._rng.random() < _OWN_MORE["parking"]:
            self._register(self._addresses.parking(district), "parking", self._owners(household)[:1])

    def _owners(self, household: Household) -> tuple[Resident, ...]:
        """Draw owners among the living adults: a couple, now and then with a parent, or one alone."""
        adults = [member for member in household.members if self._may_own(member)]
        couple = tuple(adult for adult in adults if adult.household_role in ("head", "spouse"))
        parents = tuple(adult for adult in adults if adult.household_role == "parent")
        chance = self._rng.random()
        if parents and chance < 0.25:
            return couple + parents[:1]
        return couple if chance < 0.7 else (self._rng.choice(couple),)

    def _may_own(self, resident: Resident) -> bool:
        return resident.status == "registered" and years_after(resident.birth_date, ADULT_AGE) <= self._as_of

    def _register(self, address: str, use: Use, owners: tuple[Resident, ...]) -> None:
        dwelling = self._dwelling(address, use, self._registration_day(owners))
        self._dwellings.append(dwelling)
        for owner, share in zip(owners, self._shares(len(owners)), strict=True):
            self._ownerships.append(Ownership(len(self._ownerships) + 1, owner, dwelling, share))

    def _dwelling(self, address: str, use: Use, registered_on: date) -> Dwelling:
        number = len(self._dwellings) + 1
        certificate = f"云({registered_on.year}){CITY_NAME}不动产权第{number:07d}号"
        area = Decimal(self._rng.randint(*_SMALLEST_AND_LARGEST[use])).scaleb(-2)
        mortgaged = use != "parking" and self._rng.random() < 0.38
        return Dwelling(certificate, address, area, use, registered_on, mortgaged)

    def _registration_day(self, owners: tuple[Resident, ...]) -> date:
        of_age = max(years_after(owner.birth_date, ADULT_AGE) for owner in owners)
        first = max(of_age, years_after(self._as_of, -25))
        return date.fromordinal(self._rng.randint(first.toordinal(), self._as_of.toordinal()))

    def _shares(self, owners: int) -> tuple[Decimal, ...]:
        if owners == 1:
            return (Decimal("100.00"),)
        if owners == 2:
            return tuple(Decimal(share) for share in self._rng.choice(_COUPLE_SHARES))
        return (Decimal("33.34"), Decimal("33.33"), Decimal("33.33"))
