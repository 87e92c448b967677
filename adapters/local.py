"""What a department does by itself at its adapter's home, broker up or down: revoke, stop, and look into its ledger."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from adapters.host import LEDGER, ORDERS
from adapters.ledger import Ledger, LedgerError, Settlement
from adapters.orders import Orders, OrdersError
from exchange.client.errors import BrokenLogError, ExchangeError, UsageError
from exchange.client.session import Session
from exchange.core.access import kind_name
from exchange.core.directory import Directory
from exchange.core.entries import revocation_entry
from exchange.core.names import Party
from exchange.core.state import OBJECT_ID
from exchange.home import Home, HomeError
from exchange.v1.access_pb2 import AccessKind

SHORTEST = 8
REACH_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Revoked:
    """An agreement that ended here; `index` is its entry in the directory, or None while it is queued."""

    agreement: bytes
    index: int | None


@contextmanager
def orders_of(home: Home) -> Iterator[Orders]:
    """The local orders of a home, for the length of a command.

    Raises:
        HomeError: they cannot be read or written.
    """
    if not home.is_made:
        raise HomeError(f"nobody lives in {home.path}", "choose the adapter's home with --home")
    try:
        orders = Orders.open(home.path / ORDERS)
        try:
            yield orders
        finally:
            orders.close()
    except OrdersError as error:
        raise HomeError(f"{home.path / ORDERS}: {error}") from error


async def revoke_agreement(home: Home, text: str, reason: str, now: int) -> Revoked:
    """End an agreement: durable here first, then entered in the directory where a broker can be reached.

    Args:
        home: of a system of the owner's.
        text: the agreement's id, or an unambiguous beginning of it.
        reason: for the record.
        now: milliseconds.

    Raises:
        UsageError: no such agreement of this department, or more than one.
        HomeError: the order cannot be written.
    """
    async with Session(home) as session:
        agreement = _own_agreement(session.directory, session.party, text)
        draft = revocation_entry(session.party, secrets.token_bytes(OBJECT_ID), agreement, reason)
        envelope = session.sign(draft)
        with orders_of(home) as orders:
            orders.revoke(agreement, envelope.encode(), reason, now)
            try:
                appended = await session.append(envelope, timeout=REACH_SECONDS)
            except BrokenLogError:
                raise
            except ExchangeError:
                return Revoked(agreement, None)
            orders.sent(agreement, now)
            return Revoked(agreement, appended.index)


def told(home: Home, subject: str) -> list[dict[str, object]]:
    """Who asked or was told what about a person, each answer with its entries in the access log.

    Raises:
        HomeError: the ledger cannot be read.
    """
    try:
        reader = Ledger.read(home.path / LEDGER)
        try:
            found = reader.told(subject)
        finally:
            reader.close()
    except LedgerError as error:
        raise HomeError(f"{home.path / LEDGER}: {error}", "is this the home of an adapter that has run?") from error
    return [
        {
            "number": item.number,
            "time": item.time,
            "requester": item.requester,
            "officer": item.officer,
            "purpose": item.purpose,
            "case_id": item.case_id,
            "dataset": item.dataset.hex(),
            "fields": list(item.fields),
            "asked": item.asked,
            "told": item.told,
            "rows": item.rows,
            "log_entry": _log_entry(item.settlements),
            "log_index": [settlement.index for settlement in item.settlements or ()],
        }
        for item in found
    ]


def _log_entry(settlements: tuple[Settlement, ...] | None) -> str:
    if not settlements:
        return "owed"
    return ", ".join(f"{item.index} {kind_name(AccessKind.ValueType(item.kind))}" for item in settlements)


def _own_agreement(directory: Directory, party: Party, text: str) -> bytes:
    prefix = text.lower()
    if len(prefix) < SHORTEST or any(char not in "0123456789abcdef" for char in prefix):
        raise UsageError(f"not an agreement's id: {text}", "give 8 or more hexadecimal digits of it")
    department = Party(party.domain, party.department)
    found = [
        terms.digest
        for terms in directory.terms.agreements.values()
        if terms.digest.hex().startswith(prefix) and terms.version.owner == department
    ]
    if len(found) != 1:
        problem = "no agreement" if not found else f"{len(found)} agreements"
        raise UsageError(f"{problem} of {department} begins with {text}", "`exchange agreement list` shows them")
    return found[0]
