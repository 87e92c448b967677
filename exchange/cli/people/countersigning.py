"""An entry that waits for a second steward: the file in which it goes to another one, and what is shown there."""

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from google.protobuf.message import Message

from exchange.cli.frame.errors import CommandError, ExitCode
from exchange.cli.frame.output import grouped
from exchange.cli.frame.times import iso
from exchange.cli.joining.admission import AdmissionError, base64_of, read_texts, write_texts
from exchange.client.seconds import SecondNeededError
from exchange.core.envelope import ENTRY, Draft
from exchange.core.errors import CoreError
from exchange.core.keys import key_id
from exchange.core.names import Party
from exchange.core.state import KeyRecord, State
from exchange.core.stewards import check_second, second_statement
from exchange.core.terms import SALT
from exchange.core.wire import decode, encode
from exchange.home import Home, write_file
from exchange.v1.directory_pb2 import Agreement, Dataset, Entry, EntryKind, Key
from exchange.v1.people_pb2 import Second
from exchange.v1.procedure_pb2 import StandingApproval

FORMAT = "exchange.v1/second-request"
MOST = 1024 * 1024

_BODIES: dict["EntryKind.ValueType", type[Message]] = {
    EntryKind.ENTRY_KIND_DATASET: Dataset,
    EntryKind.ENTRY_KIND_AGREEMENT: Agreement,
    EntryKind.ENTRY_KIND_STANDING_APPROVAL: StandingApproval,
}
_TIMES = frozenset({"not_before", "not_after", "review_at"})


@dataclass(frozen=True, slots=True)
class Waiting:
    """An entry with the first steward's word, and what belongs to it."""

    entry: Entry
    attachment: bytes

    @property
    def draft(self) -> Draft:
        """What the second steward signs."""
        return Draft(ENTRY, encode(self.entry), (self.attachment,) if self.attachment else ())


def handed_on(home: Home, error: SecondNeededError) -> CommandError:
    """Write what waits into a file of the home, signed by its steward, and say what comes next.

    Args:
        home: of the steward who signs first.
        error: with the entry.
    """
    signer, entry = home.signer(), error.entry
    signature = signer.sign(second_statement(home.party.domain, entry))
    entry.second.CopyFrom(Second(key_id=key_id(signer.public_key), signature=signature))
    attachment = error.attachments[0] if error.attachments else b""
    path = home.path / f"second-{hashlib.sha256(encode(entry)).hexdigest()[:8]}.json"
    texts = {"entry": _base64(encode(entry)), "attachment": _base64(attachment)}
    write_file(path, write_texts(FORMAT, owner=entry.owner, **texts), 0o644)
    return CommandError(
        f"{entry.owner} asks for two stewards: nothing was entered yet, and {path} waits for a second one",
        f"send it to another steward, who runs `exchange steward countersign {path.name}`",
    )


def read_waiting(data: bytes, state: State, own: KeyRecord, now: int) -> Waiting:
    """Read what another steward handed on; everything in it is checked.

    Args:
        data: the file.
        state: the directory's; own: the key that is to sign; now: milliseconds.

    Raises:
        AdmissionError: no such file, another department's, or nobody of it stands by it.
    """
    values = read_texts(
        data, FORMAT, "an entry that waits for a second steward", ("owner", "entry", "attachment"), MOST
    )
    try:
        waiting = Waiting(decode(Entry, base64_of(values, "entry")), base64_of(values, "attachment"))
        if waiting.entry.owner != str(own.party.parent):
            raise AdmissionError(
                f"this is an entry of {waiting.entry.owner}; {own.party} signs for {own.party.parent}",
                "give it to one of their stewards",
                ExitCode.USAGE,
            )
        check_second(state, own, waiting.entry, now)
    except CoreError as error:
        hint = "ask for it again: the other steward runs the same command once more"
        raise AdmissionError(f"what waits does not hold: {error}", hint, ExitCode.UNTRUSTED) from error
    named = waiting.entry.body_sha256 or waiting.entry.key.csr_sha256
    if named != (hashlib.sha256(waiting.attachment).digest() if waiting.attachment else b""):
        raise AdmissionError("the body is not the one that was signed", "ask for the file again", ExitCode.UNTRUSTED)
    return waiting


def described(waiting: Waiting, second: Party) -> Iterator[tuple[str, object]]:
    """What the second steward is asked to sign, line by line.

    Args:
        waiting: checked; second: who signed first.
    """
    entry = waiting.entry
    yield "signed first by", second
    yield "kind", EntryKind.Name(entry.kind).removeprefix("ENTRY_KIND_").lower().replace("_", " ")
    if entry.supersedes:
        yield "replaces", grouped(entry.supersedes)
    if entry.WhichOneof("body") == "key":
        key = decode(Key, entry.key.statement)
        yield from (
            ("party", key.party),
            ("fingerprint", grouped(key_id(key.public_key))),
            ("until", iso(key.not_after)),
        )
    elif entry.kind in _BODIES:
        yield from _lines(decode(_BODIES[entry.kind], waiting.attachment[SALT:]))


def _lines(message: Message, above: str = "") -> Iterator[tuple[str, object]]:
    for field, value in message.ListFields():
        name = f"{above}{field.name}"
        for item in value if field.is_repeated else (value,):
            if isinstance(item, Message):
                yield from _lines(item, f"{name}.")
            elif isinstance(item, bytes):
                yield name, item.hex()
            elif field.enum_type is not None:
                yield name, field.enum_type.values_by_number[item].name
            else:
                yield name, iso(item) if field.name in _TIMES else item


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
