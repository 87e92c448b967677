"""The parent's side of joining: invite, reject, approve. The root and a department's steward do the same."""

import hashlib
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.frame.acting import act
from exchange.cli.frame.errors import CommandError, ExitCode, WrongUsageError
from exchange.cli.frame.output import grouped, print_json, print_line, print_pairs
from exchange.cli.frame.times import DAY, SECOND, day_of, iso, now
from exchange.cli.joining import pending
from exchange.cli.joining.admission import ROLES, KeyRequest, key_request_of, role_of
from exchange.cli.joining.admitting import Admitted, Comparison, append_request, check_fingerprint, check_parent
from exchange.cli.joining.invite_file import CODE, InviteFile
from exchange.cli.joining.offline import read_signed
from exchange.client.session import Session
from exchange.core.directory import Directory
from exchange.core.keys import key_id
from exchange.core.names import Party, lookalike
from exchange.core.state import is_signing
from exchange.home import Home, check_writable, write_file
from exchange.v1.joining_pb2 import InviteRequest

PartyArgument = Annotated[str, typer.Argument(metavar="NAME", help="Its name, in full or the last part of it.")]
ExpiresOption = Annotated[str, typer.Option(metavar="SPAN", help="How long it is valid: 12h, 7d; 30 days at most.")]
InviteOutOption = Annotated[
    Path | None, typer.Option("--out", metavar="FILE", help="Where the invite goes.", show_default="NAME.invite")
]
AllOption = Annotated[bool, typer.Option("--all", help="Those that are settled or have expired, too.")]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; they are told.")]
ExportOption = Annotated[
    Path | None, typer.Option("--export", metavar="FILE", help="Sign nothing: write what the root is to sign.")
]
ImportOption = Annotated[
    Path | None,
    typer.Option("--import", metavar="FILE", exists=True, dir_okay=False, help="What was signed elsewhere."),
]

_SPAN = re.compile(r"([1-9][0-9]{0,3})([mhd])", re.ASCII)
_UNITS = {"m": 60 * SECOND, "h": 3600 * SECOND, "d": DAY}
_LONGEST = 30 * DAY


@dataclass(frozen=True, slots=True)
class Signing:
    """Where a key is signed: here, or elsewhere by way of files.

    Args:
        export: where the key request goes; signed: what came back.
    """

    export: Path | None = None
    signed: Path | None = None


def invite(home: Path, text: str, role: str, expires: str, out: Path | None, as_json: bool) -> None:
    """Make an invite, and write its file.

    Args:
        home: the parent's.
        text: who is invited; role: as what, empty where it follows from the name.
        expires: how long from now.
        out: where it goes; None is NAME.invite in this folder.

    Raises:
        CommandError: the name or the span is none, or the file cannot be written.
        RefusedError: the name is taken or looks like another.
    """
    party = pending.party_of(home, text)
    chosen = role_of(party, role)
    target = out or Path(f"{party.segments[-1]}.invite")
    if target.exists():
        raise WrongUsageError(f"{target} exists already: it is not replaced", "choose another place with --out")
    check_writable(target)
    # Whole seconds, as the file has them.
    expires_at = (now() + span_of(expires)) // SECOND * SECOND
    code = secrets.token_bytes(CODE)
    request = InviteRequest(
        party=str(party), role=ROLES[chosen], code_sha256=hashlib.sha256(code).digest(), expires_at=expires_at
    )
    address = act(home, lambda session: _invited(session, party, request))
    trust = Home(home).read("trust.toml").decode("utf-8-sig")
    write_file(target, InviteFile(party, chosen, code, expires_at, address, trust).encode(), 0o600)
    root = key_id(Home(home).trust.root_key)
    if as_json:
        described = {"party": str(party), "role": chosen, "invite": str(target), "expires_at": iso(expires_at)}
        print_json({**described, "address": address, "root_fingerprint": root})
        return
    print_line(f"Invited {party} ({chosen}).")
    print_line()
    pairs = {"invite": target, "valid until": iso(expires_at), "handed in at": address}
    print_pairs({**pairs, "root fingerprint": grouped(root)})
    print_line()
    print_line(f"Next: send {target.name} to them; it works once, and admits nobody before you approve.")
    print_line(f"      They run `exchange join {target.name} --home DIR`, and read out a fingerprint by telephone.")


