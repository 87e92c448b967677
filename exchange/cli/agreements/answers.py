"""An answer before it is published, as a file: the head of the owner's office consents to exactly these bytes."""

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from exchange.cli.frame.errors import CommandError, WrongUsageError
from exchange.cli.frame.output import print_line
from exchange.core.entries import Body
from exchange.core.envelope import ENTRY, Draft
from exchange.core.errors import CoreError
from exchange.core.state import MAX_ENTRY
from exchange.core.terms import SALT
from exchange.core.wire import decode
from exchange.home import write_file
from exchange.v1.directory_pb2 import Agreement, Entry, EntryKind
from exchange.v1.procedure_pb2 import Action, StandingApproval, Step

FORMAT = "exchange.v1/answer"
MAX_FILE = 4 * MAX_ENTRY

_KINDS: dict[int, type[Agreement | Step | StandingApproval]] = {
    EntryKind.ENTRY_KIND_AGREEMENT: Agreement,
    EntryKind.ENTRY_KIND_STEP: Step,
    EntryKind.ENTRY_KIND_STANDING_APPROVAL: StandingApproval,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """An unsigned answer: an agreement, a refusal or a standing approval.

    Args:
        draft: payload and attachment, as they will be signed; entry, body: what these say.
    """

    draft: Draft
    entry: Entry
    body: Body

    @property
    def digest(self) -> bytes:
        """What the head consents to: SHA-256 of the attachment, 32 bytes."""
        return self.entry.body_sha256


def write_answer(path: Path, draft: Draft) -> None:
    """Write an answer for the head of the office to see; a file that is there is not replaced.

    Raises:
        WrongUsageError: the file exists.
    """
    if path.exists():
        raise WrongUsageError(f"--draft: {path} exists already", "choose another file")
    parts = {"payload": draft.payload, "body": draft.attachments[0]}
    text = {name: base64.b64encode(data).decode() for name, data in parts.items()}
    write_file(path, (json.dumps({"format": FORMAT, **text}, indent=2) + "\n").encode(), 0o600)


def read_answer(path: Path) -> Answer:
    """Read an answer that nobody has signed yet.

    Raises:
        CommandError: the file is not in its form, or its parts do not belong together.
    """
    hint = "`exchange agreement sign --draft FILE` and `refuse --draft FILE` write such a file"
    try:
        with path.open("rb") as file:
            values = json.loads(file.read(MAX_FILE))
        if set(values) != {"format", "payload", "body"} or values["format"] != FORMAT:
            raise CommandError(f"{path} is not an answer", hint)
        payload, body = (base64.b64decode(values[name], validate=True) for name in ("payload", "body"))
        return _answer(payload, body)
    except (OSError, ValueError, TypeError, binascii.Error) as error:
        raise CommandError(f"{path} cannot be read as an answer: {error}", hint) from error


def print_draft(path: Path) -> None:
    """Print what comes next after an answer was written."""
    print_line(f"Wrote the answer to {path}; nothing is published yet.")
    print_line("Next: the head of the office runs")
    print_line(f"      exchange agreement consent {path} --home HEAD")
    print_line("      and then you run")
    print_line(f"      exchange agreement answer {path} --home DIR")


def _answer(payload: bytes, attachment: bytes) -> Answer:
    entry = decode(Entry, payload, MAX_ENTRY)
    kind = _KINDS.get(entry.kind)
    if kind is None or hashlib.sha256(attachment).digest() != entry.body_sha256:
        raise CoreError("its parts do not belong together")
    body = decode(kind, attachment[SALT:], MAX_ENTRY)
    if isinstance(body, Step) and body.action != Action.ACTION_REFUSE:
        raise CoreError("the step in it is no refusal")
    return Answer(Draft(ENTRY, payload, (attachment,)), entry, body)
