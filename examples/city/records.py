"""The records of the generated city: residents, households, dwellings, ownerships."""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Literal

from examples.city.families import ResidentStatus, Role
from examples.city.identity_numbers import Sex
from examples.city.registrar import Marriage

Use = Literal["residential", "commercial", "parking"]


@dataclass(frozen=True, slots=True)
class Resident:
    """A person as the population registry knows them."""

    id_number: str
    name: str
    sex: Sex
    birth_date: date
    household_id: str
    household_role: Role
    address: str
    registered_on: date
    phone: str | None
    status: ResidentStatus


@dataclass(frozen=True, slots=True)
class Household:
    """People registered at one address; members who died stay listed."""

    household_id: str
    district_code: str
    address: str
    members: tuple[Resident, ...]


@dataclass(frozen=True, slots=True)
class Dwelling:
    """A unit with a real-estate certificate; the area is in square metres."""

    certificate_number: str
    address: str
    area_m2: Decimal
    use: Use
    registered_on: date
    mortgaged: bool


@dataclass(frozen=True, slots=True)
class Ownership:
    """One owner's share of a dwelling in per cent; the shares of a dwelling add up to 100."""

    ownership_id: int
    owner: Resident
    dwelling: Dwelling
    share: Decimal


@dataclass(frozen=True, slots=True)
class City:
    """Everything that was generated from one seed."""

    seed: int
    as_of: date
    residents: tuple[Resident, ...]
    households: tuple[Household, ...]
    marriages: tuple[Marriage, ...]
    dwellings: tuple[Dwelling, ...]
    ownerships: tuple[Ownership, ...]
