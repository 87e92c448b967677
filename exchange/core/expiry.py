"""What expires, and when people are warned of it (`status`, the services' logs, metrics)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from exchange.core.directory import Directory
from exchange.core.key_rules import ROOT_SIGNED
from exchange.core.lifetimes import DAY, SEALING_RENEWAL, SYSTEM_RENEWAL, TLS_RENEWAL, WARNINGS, utc
from exchange.core.names import Party
from exchange.core.state import KeyRecord, State, is_signing
from exchange.v1.directory_pb2 import Role

# A renewal that did not come off at once may be tried for this long before anybody is told.
_GRACE = DAY
_NEVER = 1 << 60


class Kind(Enum):
    """What can expire."""

    SIGNING_KEY = "signing key"
    SEALING_KEY = "sealing key"
    TLS_CERTIFICATE = "TLS certificate"
    TLS_AUTHORITY = "TLS authority"


@dataclass(frozen=True, slots=True)
class Expiring:
    """One thing that expires.

    Args:
        kind: what it is; party: whose.
        id: of a key, its SHA-256; of a certificate, empty.
        until: milliseconds.
        renewal: how long before its end it is due to be renewed by itself, milliseconds; None where a person does it.
        role: of a key.
    """

    kind: Kind
    party: Party
    id: bytes
    until: int
    renewal: int | None
    role: "Role.ValueType" = Role.ROLE_UNSPECIFIED

    def warning(self, now: int) -> int | None:
        """Which of the warnings stands now: 60, 30 or 7 days, 0 once it has expired, None while there is time.

        What renews itself is warned of only once that has failed: no person has to do anything before.
        """
        left = self.until - now
        if self.renewal is not None and left > self.renewal - _GRACE:
            return None
        if left <= 0:
            return 0
        standing = [before for before in WARNINGS if left <= before]
        return min(standing) // DAY if standing else None


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate at home: what it is, whose, and its end in milliseconds; `renews` where a service renews it."""

    kind: Kind
    party: Party
    until: int
    renews: bool


def expiring(
    directory: Directory | None, parties: Iterable[Party], certificates: Iterable[Certificate], now: int, within: int
) -> tuple[Expiring, ...]:
    """What expires within a time, or has expired with nothing in its place, the soonest first.

    Of several keys of a party the newest counts, as soon as it is in force: what has a successor may end.

    Args:
        directory: as far as it is known; parties: whose keys, each with those below it.
        certificates: those at hand.
        now, within: milliseconds.
    """
    found = [
        Expiring(item.kind, item.party, b"", item.until, TLS_RENEWAL if item.renews else None) for item in certificates
    ]
    if directory is not None:
        found += _keys(directory.state, tuple(parties), now)
    return tuple(sorted((item for item in found if item.until <= now + within), key=_order))


def warnings(items: Iterable[Expiring], now: int) -> tuple[tuple[int, Expiring], ...]:
    """Those of which people are warned now, each with its warning in days; the most urgent first."""
    found = ((item.warning(now), item) for item in items)
    return tuple(sorted(((days, item) for days, item in found if days is not None), key=lambda pair: _order(pair[1])))


def pending_keys(state: State, now: int) -> tuple[KeyRecord, ...]:
    """Keys that stand in public view: given by the root alone, not in force yet, and not cancelled; soonest first."""
    found = (record for name in state.parties for record in state.keys_of(Party.parse(name)))
    return tuple(
        sorted(
            (
                record
                for record in found
                if record.role in ROOT_SIGNED and record.revoked_index is None and record.not_before > now
            ),
            key=lambda record: (record.not_before, record.key_id),
        )
    )


def said(days: int, item: Expiring) -> dict[str, str | int]:
    """A warning, for the log of a service: `days` is as `warnings` has it."""
    described: dict[str, str | int] = {"what": item.kind.value, "party": str(item.party)}
    if item.id:
        described["key"] = item.id.hex()[:16]
    return described | {"within_days": days, "until": utc(item.until)}


def said_pending(record: KeyRecord) -> dict[str, str | int]:
    """A key in public view, for the log of a service."""
    return {"party": str(record.party), "key": record.key_id.hex()[:16], "in_force": utc(record.not_before)}


def _keys(state: State, parties: tuple[Party, ...], now: int) -> Iterator[Expiring]:
    for name in state.parties:
        party = Party.parse(name)
        if any(above.covers(party) for above in parties):
            records = [key for key in state.keys_of(party) if key.revoked_index is None and key.not_before <= now]
            yield from _newest(Kind.SIGNING_KEY, [record for record in records if is_signing(record)])
            sealing = [record for record in records if not is_signing(record)]
            # A system that stopped answering long ago is nobody's alarm.
            yield from _newest(Kind.SEALING_KEY, [record for record in sealing if record.not_after >= now - DAY])


def _newest(kind: Kind, records: list[KeyRecord]) -> Iterator[Expiring]:
    if not records:
        return
    record = max(records, key=lambda record: record.index)
    if record.not_after < _NEVER:
        renewal = _renewal(kind, record)
        yield Expiring(kind, record.party, record.key_id, record.not_after, renewal, record.role)


def _renewal(kind: Kind, record: KeyRecord) -> int | None:
    if kind is Kind.SEALING_KEY:
        return SEALING_RENEWAL
    return SYSTEM_RENEWAL if record.role == Role.ROLE_SYSTEM else None


def _order(item: Expiring) -> tuple[int, str, str, bytes]:
    return item.until, str(item.party), item.kind.value, item.id
