"""`exchange mandate`: which auditor may read whose accesses, and until when; the coordinator signs."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from exchange.cli.agreements.grants import SHORTEST_ID, SHOWN_ID
from exchange.cli.frame.acting import act
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_group
from exchange.cli.frame.errors import CommandError, ExitCode, WrongUsageError, say
from exchange.cli.frame.homes import require_role
from exchange.cli.frame.output import print_json, print_line, print_table
from exchange.cli.frame.texts import check_text
from exchange.cli.frame.times import day_of, end_of_day, first_moment, iso, now
from exchange.client.datasets import dataset_name, find_dataset
from exchange.client.session import Session
from exchange.core.directory import Directory
from exchange.core.entries import mandate_entry, revocation_entry
from exchange.core.errors import CoreError
from exchange.core.names import Party
from exchange.core.state import OBJECT_ID, Version
from exchange.v1.people_pb2 import Mandate

_ONLY = "only a coordinator gives mandates"

AuditorArgument = Annotated[
    str, typer.Argument(metavar="AUDITOR", help="Its name, such as audit-office or exchange://DOMAIN/audit-office.")
]

app = new_group(
    "Give auditors mandates to read accesses (coordinator), and list them.",
    "exchange mandate give audit-office --until 2027-12-31 --home ./coordinator",
)


@dataclass(frozen=True, slots=True)
class Given:
    """A mandate, as the directory has it."""

    version: Version
    said: Mandate

    def standing(self, moment: int) -> str:
        """In a word: in force, ended, or over."""
        if self.version.ended_index is not None:
            return "ended"
        return "in force" if moment <= self.said.not_after else "over"

    def row(self, directory: Directory, moment: int) -> tuple[object, ...]:
        """A line of the table."""
        auditor = self.said.auditor.rpartition("/")[2]
        period = _period(self.said)
        return (
            self.version.digest.hex()[:SHOWN_ID],
            auditor,
            _scope(directory, self.said),
            period,
            day_of(self.said.not_after),
            self.standing(moment),
        )

    def described(self, directory: Directory, moment: int) -> dict[str, object]:
        """For programs."""
        return {
            "id": self.version.digest.hex(),
            "auditor": self.said.auditor,
            "departments": list(self.said.departments),
            "datasets": [_dataset(directory, object_id) for object_id in self.said.datasets],
            "since": iso(self.said.since) if self.said.since else None,
            "until": iso(self.said.until) if self.said.until else None,
            "ends": iso(self.said.not_after),
            "standing": self.standing(moment),
            "given_by": str(self.version.owner),
            "given_at": iso(self.version.time),
            "index": self.version.index,
        }


@app.command(
    "give",
    epilog=example(
        "exchange mandate give audit-office --until 2027-12-31 --home ./coordinator",
        "exchange mandate give audit-office --department housing --dataset population/residents \\",
        "  --accesses-since 2026-01-01 --accesses-until 2026-12-31 --until 2027-03-31 --home ./coordinator",
    ),
)
def give(
    auditor: AuditorArgument,
    until: Annotated[str, typer.Option(metavar="DAY", help="The last day on which it may read.", show_default=False)],
    department: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Of this one only, asked or answered; may be repeated.")
    ] = None,
    dataset: Annotated[
        list[str] | None, typer.Option(metavar="DEPARTMENT/CODE", help="Of this one only; may be repeated.")
    ] = None,
    accesses_since: Annotated[str, typer.Option(metavar="DAY", help="Only accesses from this day on.")] = "",
    accesses_until: Annotated[str, typer.Option(metavar="DAY", help="Only accesses up to this day.")] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Let an auditor read accesses: who asked what about which case, though no query and no record.

    Without --department and --dataset it covers all of them. What the auditor reads is itself an entry of the log.
    """
    require_role(home, "coordinator", _ONLY)
    said = Mandate(
        since=first_moment(accesses_since, "--accesses-since") if accesses_since else 0,
        until=first_moment(accesses_until, "--accesses-until", end=True) if accesses_until else 0,
        not_after=end_of_day(until, "--until"),
    )
    if said.until and said.until < said.since:
        raise WrongUsageError("--accesses-until lies before --accesses-since", "name the earlier day first")
    directory, given = act(home, lambda session: _give(session, auditor, said, department or (), dataset or ()))
    if as_json:
        print_json(given.described(directory, now()))
        return
    scope, period = _scope(directory, given.said), _period(given.said)
    print_line(f"{given.said.auditor} may read accesses of {scope}, {period}, until {day_of(given.said.not_after)}.")
    print_line(f"To end it: exchange mandate end {given.version.digest.hex()[:SHOWN_ID]} --reason … --home {home}")


