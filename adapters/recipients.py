"""Who was told of a record that is wrong, out of the ledger and the access log, and the notices to them (art. 26).

The ledger knows who was told about whom; the notices that go into the directory name departments and the ids of their
own requests, and nobody the record is about.
"""

import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from adapters.host import LEDGER
from adapters.ledger import Ledger, LedgerError
from adapters.ledger_rows import Told
from exchange.client.datasets import dataset_name
from exchange.client.errors import UsageError
from exchange.client.session import Session
from exchange.client.uses import own_uses
from exchange.core.correction import Correction, Standing
from exchange.core.corrections import MAX_REQUESTS
from exchange.core.directory import Directory
from exchange.core.entries import ObjectVersion, body_entry
from exchange.core.names import Party
from exchange.core.state import OBJECT_ID
from exchange.core.terms import SALT
from exchange.core.wire import FORMAT
from exchange.home import Home, HomeError
from exchange.v1.access_pb2 import AccessKind
from exchange.v1.procedure_pb2 import Action, Step

SHORTEST = 8


@dataclass(frozen=True, slots=True)
class Recipient:
    """One answer that told somebody about the person.

    Args:
        told: of the ledger; request_id: of the request, 16 bytes; dataset: DEPARTMENT/CODE.
        entry: index of the entry that released it; None while the ledger has no receipt of one.
        doubt: why ledger and log do not agree about it; empty where they do.
        notified: a notice of the correction names it; acknowledged: and was acknowledged.
    """

    told: Told
    request_id: bytes
    dataset: str
    entry: int | None
    doubt: str
    notified: bool = False
    acknowledged: bool = False

    @property
    def department(self) -> Party:
        """Whose system was told."""
        return Party.parse(self.told.requester).own_department

    def described(self) -> dict[str, object]:
        """For programs; times are milliseconds."""
        told = self.told
        return {
            "number": told.number,
            "time": told.time,
            "requester": told.requester,
            "officer": told.officer,
            "purpose": told.purpose,
            "case_id": told.case_id,
            "dataset": self.dataset,
            "fields": list(told.fields),
            "request_id": self.request_id.hex(),
            "log_index": self.entry,
            "doubt": self.doubt,
            "notified": self.notified,
            "acknowledged": self.acknowledged,
        }


@dataclass(frozen=True, slots=True)
class Notified:
    """A notice that is in the directory: to whom, about how many requests, at which index."""

    recipient: Party
    requests: int
    index: int


async def recipients(home: Home, subject: str, correction: str = "") -> list[Recipient]:
    """Every answer that told somebody about a person, in the ledger's order, compared with the access log.

    Args:
        home: of the adapter.
        subject: the person's key.
        correction: the beginning of its id: then only answers with a field that is wrong.

    Raises:
        AnchorError: the ledger is missing, or not the one that was here before.
        ExchangeError: the broker does not show directory or log, or there is no such correction.
        HomeError: the ledger cannot be read.
    """
    async with Session(home) as session:
        directory = await session.sync()
        about = _correction(directory, correction) if correction else None
        return await _recipients(session, subject, about)


async def notify(home: Home, correction: str, subject: str) -> list[Notified]:
    """Tell every department that was told about a person that the record is corrected; nobody is told twice.

    Args:
        home: of the adapter, whose system signs.
        correction: the beginning of its id; subject: the person's key.

    Raises:
        UsageError: no such correction of this department, or it is not corrected.
        AnchorError, ExchangeError, HomeError: as `recipients`.
    """
    async with Session(home) as session:
        directory = await session.sync()
        about = _correction(directory, correction)
        if about.standing != Standing.CORRECTED:
            hint = "the steward answers it first: `exchange correction answer ID --corrected`"
            raise UsageError(f"the correction is {about.standing}: nobody is told of it", hint)
        found = await _recipients(session, subject, about)
        done = []
        for department, requests in _grouped(found, about.owner):
            step = Step(
                format=FORMAT,
                action=Action.ACTION_NOTIFY,
                subject=about.object_id,
                about=about.dataset,
                fields=about.fields,
                recipient=str(department),
                request_ids=requests,
            )
            version = ObjectVersion(secrets.token_bytes(OBJECT_ID))
            draft = body_entry(session.party, version, step, secrets.token_bytes(SALT))
            appended = await session.append(session.sign(draft))
            done.append(Notified(department, len(requests), appended.index))
        return done


