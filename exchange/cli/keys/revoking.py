"""`exchange key revoke`, `cancel` and `pending`: a key ends, and what it did since it was stolen is looked up."""

import asyncio
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

import typer

from exchange.cli.frame.acting import act
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption
from exchange.cli.frame.errors import CommandError, ExitCode, WrongUsageError
from exchange.cli.frame.output import clean, grouped, print_json, print_line, print_table
from exchange.cli.frame.texts import check_text
from exchange.cli.frame.times import day_of, iso, now
from exchange.cli.keys.succeeding import require_key_id
from exchange.client.errors import ExchangeError
from exchange.client.key_accesses import KeyAccess, own_accesses_of
from exchange.client.session import MIRROR, Session
from exchange.client.storage import MirrorFile
from exchange.core.access import kind_name
from exchange.core.entries import revocation_entry
from exchange.core.envelope import ENTRY, decode_envelope
from exchange.core.expiry import pending_keys
from exchange.core.keys import key_id
from exchange.core.names import Party
from exchange.core.state import OBJECT_ID, KeyRecord, State, is_signing
from exchange.core.wire import decode
from exchange.v1.directory_pb2 import DirectoryLeaf, Role

KeyArgument = Annotated[
    str, typer.Argument(metavar="[KEY-ID]", help="The key's fingerprint, or 8 or more digits from its beginning.")
]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; everybody can read it.", show_default=False)]


@dataclass(frozen=True, slots=True)
class Revoked:
    """A key that ended.

    Args:
        key: its record; index: of the entry that ended it.
    """

    key: KeyRecord
    index: int


@dataclass(frozen=True, slots=True)
class Revocations:
    """What a revocation did, and what there is to look at.

    Args:
        revoked: the key, and those that it had given since in its own party's name.
        given: keys that it had given to others since, or to its own party before: they stand.
        accesses: what it signed since; None where nobody could be asked, and `problem` says why.
    """

    revoked: tuple[Revoked, ...]
    given: tuple[KeyRecord, ...]
    accesses: tuple[KeyAccess, ...] | None
    problem: str = ""


