"""A parent's invites as its broker has them: fetched, named, shown. Nothing in them is trusted before it is checked."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from exchange.cli.frame.acting import act
from exchange.cli.frame.errors import CommandError, WrongUsageError
from exchange.cli.frame.output import grouped, print_json, print_line, print_table
from exchange.cli.frame.times import age, iso, now
from exchange.cli.joining.admission import ROLES
from exchange.client.calls import call
from exchange.client.session import TIMEOUT, Session
from exchange.core.errors import CoreError
from exchange.core.keys import key_id
from exchange.core.names import Party
from exchange.core.wire import decode
from exchange.home import Home
from exchange.transport import INVITE, PENDING, REJECT
from exchange.v1.directory_pb2 import Key, KeyStatement, Role
from exchange.v1.joining_pb2 import (
    InviteRequest,
    InviteResponse,
    Joining,
    JoinState,
    PendingRequest,
    PendingResponse,
    RejectRequest,
    RejectResponse,
)

ROLE_NAMES: Mapping["Role.ValueType", str] = MappingProxyType({number: name for name, number in ROLES.items()})
_OPEN = frozenset({JoinState.JOIN_STATE_INVITED, JoinState.JOIN_STATE_WAITING})


def party_of(home: Path, text: str) -> Party:
    """A party below a home's own, as a person types it: in full, or its last part alone.

    Raises:
        WrongUsageError: not a name, or not the name of a party below this one.
    """
    parent = Home(home).acts_for
    try:
        party = Party.parse(text) if "://" in text else _below(parent, text)
    except CoreError as error:
        lower = text.lower()
        hint = "a name has small letters a to z, digits and hyphens, so that no two look alike"
        if lower != text and lower.isascii():
            hint = f"{hint}: write {lower}"
        raise WrongUsageError(str(error), hint) from error
    if party.parent != parent:
        raise WrongUsageError(f"{party} does not lie below {parent}", "choose the parent's home with --home")
    return party


async def invite(session: Session, request: InviteRequest) -> InviteResponse:
    """Ask the broker to keep an invite.

    Raises:
        ExchangeError: it refuses, or cannot be reached.
    """
    return await call(session.transport, INVITE, request, InviteResponse, TIMEOUT)


def reject(home: Path, party: Party, reason: str) -> None:
    """Ask the broker to turn away whoever came.

    Raises:
        ExchangeError: it refuses, or cannot be reached.
    """
    request = RejectRequest(party=str(party), reason=reason)
    act(home, lambda session: call(session.transport, REJECT, request, RejectResponse, TIMEOUT))


async def fetch(session: Session) -> list[Joining]:
    """All invites of the party that acts.

    Raises:
        ExchangeError: the broker refuses, or cannot be reached.
    """
    return list((await call(session.transport, PENDING, PendingRequest(), PendingResponse, TIMEOUT)).joinings)


async def waiting(session: Session, party: Party) -> Joining:
    """The invite of a party whose key request waits, or was approved.

    Raises:
        CommandError: nobody waits under that name.
    """
    invites = await fetch(session)
    found = next((joining for joining in invites if joining.party == str(party)), None)
    if found is None:
        raise CommandError(f"{party} is not invited", f"`exchange {_group(party)} pending --all` lists the invites")
    if found.state == JoinState.JOIN_STATE_REJECTED:
        raise CommandError(f"{party} was rejected: {found.reason}", f"`exchange {_group(party)} invite` invites anew")
    if not found.statement:
        hint = "wait until they have run `exchange join`, or invite them again if the invite has expired"
        raise CommandError(f"nobody has come with the invite of {party} yet", hint)
    return found


def fingerprint_of(joining: Joining) -> bytes:
    """The id of the key that was handed in; empty where none was."""
    if not joining.statement:
        return b""
    return key_id(decode(Key, decode(KeyStatement, joining.statement).statement).public_key)


def show(home: Path, all_of_them: bool, as_json: bool) -> None:
    """Print the invites of a home's party: those that are open, or all."""
    found = [joining for joining in act(home, fetch) if all_of_them or joining.state in _OPEN]
    if as_json:
        print_json([_described(joining) for joining in found])
        return
    if not found:
        print_line("Nobody is invited." if all_of_them else "Nobody waits, and no invite is open.")
        return
    at = now()
    rows = [
        (
            joining.party,
            ROLE_NAMES.get(joining.role, "?"),
            state_of(joining),
            age(joining.since, at),
            grouped(fingerprint_of(joining)) or None,
        )
        for joining in found
    ]
    print_table(("party", "role", "state", "since", "fingerprint"), rows)
    first = next((joining for joining in found if joining.state == JoinState.JOIN_STATE_WAITING), None)
    if first is not None:
        party = Party.parse(first.party)
        print_line()
        print_line("Next: have them read out the fingerprint by telephone, and type what you hear:")
        print_line(f"      exchange {_group(party)} approve {party.segments[-1]} --fingerprint '…' --home {home}")


def state_of(joining: Joining) -> str:
    """Its state in a word."""
    return JoinState.Name(joining.state).removeprefix("JOIN_STATE_").lower()


def _described(joining: Joining) -> dict[str, object]:
    return {
        "party": joining.party,
        "role": ROLE_NAMES.get(joining.role),
        "state": state_of(joining),
        "since": iso(joining.since),
        "expires_at": iso(joining.expires_at),
        "fingerprint": fingerprint_of(joining) or None,
        "reason": joining.reason or None,
    }


def _below(parent: Party, segment: str) -> Party:
    return Party.parse(f"{parent}/{segment}")


def _group(party: Party) -> str:
    return "system" if party.is_system else "department"
