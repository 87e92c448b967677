"""Which party a home belongs to, and whether it may do what is asked."""

from pathlib import Path

from exchange.cli.frame.errors import CommandError, ExitCode
from exchange.core.directory import Directory
from exchange.core.names import Party
from exchange.core.state import is_signing
from exchange.home import STEWARD, Home


def require_role(home: Path, role: str, what: str) -> Party:
    """The party that a home acts for, if its role lets it do this; a steward's may do what its department's may.

    Args:
        role: the one that is needed; what: who does what, for the error.

    Raises:
        CommandError: another role.
    """
    place = Home(home)
    if place.role != role and (place.role, role) != (STEWARD, "department"):
        raise CommandError(f"{place.party} is a {place.role}: {what}", "choose the home with --home", ExitCode.USAGE)
    return place.acts_for


def require_own_key(home: Path, what: str) -> Party:
    """The department of a home that holds its own key: there are things that no steward signs in its place.

    Args:
        what: who does what, for the error.

    Raises:
        CommandError: another home.
    """
    place = Home(home)
    if place.role != "department":
        problem = f"{place.party} is a {place.role}: {what}"
        raise CommandError(problem, "choose the department's own home with --home", ExitCode.USAGE)
    return place.party


def has_key(directory: Directory, party: Party) -> bool:
    """Whether a party has a signing key in the directory that is not revoked: what has none cannot act."""
    return any(is_signing(key) and key.revoked_index is None for key in directory.state.keys_of(party))