def approve(home: Path, text: str, comparison: Comparison, signing: Signing, as_json: bool) -> None:
    """Sign the key that was handed in with an invite, and append it; or write it for signing, or append what came back.

    Args:
        home: the parent's.
        text: who is approved.
        comparison: of the fingerprint, unless it is signed elsewhere.
        signing: where.

    Raises:
        CommandError: nobody waits, the request does not hold, or the fingerprint is another.
        ExchangeError: the broker refuses, or cannot be reached.
    """
    if signing.export is not None and signing.signed is not None:
        raise WrongUsageError("--export and --import are two steps: choose one")
    party = pending.party_of(home, text)
    request = act(home, lambda session: _waiting(session, party))
    if signing.export is not None:
        _export(request, signing.export, as_json)
        return
    if signing.signed is not None:
        envelope = read_signed(signing.signed.read_bytes(), request, Home(home).trust.root_key)
        index = act(home, lambda session: session.append(envelope)).index
        _print_approved(request, index, as_json)
        return
    _check_key_is_here(home)
    check_fingerprint(request, comparison)
    admitted: Admitted = act(home, lambda session: append_request(session, request))
    _print_approved(request, admitted.index, as_json)


def reject(home: Path, text: str, reason: str, as_json: bool) -> None:
    """Turn away whoever came with an invite, or take one back.

    Raises:
        WrongUsageError: no reason.
        ExchangeError: the broker refuses, or cannot be reached.
    """
    party = pending.party_of(home, text)
    if not reason.strip():
        raise WrongUsageError("--reason: say why: they are told")
    pending.reject(home, party, reason)
    if as_json:
        print_json({"party": str(party), "state": "rejected", "reason": reason})
    else:
        print_line(f"Rejected {party}: nothing was signed, and they are told why.")


def span_of(text: str) -> int:
    """A span of time in milliseconds: 30m, 12h, 7d.

    Raises:
        WrongUsageError: not one, or longer than 30 days.
    """
    found = _SPAN.fullmatch(text)
    span = int(found[1]) * _UNITS[found[2]] if found else 0
    if not 0 < span <= _LONGEST:
        raise WrongUsageError(f"--expires: {text} is no span of up to 30 days", "write it as 12h or 7d")
    return span


async def _invited(session: Session, party: Party, request: InviteRequest) -> str:
    """Where the invite is handed in, once the broker has it."""
    _refuse_name(session.directory, party)
    return (await pending.invite(session, request)).address


async def _waiting(session: Session, party: Party) -> KeyRequest:
    """What waits, checked as if it had come by post, and against the directory that is verified here."""
    joining = await pending.waiting(session, party)
    role = pending.ROLE_NAMES.get(joining.role, "")
    request = key_request_of(joining.party, role, joining.statement, joining.csr, now())
    check_parent(session.party, request)
    if request.fingerprint not in session.directory.state.keys:
        _refuse_name(session.directory, party)
    return request


def _refuse_name(directory: Directory, party: Party) -> None:
    keys = directory.state.keys_of(party)
    if any(is_signing(record) for record in keys):
        command = "exchange system add" if party.is_system else "exchange department admit"
        hint = f"choose another name; a later key of the same party goes by files: `exchange key new`, then `{command}`"
        raise CommandError(f"{party} has a key in the directory: the name is taken", hint)
    near = lookalike(party, (record.party for record in directory.state.keys.values()))
    if near is not None:
        hint = "choose a name that nobody takes for another: o and 0, l, i and 1 and hyphens are read as the same"
        raise CommandError(f"{party} looks like {near}", hint)


def _check_key_is_here(home: Path) -> None:
    place = Home(home)
    if not (place.keys / "signing.pem").exists():
        raise CommandError(
            f"the signing key of {place.party} is not in {place.keys}",
            "where it is kept offline: --export FILE here, `exchange department sign FILE` there, --import FILE here",
            ExitCode.UNCHECKED,
        )


def _export(request: KeyRequest, target: Path, as_json: bool) -> None:
    if target.exists():
        raise WrongUsageError(f"{target} exists already: it is not replaced", "choose another place")
    write_file(target, request.encode(), 0o644)
    if as_json:
        print_json({"party": str(request.party), "request": str(target), "fingerprint": request.fingerprint})
        return
    print_line(f"Wrote {target}; nothing was signed.")
    print_line()
    print_line("Next: carry it to the machine that keeps the root key, and there type what they read out by telephone:")
    print_line(f"      exchange department sign {target.name} --fingerprint '…' --home DIR")


def _print_approved(request: KeyRequest, index: int, as_json: bool) -> None:
    if as_json:
        described = {"party": str(request.party), "role": request.role, "fingerprint": request.fingerprint}
        print_json({**described, "index": index, "state": "approved"})
        return
    print_line(f"Approved {request.party} ({request.role}).")
    print_line()
    print_pairs(
        {
            "entry": f"{index} of {request.party.domain}/directory",
            "fingerprint": grouped(request.fingerprint),
            "key valid until": day_of(request.key.not_after),
        }
    )
    print_line()
    print_line("Next: they run `exchange join --status --home DIR`, which installs their certificate.")
