"""Whether an officer may ask: what departments register (DESIGN section 6, check 6)."""

from exchange.core.names import Party
from exchange.core.people import officer_name
from exchange.core.state import State, Version
from exchange.v1.people_pb2 import OfficerStanding


def officer_problem(state: State, department: Party, pseudonym: str) -> str:
    """Why an officer may not ask; empty where one may. A department that registers none answers for them by itself.

    Args:
        state: of the directory.
        department: of the officer; pseudonym: as the request names one.
    """
    officers = state.people.officers
    digest = officers.get(officer_name(department, pseudonym))
    if digest is not None:
        return f"{department} has removed this officer" if is_removed(state.versions[digest]) else ""
    if str(department) in officers:
        return f"{department} registers its officers, and this one is not among them"
    return ""


def is_removed(version: Version) -> bool:
    """Whether the latest version about an officer says that one may no longer ask; its revocation says so as well."""
    said = version.named
    return version.ended_index is not None or not isinstance(said, OfficerStanding) or said.removed
