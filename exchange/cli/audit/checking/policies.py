"""The auditor's own policy: which witnesses must have cosigned a checkpoint, and what they say of one.

Policies that come with evidence are for information alone. What counts is --policy FILE, else HOME/witness.policy, else
what the trust file says (C2SP tlog-policy).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.frame.errors import CommandError, ExitCode
from exchange.cli.frame.output import clean
from exchange.cli.frame.times import SECOND, iso
from exchange.core.checkpoint import Checkpoint
from exchange.core.errors import NoteError
from exchange.core.note import Verifier
from exchange.core.policy import NO_WITNESSES, Cosigned, Policy, open_cosigned, parse_policy
from exchange.core.trust import Trust

FILE = "witness.policy"
NO_QUORUM = "split view not excluded: no quorum of witnesses has cosigned"
SEEN_BY_MANY = "a quorum of witnesses saw the same logs"

MEND = "mend the policy, or get it again from whoever wrote it (C2SP tlog-policy)"
RECENT = 100
"""Checkpoints among which the newest with a quorum is looked for."""

PolicyOption = Annotated[
    Path | None,
    typer.Option(
        "--policy",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="Whose cosignatures are needed (C2SP tlog-policy); else HOME/witness.policy, else the trust file's.",
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True)
class Standing:
    """How far the witnesses of the auditor's policy have seen a log, by one of its signed checkpoints.

    Args:
        checkpoint: signed by its log.
        cosignatures: the witness's name in the policy, and when, seconds since 1970.
        quorum: whether the policy is met; None where there is none, or it needs nobody.
        time: the latest moment of a quorum, seconds since 1970; None without one.
        note: the checkpoint as it was signed.
        size: entries of the log that this is said beside: those that are verified.
    """

    checkpoint: Checkpoint
    cosignatures: tuple[tuple[str, int], ...]
    quorum: bool | None
    time: int | None
    note: bytes
    size: int

    @property
    def caveat(self) -> str:
        """What stays open; empty where a quorum of witnesses saw all of it."""
        if self.quorum is None:
            return NO_WITNESSES
        if not self.quorum:
            return NO_QUORUM
        seen = self.checkpoint.size
        return f"split view not excluded from entry {seen} on: not cosigned yet" if seen < self.size else ""

    @property
    def caveats(self) -> tuple[str, ...]:
        """The same as a list, for programs."""
        return (self.caveat,) if self.caveat else ()

    @property
    def exit_code(self) -> ExitCode:
        """How a verification ends that found nothing wrong: without the quorum asked for, it could not be checked."""
        return ExitCode.UNCHECKED if self.quorum is False else ExitCode.DONE

    def __str__(self) -> str:
        """For the last line of a command."""
        parts = [f"cosigned by a quorum to {self.checkpoint.size}"] if self.quorum else []
        return "; ".join((*parts, *self.caveats))

    def beside(self, size: int) -> "Standing":
        """The same, said beside another number of entries."""
        return replace(self, size=size)

    def told(self) -> str:
        """Who cosigned, when, and whether that is enough."""
        if self.quorum is False and not self.cosignatures:
            # Some may have cosigned what was not kept, as it met no quorum.
            return "quorum NOT MET"
        given = ", ".join(f"{name} {iso(time * SECOND)}" for name, time in self.cosignatures) or "none"
        quorum = "no quorum asked for" if self.quorum is None else "quorum met" if self.quorum else "quorum NOT MET"
        behind = f", at {self.checkpoint.size}" if self.quorum and self.checkpoint.size < self.size else ""
        return clean(f"cosignatures {given}; {quorum}{behind}")

    def described(self) -> dict[str, object]:
        """The same for programs."""
        return {
            "cosigned_size": self.checkpoint.size if self.cosignatures else None,
            "cosignatures": [{"witness": name, "time": iso(time * SECOND)} for name, time in self.cosignatures],
            "quorum": self.quorum,
        }


def read_policy(home: Path, trust: Trust, named: Path | None) -> Policy | None:
    """The policy that counts.

    Args:
        home: of the auditor; trust: its trust file.
        named: by --policy; None where it is not.

    Raises:
        CommandError: it cannot be read, or says another key of a log than the trust file.
    """
    path = named or home / FILE
    if named is None and not path.exists():
        return trust.policy
    try:
        policy = parse_policy(path.read_bytes().decode())
    except (NoteError, UnicodeDecodeError) as error:
        raise CommandError(f"{path}: {error}", MEND, ExitCode.UNTRUSTED) from error
    ours = {log.name: log for log in (trust.directory_log, trust.access_log)}
    for log in policy.logs:
        if ours.get(log.verifier.name, log.verifier) != log.verifier:
            text = f"{path}: another key of {log.verifier.name} than in the trust file"
            raise CommandError(text, MEND, ExitCode.UNTRUSTED)
    return policy


def standing(note: bytes, verifier: Verifier, policy: Policy | None) -> Standing:
    """Verify a checkpoint and its cosignatures.

    Args:
        note: the signed checkpoint; verifier: its log's key.
        policy: the auditor's.

    Raises:
        NoteError: it is not the log's, or a cosignature by a witness of the policy fails.
    """
    opened = open_cosigned(note, verifier, policy or Policy())
    return _standing(opened, policy, note)


def newest_standing(notes: Sequence[bytes], verifier: Verifier, policy: Policy | None) -> Standing:
    """The newest checkpoint that meets the policy, or the newest of all where none does.

    Args:
        notes: signed checkpoints of one log, the newest first, at least one.
        verifier: the log's key; policy: the auditor's.

    Raises:
        NoteError: as `standing`.
    """
    newest = standing(notes[0], verifier, policy)
    if newest.quorum is not False:
        return newest
    older = (standing(note, verifier, policy) for note in notes[1:])
    return next((item for item in older if item.quorum), newest)


def of_quorum(cosigned: Cosigned | None, own: Checkpoint, note: bytes, policy: Policy | None) -> Standing:
    """What a checkpoint that met the policy says beside a log's newest.

    Args:
        cosigned: of the same history; None where no quorum cosigned any.
        own: the newest, signed by its log alone.
        note: of `cosigned` where there is one, else of `own`.
        policy: the auditor's.
    """
    if cosigned is None:
        return Standing(own, (), False if _needed(policy) else None, None, note, own.size)
    return Standing(cosigned.checkpoint, cosigned.cosignatures, True, cosigned.time, note, own.size)


def _standing(opened: Cosigned, policy: Policy | None, note: bytes) -> Standing:
    quorum = opened.quorum if _needed(policy) else None
    return Standing(opened.checkpoint, opened.cosignatures, quorum, opened.time, note, opened.checkpoint.size)


def _needed(policy: Policy | None) -> bool:
    return policy is not None and policy.needs_witnesses