def revoke(
    reason: ReasonOption,
    key: KeyArgument = "",
    since: Annotated[
        str, typer.Option(metavar="TIME", help="Since when it is no longer yours alone: a day or a time, UTC.")
    ] = "",
    replaced: Annotated[
        bool,
        typer.Option("--replaced", help="All earlier signing keys of this party: the present one took their place."),
    ] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """End a key of this party, or of one below it, at once and for good; without a key, list those that stand.

    What was decided before stays decided. --since says from when on nobody should rely on it: the keys that it gave
    its own party since then end with it, and what it signed since is listed from the access log.
    """
    check_text("--reason", reason)
    moment = past_moment(since, "--since") if since else 0
    if replaced:
        if key or since:
            raise WrongUsageError("--replaced names the keys itself, and says nothing of a theft", "leave the rest out")
        done = act(home, lambda session: _revoke_replaced(session, reason))
    else:
        done = act(home, lambda session: _revoke(session, key, reason, moment))
    if as_json:
        print_json(_described(done))
        return
    if replaced:
        _show_revoked(done)
    else:
        _show(done, moment)


def cancel(
    key: Annotated[str, typer.Argument(metavar="KEY-ID", help="The pending key, as `exchange key pending` shows it.")],
    reason: ReasonOption = "Not asked for by this party",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Cancel a key that stands in public view, with the old key of the same party: it never takes effect."""
    check_text("--reason", reason)
    prefix = require_key_id(key)

    async def cancelled(session: Session) -> Revoked:
        pending = pending_keys(session.directory.state, now())
        found = [record for record in pending if record.key_id.hex().startswith(prefix)]
        if len(found) != 1:
            problem = "no pending key" if not found else f"{len(found)} pending keys"
            raise CommandError(f"{problem} begins with {prefix}", "`exchange key pending` lists them", ExitCode.USAGE)
        return Revoked(found[0], await _append(session, found[0], reason, 0))

    done = act(home, cancelled)
    if as_json:
        print_json(_described(Revocations((done,), (), ())))
        return
    print_line(f"Cancelled: the key {grouped(done.key.key_id[:8])} … of {done.key.party} never takes effect.")
    print_line(f"entry {done.index} of {done.key.party.domain}/directory")


def pending(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List the keys of any party that stand in public view, and when they take effect."""

    async def found(session: Session) -> tuple[KeyRecord, ...]:
        return pending_keys(session.directory.state, now())

    records = act(home, found)
    if as_json:
        print_json([described_pending(record) for record in records])
    elif records:
        print_table(("key", "party", "takes effect (UTC)"), [_pending_row(record) for record in records])
    else:
        print_line("No key stands in public view.")


def described_pending(record: KeyRecord) -> dict[str, object]:
    """A key in public view, for programs."""
    return {"key": record.key_id, "party": str(record.party), "takes_effect": iso(record.not_before)}


def pending_line(record: KeyRecord) -> str:
    """A key in public view, in a line for `status`."""
    when = iso(record.not_before).removesuffix("Z").replace("T", " ")
    return f"{record.party}: {record.key_id.hex()[:16]} …, from {when} UTC unless its old key cancels it"


def past_moment(text: str, option: str) -> int:
    """A time that has been, milliseconds; without an offset it is UTC, and a day is its first moment.

    Args:
        text: YYYY-MM-DD, or a time as ISO 8601; option: where it was typed, for the error.

    Raises:
        WrongUsageError: no time, or one to come.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        hint = "write a day or a time in UTC, such as 2027-01-15 or 2027-01-15T08:30"
        raise WrongUsageError(f"{option}: not a time: {text[:100]}", hint) from None
    moment = int((found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp() * 1000)
    if not 0 < moment <= now():
        raise WrongUsageError(f"{option}: {text} is not a time that has been", "say since when the key was not safe")
    return moment


async def _revoke(session: Session, typed: str, reason: str, since: int) -> Revocations:
    record = _chosen(session, typed)
    if record.key_id == key_id(session.signer.public_key):
        return await _revoke_own(session, record, reason, since)
    revoked = [Revoked(record, await _append(session, record, reason, since))]
    # Whoever has the key may have renewed it: each round ends what it gave, until nothing of it stands.
    while since and (renewed := _standing(session, await _given(session, revoked, since), record)):
        for key in renewed:
            index = await _append(session, key, reason, since)
            revoked.append(Revoked(key, index))
    accesses, problem = await _accesses(session, revoked, since)
    return Revocations(tuple(revoked), await _others(session, revoked, since), accesses, problem)


async def _revoke_replaced(session: Session, reason: str) -> Revocations:
    """End the earlier signing keys of the party, which the home's present one has replaced."""
    state = session.directory.state
    own = state.keys.get(key_id(session.signer.public_key))
    if own is None or not session.directory.is_usable(own, now()):
        hint = "exchange key rotate goes over to it, once it is"
        raise CommandError("the key of this home is not in force: it has replaced none", hint)
    earlier = [record for record in state.keys_of(session.party) if is_signing(record) and record.index < own.index]
    revoked = []
    for record in earlier:
        if record.revoked_index is None:
            index = await _append(session, record, reason, 0)
            revoked.append(Revoked(record, index))
    return Revocations(tuple(revoked), (), ())


async def _revoke_own(session: Session, record: KeyRecord, reason: str, since: int) -> Revocations:
    """End the key that this home signs with: last of all, for no broker lets the home in afterwards."""
    # Its index is known once it is entered, below.
    revoked = [Revoked(record, record.index)]
    for key in _standing(session, await _given(session, revoked, since), record) if since else ():
        index = await _append(session, key, reason, since)
        revoked.append(Revoked(key, index))
    others = await _others(session, revoked, since)
    accesses, problem = await _accesses(session, revoked, since)
    revoked[0] = Revoked(record, await _append(session, record, reason, since))
    return Revocations(tuple(revoked), others, accesses, problem)


def _chosen(session: Session, typed: str) -> KeyRecord:
    """The key that was meant, among those that this party may end and that stand."""
    state = session.directory.state
    standing = [record for record in _own(session, state) if record.revoked_index is None]
    prefix = require_key_id(typed) if typed else ""
    found = [record for record in standing if prefix and record.key_id.hex().startswith(prefix)]
    if len(found) == 1:
        return found[0]
    listed = "; ".join(f"{item.key_id.hex()[:16]} of {item.party}, until {day_of(item.not_after)}" for item in standing)
    problem = f"{len(found) or 'no'} keys that may be revoked here begin with {prefix}" if prefix else "which key?"
    raise CommandError(problem, f"those that stand: {listed or 'none'}", ExitCode.USAGE)


def _own(session: Session, state: State) -> list[KeyRecord]:
    covered = (name for name in state.parties if session.party.covers(Party.parse(name)))
    records = (state.keys[key] for name in covered for key in state.parties[name])
    return [record for record in records if record.role != Role.ROLE_ROOT]


async def _append(session: Session, record: KeyRecord, reason: str, since: int) -> int:
    draft = revocation_entry(session.party, secrets.token_bytes(OBJECT_ID), record.key_id, reason, since)
    return (await session.append(session.sign(draft))).index


async def _given(session: Session, revoked: list[Revoked], since: int) -> tuple[KeyRecord, ...]:
    """Signing keys that the revoked ones gave, as their entries in the mirror say, and that stand."""
    state = session.directory.state
    signers = {item.key.key_id for item in revoked}
    first = min(item.key.index for item in revoked)
    own = [state.keys[key] for name in state.parties for key in state.parties[name]]
    later = [item for item in own if item.index > first and is_signing(item) and item.revoked_index is None]
    file = MirrorFile(session.home.path / MIRROR)
    return tuple([item for item in later if await asyncio.to_thread(_is_given, file, item, signers, since)])


def _is_given(file: MirrorFile, record: KeyRecord, signers: set[bytes], since: int) -> bool:
    leaf = decode(DirectoryLeaf, file.page(record.index, record.index + 1)[0].leaf)
    return leaf.time >= since and decode_envelope(leaf.envelope, ENTRY).key_id in signers


def _standing(session: Session, given: tuple[KeyRecord, ...], revoked: KeyRecord) -> list[KeyRecord]:
    state = session.directory.state
    return [key for key in given if key.party == revoked.party and state.keys[key.key_id].revoked_index is None]


async def _others(session: Session, revoked: list[Revoked], since: int) -> tuple[KeyRecord, ...]:
    ended = {item.key.key_id for item in revoked}
    return tuple(key for key in await _given(session, revoked, since) if key.key_id not in ended)


async def _accesses(session: Session, revoked: list[Revoked], since: int) -> tuple[tuple[KeyAccess, ...] | None, str]:
    """What the keys signed, or why that cannot be read here."""
    if session.home.role == "root":
        return None, "the access log is not shown to the root; an auditor reads it"
    try:
        found = [access for item in revoked async for access in own_accesses_of(session, item.key.key_id, since)]
    except ExchangeError as error:
        return None, str(error)
    return tuple(sorted(found, key=lambda access: access.index)), ""


def _show_revoked(done: Revocations) -> None:
    if not done.revoked:
        print_line("No earlier key stands.")
    for item in done.revoked:
        what = "signing" if is_signing(item.key) else "sealing"
        print_line(f"Revoked the {what} key {grouped(item.key.key_id[:8])} … of {item.key.party}, entry {item.index}.")


def _show(done: Revocations, since: int) -> None:
    _show_revoked(done)
    for key in done.given:
        print_line(f"It gave {key.party} the key {grouped(key.key_id[:8])} …, which stands: is it theirs?")
    print_line()
    when = f"since {iso(since)}" if since else "ever"
    if done.accesses is None:
        print_line(f"What it signed {when} could not be read: {clean(done.problem)}")
    elif done.accesses:
        entries = "1 entry" if len(done.accesses) == 1 else f"{len(done.accesses)} entries"
        print_line(f"It signed {entries} of the access log {when}, as the broker shows them:")
        print_table(_COLUMNS, [_row(access) for access in done.accesses])
    else:
        print_line(f"It signed nothing {when} that the broker shows this party.")
    print_line(f"An auditor proves it: exchange-audit search --key {done.revoked[0].key.key_id.hex()}")


_COLUMNS = ("index", "time (UTC)", "kind", "signed", "requester", "provider")


def _row(access: KeyAccess) -> tuple[object, ...]:
    when = iso(access.time).removesuffix("Z").replace("T", " ")
    return (
        access.index,
        when,
        kind_name(access.kind),
        ", ".join(access.signed),
        access.requester or None,
        access.provider or None,
    )


def _pending_row(record: KeyRecord) -> tuple[object, ...]:
    return record.key_id.hex()[:16], record.party, iso(record.not_before).removesuffix("Z").replace("T", " ")


def _described(done: Revocations) -> dict[str, object]:
    accesses = done.accesses
    return {
        "revoked": [
            {"key": item.key.key_id, "party": str(item.key.party), "index": item.index} for item in done.revoked
        ],
        "given_and_standing": [{"key": key.key_id, "party": str(key.party)} for key in done.given],
        "accesses": None if accesses is None else [_described_access(access) for access in accesses],
        "problem": done.problem or None,
    }


def _described_access(access: KeyAccess) -> dict[str, object]:
    return {
        "index": access.index,
        "time": iso(access.time),
        "kind": kind_name(access.kind),
        "signed": list(access.signed),
        "requester": access.requester or None,
        "provider": access.provider or None,
    }
