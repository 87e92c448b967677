"""What a department does by itself at its adapter's home, broker up or down: revoke, stop, and look into its ledger."""

import difflib
import secrets
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from adapters.config import ConfigError, configured_codes
from adapters.host import LEDGER, ORDERS
from adapters.ledger import Ledger, LedgerError, Settlement
from adapters.orders import Orders, OrdersError
from exchange.client.datasets import dataset_name
from exchange.client.errors import BrokenLogError, ExchangeError, UsageError
from exchange.client.mirror import DirectoryMirror
from exchange.client.session import MIRROR, Session
from exchange.core.access import kind_name
from exchange.core.directory import Directory
from exchange.core.entries import ObjectVersion, body_entry, revocation_entry
from exchange.core.envelope import Draft
from exchange.core.names import SCHEME, Party, is_code
from exchange.core.state import MAX_TEXT, OBJECT_ID
from exchange.core.terms import SALT
from exchange.core.wire import FORMAT
from exchange.home import Home, HomeError
from exchange.v1.access_pb2 import AccessKind
from exchange.v1.procedure_pb2 import Action, Step

SHORTEST = 8
REACH_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Revoked:
    """An agreement that ended here; `index` is its entry in the directory, or None while it is queued."""

    agreement: bytes
    index: int | None


@dataclass(frozen=True, slots=True)
class Stopped:
    """A dataset whose stop is in force at this home; `doubt` says why that may not be all, or is empty."""

    code: str
    doubt: str


@contextmanager
def orders_of(home: Home) -> Iterator[Orders]:
    """The local orders of a home, for the length of a command.

    Raises:
        AnchorError: they are not the ones that were here before.
        HomeError: they cannot be read or written.
    """
    if not home.is_made:
        raise HomeError(f"nobody lives in {home.path}", "choose the adapter's home with --home", UsageError.exit_code)
    try:
        orders = Orders.open(home.path / ORDERS)
        try:
            yield orders
        finally:
            orders.close()
    except OrdersError as error:
        raise HomeError(f"{home.path / ORDERS}: {error}") from error


async def stop_dataset(home: Home, config: Path, text: str, reason: str, now: int) -> Stopped:
    """Stop answering from a dataset that this home's adapter answers; no broker is asked.

    Args:
        home: of the adapter.
        config: its adapter.toml.
        text: CODE, DEPARTMENT/CODE, or exchange://DOMAIN/DEPARTMENT/CODE.
        reason: for the record, 1 to 2,000 characters.
        now: milliseconds.

    Raises:
        UsageError: this is no adapter's home, it does not answer for the dataset, or there is no reason.
        AnchorError: the home's orders are not the ones that were here before.
        HomeError: the order cannot be written.
    """
    code, reason = own_code(home, config, text), checked_reason(reason)
    listed = _listed(config)
    if listed is None or code not in listed:
        _require_answered(home.party, code, listed, await _mirrored(home))
    with orders_of(home) as orders:
        orders.stop(code, reason, now)
    # In force by now: to read the mirror may take a while.
    return Stopped(code, _doubt(home.party, code, listed, await _mirrored(home)))


def resume_dataset(home: Home, config: Path, text: str, now: int) -> str:
    """Take a stop back, and say which dataset's; the arguments are as for `stop_dataset`.

    Raises:
        UsageError: this is no adapter's home, or the dataset is not stopped.
        AnchorError: the home's orders are not the ones that were here before.
        HomeError: the order cannot be written.
    """
    code = own_code(home, config, text)
    with orders_of(home) as orders:
        if code not in orders.stopped:
            raise UsageError(f"{code} is not stopped", f"stopped now: {', '.join(orders.stopped) or 'none'}")
        orders.resume(code, now)
    return code


def own_code(home: Home, config: Path, text: str) -> str:
    """The code in the name of a dataset of this home's department, where an adapter has its home.

    Raises:
        HomeError: nobody lives here.
        UsageError: no adapter's home, another department's dataset, or no code.
    """
    if not home.is_made:
        raise HomeError(f"nobody lives in {home.path}", "choose the adapter's home with --home", UsageError.exit_code)
    party = home.party
    if not config.exists():
        hint = "choose the adapter's home with --home, or its adapter.toml with --config"
        raise UsageError(f"no adapter runs from {home.path}: there is no {config}", hint)
    department, slash, code = text.removeprefix(f"{SCHEME}{party.domain}/").rpartition("/")
    if slash and department != party.department:
        hint = f"this is a home of {party.department}: name CODE, or {party.department}/CODE"
        raise UsageError(f"not a dataset of {party.department}: {text[:200]}", hint)
    if not is_code(code):
        raise UsageError(f"not a dataset's code: {code[:200]}", _meant(code, _listed(config) or ()))
    return code


def checked_reason(text: str) -> str:
    """A reason as it goes on record.

    Raises:
        UsageError: empty, or longer than the directory takes.
    """
    reason = text.strip()
    if not 1 <= len(reason) <= MAX_TEXT:
        raise UsageError(f"--reason: {len(reason):,} characters", f"say why in 1 to {MAX_TEXT:,} characters")
    return reason