@app.command("end", epilog=example('exchange mandate end 8f37c316 --reason "The inquiry is over" --home ./coordinator'))
def end(
    mandate: Annotated[str, typer.Argument(metavar="ID", help="The first digits; see `mandate list`.")],
    reason: Annotated[str, typer.Option(help="Why; everybody can read it.", show_default=False)],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """End a mandate before its day: from now on nothing is read under it."""
    require_role(home, "coordinator", _ONLY)
    check_text("--reason", reason)
    directory, ended = act(home, lambda session: _end(session, mandate, reason))
    if as_json:
        print_json(ended.described(directory, now()))
    else:
        print_line(f"The mandate {ended.version.digest.hex()[:SHOWN_ID]} of {ended.said.auditor} is ended.")


@app.command("list", epilog=example("exchange mandate list --home ./coordinator"))
def list_mandates(
    everything: Annotated[bool, typer.Option("--all", help="Also those that are ended or over.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List who may read what, the newest first."""
    directory = act(home, _directory)
    moment = now()
    found = [item for item in _given(directory) if everything or item.standing(moment) == "in force"]
    if as_json:
        print_json([item.described(directory, moment) for item in found])
    elif not found:
        print_line("No mandate is in force: auditors read leaves of the access log, and no body.")
    else:
        columns = ("ID", "AUDITOR", "OF", "ACCESSES", "ENDS", "STANDING")
        print_table(columns, [item.row(directory, moment) for item in found])


async def _give(
    session: Session, auditor: str, said: Mandate, departments: Sequence[str], datasets: Sequence[str]
) -> tuple[Directory, Given]:
    directory = session.directory
    said.auditor = str(_party(directory, auditor))
    said.departments.extend(sorted({str(_party(directory, name)) for name in departments}))
    said.datasets.extend(sorted({find_dataset(directory, name).object_id for name in datasets}))
    envelope = session.sign(mandate_entry(session.party, secrets.token_bytes(OBJECT_ID), said))
    await session.append(envelope)
    return session.directory, _named(session.directory, envelope.digest)


async def _end(session: Session, typed: str, reason: str) -> tuple[Directory, Given]:
    given = _find(session.directory, typed)
    if given.version.owner != session.party:
        raise CommandError(f"{typed} was given by {given.version.owner}", "whoever gave it ends it", ExitCode.USAGE)
    if given.version.ended_index is not None:
        raise WrongUsageError(f"{typed} is ended already", "`exchange mandate list` shows those in force")
    draft = revocation_entry(session.party, secrets.token_bytes(OBJECT_ID), given.version.digest, reason)
    await session.append(session.sign(draft))
    if given.said.not_after < now():
        say("it was over already")
    return session.directory, _named(session.directory, given.version.digest)


async def _directory(session: Session) -> Directory:
    return session.directory


def _given(directory: Directory) -> list[Given]:
    """All mandates, the newest first."""
    mandates = directory.state.people.mandates
    found = [_named(directory, digest) for auditor in mandates for digest in mandates[auditor]]
    return sorted(found, key=lambda item: item.version.index, reverse=True)


def _named(directory: Directory, digest: bytes) -> Given:
    version = directory.state.versions[digest]
    if not isinstance(version.named, Mandate):
        raise CommandError(f"{digest.hex()[:SHOWN_ID]} is no mandate")
    return Given(version, version.named)


def _find(directory: Directory, typed: str) -> Given:
    found = [item for item in _given(directory) if item.version.digest.hex().startswith(typed.lower())]
    if len(typed) < SHORTEST_ID or len(found) != 1:
        problem = "is no mandate, or not one alone" if len(typed) >= SHORTEST_ID else "is too short"
        hint = f"give {SHORTEST_ID} or more digits of one that `exchange mandate list --all` shows"
        raise WrongUsageError(f"{typed} {problem}", hint)
    return found[0]


def _party(directory: Directory, name: str) -> Party:
    try:
        party = Party.parse(name) if "/" in name else Party(directory.origin, name)
    except CoreError as error:
        raise WrongUsageError(str(error), "write NAME, or exchange://DOMAIN/NAME") from error
    if not directory.state.keys_of(party):
        raise WrongUsageError(f"{party} is not in the directory", "write NAME, or exchange://DOMAIN/NAME")
    return party


def _scope(directory: Directory, said: Mandate) -> str:
    parts = [name.rpartition("/")[2] for name in said.departments] or ["all departments"]
    datasets = [_dataset(directory, object_id) for object_id in said.datasets]
    return ", ".join(parts) + (f" to {', '.join(datasets)}" if datasets else "")


def _period(said: Mandate) -> str:
    if not said.since and not said.until:
        return "of any time"
    since = f"from {day_of(said.since)}" if said.since else ""
    return " ".join(part for part in (since, f"to {day_of(said.until)}" if said.until else "") if part)


def _dataset(directory: Directory, object_id: bytes) -> str:
    terms = directory.terms.datasets.get(object_id)
    return dataset_name(terms) if terms is not None else object_id.hex()
