"""The parent's side of admission: check a key request, sign its key, and give back certificate and trust file.

The root admits departments, coordinators and auditors; a department its systems and heads. Both do the same.
"""

import asyncio
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.frame.acting import act, new_object
from exchange.cli.frame.errors import CommandError, ExitCode, WrongUsageError, say
from exchange.cli.frame.fingerprints import is_fingerprint
from exchange.cli.frame.homes import require_role
from exchange.cli.frame.output import grouped, print_json, print_line, print_pairs
from exchange.cli.frame.times import day_of, now
from exchange.cli.joining.admission import (
    BELOW_A_DEPARTMENT,
    MAX_FILE,
    Admission,
    AdmissionError,
    KeyRequest,
    read_admission,
    read_key_request,
)
from exchange.client.session import MIRROR, Session
from exchange.client.storage import MirrorFile
from exchange.core.entries import key_entry
from exchange.core.envelope import ENTRY, Envelope, decode_envelope
from exchange.core.names import Party
from exchange.core.state import KeyRecord, is_signing
from exchange.core.wire import decode
from exchange.home import Home, check_writable, write_file
from exchange.v1.directory_pb2 import DirectoryLeaf, Entry

RequestArgument = Annotated[
    Path,
    typer.Argument(metavar="REQUEST", exists=True, dir_okay=False, help="The key request, from `exchange key new`."),
]
FingerprintOption = Annotated[
    str, typer.Option("--fingerprint", metavar="HEX", help="What they read out by telephone.", show_default=False)
]
UncheckedOption = Annotated[bool, typer.Option("--unchecked", help="Sign although nobody compared the fingerprint.")]
OutOption = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Where the admission goes.")]


@dataclass(frozen=True, slots=True)
class Admitted:
    """What the directory holds now: the entry's index, and whether it was there before."""

    index: int
    certificate: bytes
    before: bool
    waits: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """How the fingerprint of a key request was compared: as a person typed it, or not at all, and knowingly.

    `optional` says whether the command lets it be left out at all.
    """

    typed: str = ""
    unchecked: bool = False
    optional: bool = True


def admit(home: Path, path: Path, comparison: Comparison, out: Path | None, as_json: bool, role: str = "") -> None:
    """Admit what a key request asks for, and write the admission.

    Args:
        home: the parent's; path: the key request.
        role: the only one that may be asked for; empty is any.
        comparison: of the fingerprint; on a terminal a person is asked where there is none.
        out: where the admission goes; None is beside the request.

    Raises:
        CommandError: the request does not hold, or is not this parent's to sign.
    """
    party = Home(home).acts_for
    request = read_key_request(path.read_bytes(), now())
    check_parent(party, request)
    if role and request.role != role:
        raise CommandError(
            f"the request is of a {request.role}, not of a {role}",
            f"`exchange {request.role} add` admits it, if that is what was meant",
            ExitCode.USAGE,
        )
    target = out or _beside(path)
    # Asked before the key is signed, not after.
    _check_target(target, request.party)
    check_fingerprint(request, comparison)
    admitted = act(home, lambda session: append_request(session, request))
    trust = Home(home).read("trust.toml").decode("utf-8-sig")
    write_file(target, Admission(request.party, admitted.certificate, trust).encode(), 0o644)
    if as_json:
        print_json(_described(request, admitted, target))
    else:
        _show(request, admitted, target)


def require_parent(home: Path, role: str) -> None:
    """Refuse a home that cannot admit this kind of party.

    Raises:
        CommandError: not the operator's (role root), or not a department's.
    """
    what = "only the operator admits these" if role == "root" else "only a department's steward adds to it"
    require_role(home, role, what)


async def append_request(session: Session, request: KeyRequest) -> Admitted:
    """Sign a new party's key and append it; where it was appended before, its certificate is renewed.

    Raises:
        CommandError: the key is revoked, or was admitted with another certificate request.
    """
    record = session.directory.state.keys.get(request.fingerprint)
    if record is not None:
        # The same entry again: nothing new in the log, and a new certificate where the old one is lost or old.
        envelope = await _entered(session, request, record)
    else:
        draft = key_entry(session.party, new_object().object_id, request.statement, request.csr)
        envelope = session.sign(draft)
    waits = record is None and _has_key(session, request)
    appended = await session.append(envelope)
    return Admitted(appended.index, appended.certificate, record is not None, waits)


