"""Taking a step: it is tried on the mirror first, so that a refusal tells what can be done instead."""

from dataclasses import dataclass

from exchange.cli.agreements.grants import SHOWN_ID, Shown, find_grant
from exchange.cli.agreements.telling import Told, tell_case
from exchange.cli.frame.acting import new_object, new_salt
from exchange.cli.frame.errors import CommandError
from exchange.cli.frame.output import print_json, print_line
from exchange.cli.frame.times import now
from exchange.client.session import Session
from exchange.core.entries import body_entry, directory_leaf
from exchange.core.envelope import Draft, Envelope
from exchange.core.procedure import Who
from exchange.core.terms import ApplicationTerms
from exchange.core.wire import FORMAT
from exchange.v1.procedure_pb2 import Action, Step


@dataclass(frozen=True, slots=True)
class Taken:
    """A step that is in the directory: its entry, and the case as it stands now."""

    index: int
    told: Told


async def take(session: Session, typed: str, step: Step) -> Taken:
    """Take a step about the application that somebody typed, or about that of the agreement that they typed.

    Args:
        session: of the party that takes it.
        typed: the beginning of an id.
        step: without its format, and without its subject where that is the application.

    Raises:
        CommandError: the step does not fit the case.
    """
    application = application_of(session, find_grant(session.directory, typed, now()))
    wanted = Step(format=FORMAT, subject=application.version.object_id)
    wanted.MergeFrom(step)
    index = await append_checked(session, body_entry(session.party, new_object(), wanted, new_salt()))
    return Taken(index, tell_case(session.directory, application.version.object_id))


async def append_checked(session: Session, draft: Draft) -> int:
    """Sign an entry, try it on the mirror, and append it.

    Returns:
        Its index.

    Raises:
        CommandError: a rule is broken; nothing was sent.
    """
    envelope = session.sign(draft)
    check_entry(session, envelope)
    return (await session.append(envelope)).index


def check_entry(session: Session, envelope: Envelope) -> None:
    """Try an entry on the mirror.

    Raises:
        CommandError: a rule is broken, with what can be done instead.
    """
    directory = session.directory
    body = envelope.attachments[0] if envelope.attachments else b""
    _, applied = directory.apply(directory_leaf(envelope, max(now(), directory.state.time)), body)
    if applied.reason:
        reason, _, instead = applied.reason.partition("; possible are: ")
        raise CommandError(reason, f"possible are: {instead}" if instead else _hint(reason))


def _hint(reason: str) -> str:
    drafted = str(Who.OWNER_HEAD) in reason and "consents to exactly this" in reason
    return "write it down with --draft FILE, and let the head see it" if drafted else ""


def application_of(session: Session, shown: Shown) -> ApplicationTerms:
    """The latest version of the application that is meant, or that an agreement answers.

    Raises:
        CommandError: it is not known here.
    """
    directory = session.directory
    digest = shown.grant.version.digest
    if not isinstance(shown.grant, ApplicationTerms):
        digest = shown.grant.application
    version = directory.state.versions.get(digest)
    latest = directory.terms.applications.get(directory.state.objects[version.object_id]) if version else None
    if latest is None:
        raise CommandError(f"the application of {shown.id[:SHOWN_ID]} is not known here")
    return latest


def about_version(session: Session, typed: str, action: "Action.ValueType", text: str = "") -> Step:
    """A step about the latest version of an application: a consent, a submission."""
    application = application_of(session, find_grant(session.directory, typed, now()))
    return Step(action=action, digest=application.version.digest, text=text)


def print_taken(taken: Taken, what: str, as_json: bool) -> None:
    """Print that a step was taken, and what the case waits for now."""
    told = taken.told
    if as_json:
        print_json({"index": taken.index, "case": told.described()})
        return
    print_line(f"{what}: entry {taken.index} of the directory.")
    print_line(told.summary)
