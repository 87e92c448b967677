"""Whom the directory names: officers of departments, and auditors with their mandates (DESIGN section 1). Values."""

from dataclasses import dataclass
from typing import TypeAlias

from immutables import Map

from exchange.core.layered import Table
from exchange.core.names import Party
from exchange.v1.people_pb2 import Mandate, OfficerStanding, Stewardship

Named: TypeAlias = Mandate | OfficerStanding | Stewardship
"""What an entry says of somebody."""


def officer_name(department: Party, pseudonym: str) -> str:
    """How an officer of a department is looked up."""
    # Neither of them contains a space.
    return f"{department} {pseudonym}"


def stewardship_name(department: Party) -> str:
    """How is looked up how many stewards a department needs."""
    # No pseudonym has a slash.
    return f"{department} /stewardship"


def officer_names(owner: Party, said: Named | None) -> tuple[str, ...]:
    """Under which names a version is found among officers: the officer's, and the department's that registers any.

    How many stewards a department needs is kept beside them.
    """
    if isinstance(said, Stewardship):
        return (stewardship_name(owner),)
    return (officer_name(owner, said.pseudonym), str(owner)) if isinstance(said, OfficerStanding) else ()


def mandate_names(said: Named | None) -> tuple[str, ...]:
    """Under which name a version is found among mandates: the auditor's."""
    return (said.auditor,) if isinstance(said, Mandate) else ()


@dataclass(frozen=True, slots=True)
class People:
    """The versions that name somebody.

    Args:
        officers: the message digest of the latest version by `officer_names`.
        mandates: the message digests of all versions by the auditor's name, oldest first.
    """

    officers: Table[str, bytes] = Map()  # noqa: RUF009 - an immutable value
    mandates: Table[str, tuple[bytes, ...]] = Map()  # noqa: RUF009 - an immutable value

    def with_version(self, owner: Party, said: Named | None, digest: bytes) -> "People":
        """One version more, of this owner and message digest."""
        if said is None:
            return self
        officers, mandates = self.officers, self.mandates
        for name in officer_names(owner, said):
            officers = officers.set(name, digest)
        for name in mandate_names(said):
            mandates = mandates.set(name, (*mandates.get(name, ()), digest))
        return People(officers, mandates)
