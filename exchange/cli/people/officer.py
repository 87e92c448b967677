"""`exchange officer`: who may ask for a department, by pseudonym; whoever was removed is refused everywhere."""

from dataclasses import dataclass
from typing import Annotated

import typer

from exchange.cli.frame.acting import act, new_object
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_group
from exchange.cli.frame.errors import CommandError, ExitCode, WrongUsageError, say
from exchange.cli.frame.homes import require_role
from exchange.cli.frame.output import print_json, print_line, print_table
from exchange.cli.frame.times import day_of, iso
from exchange.client.session import Session
from exchange.core.directory import Directory
from exchange.core.entries import ObjectVersion, officer_entry
from exchange.core.names import Party, is_officer
from exchange.core.officers import is_removed
from exchange.core.people import officer_name
from exchange.core.state import Version
from exchange.home import Home
from exchange.v1.people_pb2 import OfficerStanding

_ONLY = "only a department registers officers, its own"

PseudonymsArgument = Annotated[
    list[str], typer.Argument(metavar="PSEUDONYM...", help="Such as officer-17: never a name, everybody can read it.")
]

app = new_group(
    "Register and remove the officers who may ask for a department (its steward).",
    "exchange officer add officer-17 --home ./housing",
)


@dataclass(frozen=True, slots=True)
class Registered:
    """What the directory says of an officer."""

    pseudonym: str
    version: Version

    @property
    def standing(self) -> str:
        """In a word."""
        return "removed" if is_removed(self.version) else "may ask"

    def described(self) -> dict[str, object]:
        """For programs."""
        return {
            "officer": self.pseudonym,
            "department": str(self.version.owner),
            "removed": is_removed(self.version),
            "since": iso(self.version.time),
            "index": self.version.index,
        }


@app.command(
    "add",
    epilog=example(
        "exchange officer add officer-17 --home ./housing",
        "exchange officer add officer-17 officer-18 officer-19 --home ./housing",
    ),
)
def add(pseudonyms: PseudonymsArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Register officers. Once a department has registered any, requests of all others are refused."""
    department = require_role(home, "department", _ONLY)
    first, found = act(home, lambda session: _change(session, pseudonyms, removed=False))
    if as_json:
        print_json([item.described() for item in found])
        return
    for item in found:
        print_line(f"{item.pseudonym} may ask for {department}: entry {item.version.index} of the directory.")
    if first:
        say(f"these are the first officers of {department}: from now on requests of any other are refused")


@app.command("remove", epilog=example("exchange officer remove officer-17 --home ./housing"))
def remove(pseudonyms: PseudonymsArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Remove officers: brokers and adapters refuse their requests, also those that are under way."""
    require_role(home, "department", _ONLY)
    _, found = act(home, lambda session: _change(session, pseudonyms, removed=True))
    if as_json:
        print_json([item.described() for item in found])
        return
    for item in found:
        print_line(f"{item.pseudonym} is removed: entry {item.version.index} of the directory.")


@app.command(
    "list",
    epilog=example(
        "exchange officer list --home ./housing",
        "exchange officer list --department housing --home ./coordinator",
    ),
)
def list_officers(
    department: Annotated[
        str, typer.Option(metavar="NAME", help="Of this one, such as housing; without it, of one's own.")
    ] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List a department's officers, and those whom it has removed."""
    own = Home(home).party.own_department
    directory = act(home, _directory)
    owner = _department(directory, department) if department else own
    found = _registered(directory, owner)
    if as_json:
        print_json([item.described() for item in found])
    elif not found:
        print_line(f"{owner} registers no officers: it answers by itself for whoever asks.")
    else:
        rows = [(item.pseudonym, item.standing, day_of(item.version.time)) for item in found]
        print_table(("OFFICER", "STANDING", "SINCE"), rows)


async def _change(session: Session, pseudonyms: list[str], *, removed: bool) -> tuple[bool, list[Registered]]:
    """Register or remove; whether these are the department's first, and what the directory says of them then."""
    names, department = list(dict.fromkeys(pseudonyms)), session.party
    for name in names:
        _check(session.directory, department, name, removed)
    first = str(department) not in session.directory.state.people.officers
    for name in names:
        before = _latest(session.directory, department, name)
        version = ObjectVersion(before.object_id, before.digest) if before is not None else new_object()
        said = OfficerStanding(pseudonym=name, removed=removed)
        await session.append(session.sign(officer_entry(department, version, said)))
    changed = {item.pseudonym: item for item in _registered(session.directory, department)}
    return first, [changed[name] for name in names]


def _check(directory: Directory, department: Party, name: str, removed: bool) -> None:
    if not is_officer(name):
        raise WrongUsageError(
            f"{name!r} is not an officer's pseudonym",
            "letters, digits, dots, underscores and hyphens, such as officer-17",
        )
    latest = _latest(directory, department, name)
    stands = latest is not None and not is_removed(latest)
    if stands != removed:
        problem = "is registered already" if stands else "is not registered"
        raise CommandError(f"{name} {problem}", "`exchange officer list` shows who is", ExitCode.USAGE)


def _latest(directory: Directory, department: Party, name: str) -> Version | None:
    digest = directory.state.people.officers.get(officer_name(department, name))
    return directory.state.versions[digest] if digest is not None else None


def _registered(directory: Directory, department: Party) -> list[Registered]:
    """The latest of every officer, by pseudonym."""
    found = {
        version.named.pseudonym: Registered(version.named.pseudonym, version)
        for version in directory.state.versions_of(department)
        if isinstance(version.named, OfficerStanding)
    }
    return [found[name] for name in sorted(found)]


def _department(directory: Directory, name: str) -> Party:
    party = Party(directory.origin, name) if "/" not in name else Party.parse(name)
    if not directory.state.keys_of(party):
        raise WrongUsageError(f"{party} is not in the directory", "write its name as in exchange://DOMAIN/NAME")
    return party


async def _directory(session: Session) -> Directory:
    return session.directory