async def _entered(session: Session, request: KeyRequest, record: KeyRecord) -> Envelope:
    """The entry that admitted this key, with the certificate request attached again."""
    if record.revoked_index is not None:
        raise CommandError(f"this key of {record.party} is revoked", "they make a new home with `exchange key new`")
    file = MirrorFile(session.home.path / MIRROR)
    loaded = await asyncio.to_thread(file.load, record.index)
    envelope = decode_envelope(decode(DirectoryLeaf, loaded.entries[0].leaf).envelope, ENTRY)
    if decode(Entry, envelope.payload).key.csr_sha256 != request.statement.csr_sha256:
        raise CommandError("this key was admitted with another certificate request", "ask for that request file")
    return replace(envelope, attachments=(request.csr,))


def _has_key(session: Session, request: KeyRequest) -> bool:
    """Whether the root signs a later key of a party, which then waits 72 hours in public view (DESIGN section 2)."""
    if request.statement.succession:
        return False
    earlier = session.directory.state.keys_of(request.party)
    return request.role not in BELOW_A_DEPARTMENT and any(is_signing(record) for record in earlier)


def check_parent(party: Party, request: KeyRequest) -> None:
    """Refuse a request that is another parent's to sign.

    Raises:
        CommandError: it is.
    """
    parent = request.party.parent
    if parent != party:
        who = "the operator" if parent is None or parent.is_exchange else f"the steward of {parent}"
        raise CommandError(f"{party} cannot admit {request.party}", f"that is for {who} to do", ExitCode.USAGE)


def check_fingerprint(request: KeyRequest, comparison: Comparison) -> None:
    """Have a person compare: a request exchanged on its way would prove the possession of somebody else's key.

    Raises:
        AdmissionError: another fingerprint, or nobody has compared it.
    """
    typed = comparison.typed
    if typed and not is_fingerprint(typed, request.fingerprint):
        raise AdmissionError(
            "the key request has another fingerprint than the one typed",
            f"it has {grouped(request.fingerprint)}; nothing was signed",
            ExitCode.UNTRUSTED,
        )
    if typed:
        return
    say(f"The signing key of {request.party} has the fingerprint\n  {grouped(request.fingerprint)}")
    if comparison.unchecked:
        say("Nobody compared it: whoever could change the request on its way may hold this key.")
    elif not sys.stdin.isatty():
        raise AdmissionError(
            "nobody has compared the fingerprint; nothing was signed",
            "type what they read out by telephone after --fingerprint"
            + ("; --unchecked signs whatever came" if comparison.optional else ""),
            ExitCode.UNTRUSTED,
        )
    elif not typer.confirm("Did they read out the same by telephone?", err=True):
        raise AdmissionError("the key is not trusted; nothing was signed", "", ExitCode.UNTRUSTED)


def _beside(request: Path) -> Path:
    target = request.with_name(request.name.replace("request", "admission"))
    return target if target != request else request.with_name(f"{request.stem}.admission.json")


def _check_target(target: Path, party: Party) -> None:
    """An admission replaces an earlier one of the same party, and nothing else that is there."""
    hint = "choose another place with --out"
    if target.exists() and not target.is_file():
        what = "a folder" if target.is_dir() else "not a plain file"
        raise WrongUsageError(f"the admission cannot be written to {target}: it is {what}", hint)
    if target.exists() and not _is_admission(target, party):
        raise WrongUsageError(f"{target} exists, and is not an admission of {party}: it is not replaced", hint)
    if not target.parent.is_dir():
        raise WrongUsageError(f"the admission cannot be written to {target}: there is no such folder", hint)
    check_writable(target)


def _is_admission(path: Path, party: Party) -> bool:
    with path.open("rb") as file:
        data = file.read(MAX_FILE + 1)
    try:
        return read_admission(data).party == party
    except AdmissionError:
        return False


def _described(request: KeyRequest, admitted: Admitted, target: Path) -> dict[str, object]:
    return {
        "party": str(request.party),
        "role": request.role,
        "fingerprint": request.fingerprint,
        "index": admitted.index,
        "admitted_before": admitted.before,
        "waits_in_public_view": admitted.waits,
        "admission": str(target),
    }


def _show(request: KeyRequest, admitted: Admitted, target: Path) -> None:
    if admitted.before:
        print_line(f"{request.party} was admitted before; its certificate is renewed.")
    else:
        print_line(f"Admitted {request.party} ({request.role}).")
    print_line()
    print_pairs(
        {
            "entry": f"{admitted.index} of {request.party.domain}/directory",
            "fingerprint": grouped(request.fingerprint),
            "key valid until": day_of(request.key.not_after),
            "admission": target,
        }
    )
    print_line()
    if admitted.waits:
        print_line("It has an earlier key, and this one takes effect after 72 hours in public view.")
    print_line(f"Next: send {target.name} back; they run `exchange key install {target.name} --home DIR`.")