async def revoke_agreement(home: Home, text: str, reason: str, now: int) -> Revoked:
    """End an agreement: durable here first, then entered in the directory where a broker can be reached.

    Args:
        home: of a system of the owner's.
        text: the agreement's id, or an unambiguous beginning of it.
        reason: for the record, 1 to 2,000 characters.
        now: milliseconds.

    Raises:
        UsageError: no such agreement of this department, or more than one, or no reason.
        AnchorError: the home's orders are not the ones that were here before.
        HomeError: the order cannot be written.
    """
    reason = checked_reason(reason)
    async with Session(home) as session:
        agreement = _own_agreement(session.directory, session.party, text)
        envelope = session.sign(_ending(session.directory, session.party, agreement, reason))
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


def _ending(directory: Directory, system: Party, agreement: bytes, reason: str) -> Draft:
    """The unsigned entry that ends an agreement.

    What a standing approval gave has no version of the owner's to be revoked: its case is ended by a step.
    """
    object_id = secrets.token_bytes(OBJECT_ID)
    terms = directory.agreement(agreement)
    if terms is None or not terms.approval:
        return revocation_entry(system, object_id, agreement, reason)
    application = directory.state.versions[terms.application].object_id
    step = Step(format=FORMAT, action=Action.ACTION_END, subject=application, text=reason)
    return body_entry(system, ObjectVersion(object_id), step, secrets.token_bytes(SALT))


async def told(home: Home, subject: str) -> list[dict[str, object]]:
    """Who asked or was told what about a person, each answer with its entries in the access log.

    Times are milliseconds. Datasets are named as far as the home's mirror knows them; no broker is asked.

    Raises:
        AnchorError: the ledger is missing, or not the one that was here before.
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
    names = _names(await _mirrored(home) if found else None)
    return [
        {
            "number": item.number,
            "time": item.time,
            "requester": item.requester,
            "officer": item.officer,
            "purpose": item.purpose,
            "case_id": item.case_id,
            "dataset": names.get(item.dataset) or item.dataset.hex(),
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
    department = party.own_department
    found = [
        terms.digest
        for terms in directory.terms.agreements.values()
        if terms.digest.hex().startswith(prefix) and terms.version.owner == department
    ]
    if len(found) != 1:
        problem = "no agreement" if not found else f"{len(found)} agreements"
        raise UsageError(f"{problem} of {department} begins with {text}", "`exchange agreement list` shows them")
    return found[0]


def _listed(config: Path) -> frozenset[str] | None:
    """The datasets of a configuration, or None where it cannot be read."""
    try:
        return configured_codes(config)
    except ConfigError:
        return None


def _require_answered(party: Party, code: str, listed: frozenset[str] | None, directory: Directory | None) -> None:
    """An adapter that runs may have begun with another configuration than the file holds now: the mirror counts too.

    Raises:
        UsageError: what can be read of the two says that this system does not answer for the dataset.
    """
    if listed is None and directory is None:
        return
    published = _published(directory, party) if directory is not None else frozenset()
    if code in published:
        return
    other = _answerer(party, code, directory)
    hint = f"{other} answers it: stop it at its home" if other else _meant(code, (listed or frozenset()) | published)
    raise UsageError(f"{party} does not answer {code}: nothing was stopped", hint)


def _doubt(party: Party, code: str, listed: frozenset[str] | None, directory: Directory | None) -> str:
    """Why requests may be answered although an order to stop is in force here, or nothing."""
    if listed is None and directory is None:
        return f"neither adapter.toml nor the mirror can be read: whether {party} answers {code} is not known"
    other = _answerer(party, code, directory)
    return f"the directory says that {other} answers {code}: stop it at its home too" if other else ""


def _answerer(party: Party, code: str, directory: Directory | None) -> Party | None:
    """The other system that answers for a dataset of this department, if one does."""
    terms = directory and directory.dataset_named(str(party.own_department), code)
    return terms.system if terms and terms.system != party else None


async def _mirrored(home: Home) -> Directory | None:
    """The directory as the home's mirror has it, or None where there is no mirror that can be used."""
    path = home.path / MIRROR
    try:
        return (await DirectoryMirror.open(path, home.trust)).directory if path.exists() else None
    except (ExchangeError, HomeError):
        return None


def _published(directory: Directory, party: Party) -> frozenset[str]:
    """The codes of the datasets that a system answers."""
    latest = (directory.dataset(object_id) for object_id in directory.terms.datasets)
    return frozenset(terms.code for terms in latest if terms is not None and terms.system == party)


def _names(directory: Directory | None) -> dict[bytes, str]:
    """What people call each dataset, published still or not."""
    if directory is None:
        return {}
    return {object_id: dataset_name(terms) for object_id, terms in directory.terms.datasets.items()}


def _meant(code: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(code.lower(), known, 3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"answered here: {', '.join(sorted(known)) or 'nothing'}"