async def _recipients(session: Session, subject: str, about: Correction | None) -> list[Recipient]:
    found = list(_told(session.home, subject))
    released = {use.index: use.request_digest async for use in own_uses(session, _silent)}
    shown = (_compared(session.directory, told, request_id, released) for told, request_id in found)
    known = [recipient for recipient in shown if recipient is not None]
    return [_marked(item, about) for item in known if about is None or _has_wrong_field(item, about)]


def _told(home: Home, subject: str) -> Iterator[tuple[Told, bytes]]:
    """The answers with a row of the person, with the ids of their requests."""
    try:
        reader = Ledger.read(home.path / LEDGER)
        try:
            for told in reader.told(subject):
                stored = reader.answer(told.response_digest)
                if told.told and stored is not None:
                    yield told, stored.request_id
        finally:
            reader.close()
    except LedgerError as error:
        raise HomeError(f"{home.path / LEDGER}: {error}", "is this the home of an adapter that has run?") from error


def _compared(directory: Directory, told: Told, request_id: bytes, released: dict[int, bytes]) -> Recipient | None:
    """One of them as the log tells it; None where the log settled that nobody got the answer."""
    kinds = {settlement.kind for settlement in told.settlements or ()}
    if kinds == {AccessKind.ACCESS_KIND_UNRELEASED}:
        return None
    entry = next((item.index for item in told.settlements or () if item.kind == AccessKind.ACCESS_KIND_RELEASED), None)
    doubt = ""
    if entry is None:
        # The adapter may have had no word of it yet, or the log none at all.
        entry = next((index for index, digest in released.items() if digest == told.request_digest), None)
        doubt = "" if entry is not None else "no entry in the log: it may not have been released"
    elif released.get(entry) != told.request_digest:
        doubt = "the ledger has its receipt, and the broker does not show the entry"
    dataset = directory.terms.datasets.get(told.dataset)
    return Recipient(told, request_id, dataset_name(dataset) if dataset else told.dataset.hex(), entry, doubt)


def _has_wrong_field(item: Recipient, about: Correction) -> bool:
    return item.told.dataset == about.dataset and not set(about.fields).isdisjoint(item.told.fields)


def _marked(item: Recipient, about: Correction | None) -> Recipient:
    notices = [
        notice
        for notice in (about.notices if about is not None else ())
        if notice.recipient == item.department and item.request_id in notice.requests
    ]
    acknowledged = any(notice.acknowledged is not None for notice in notices)
    return Recipient(item.told, item.request_id, item.dataset, item.entry, item.doubt, bool(notices), acknowledged)


def _grouped(found: Iterable[Recipient], owner: Party) -> Iterator[tuple[Party, Sequence[bytes]]]:
    """The requests of each department that no notice names yet, in as many notices as they need."""
    groups: dict[Party, dict[bytes, None]] = {}
    for item in found:
        if not item.notified and item.department != owner:
            groups.setdefault(item.department, {})[item.request_id] = None
    for department in sorted(groups, key=str):
        requests = list(groups[department])
        for start in range(0, len(requests), MAX_REQUESTS):
            yield department, requests[start : start + MAX_REQUESTS]


def _correction(directory: Directory, text: str) -> Correction:
    prefix = text.lower()
    if len(prefix) < SHORTEST or any(char not in "0123456789abcdef" for char in prefix):
        raise UsageError(f"not a correction's id: {text}", "give 8 or more hexadecimal digits of it")
    found = [item for item in directory.terms.corrections.values() if item.object_id.hex().startswith(prefix)]
    if len(found) != 1:
        problem = "no correction" if not found else f"{len(found)} corrections"
        raise UsageError(f"{problem} known here begins with {text}", "`exchange correction list` shows them")
    return found[0]


def _silent(_done: int, _total: int) -> None:
    """Nobody waits for long."""
