"""What an agreement takes back of what it grants: masks, officers, hours, limits (DESIGN section 6)."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from datetime import time as clock
from functools import lru_cache
from itertools import groupby
from types import MappingProxyType
from zoneinfo import ZoneInfo

from exchange.core.errors import CoreError
from exchange.core.names import is_officer
from exchange.v1.directory_pb2 import Agreement, FieldType
from exchange.v1.procedure_pb2 import StandingApproval
from exchange.v1.terms_pb2 import Hours, Mask

MAX_SHOWN = 64
MAX_OFFICERS = 500
MINUTES = 24 * 60
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
# A name of the IANA time zone database: explicit classes with fullmatch, and nothing that leads out of a folder.
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]{0,31}(?:/[A-Za-z0-9_+-]{1,32}){0,2}", re.ASCII)

Types = Mapping[str, "FieldType.ValueType"]

# What each mask fits, and what comes of it.
_MASKED: Mapping[str, tuple[frozenset["FieldType.ValueType"], "FieldType.ValueType"]] = MappingProxyType(
    {
        "first": (frozenset({FieldType.FIELD_TYPE_TEXT}), FieldType.FIELD_TYPE_TEXT),
        "last": (frozenset({FieldType.FIELD_TYPE_TEXT}), FieldType.FIELD_TYPE_TEXT),
        "year_only": (frozenset({FieldType.FIELD_TYPE_DATE}), FieldType.FIELD_TYPE_INTEGER),
        "hash": (
            frozenset(FieldType.values()) - {FieldType.FIELD_TYPE_UNSPECIFIED, FieldType.FIELD_TYPE_BOOLEAN},
            FieldType.FIELD_TYPE_TEXT,
        ),
    }
)


class RestrictionError(CoreError):
    """A restriction contradicts itself, or does not fit the field it is for."""


def read_masks(masks: Sequence[Mask], granted: Sequence[str], types: Types) -> Mapping[str, Mask]:
    """The masks of an agreement by field.

    Args:
        masks: as the owner signed them.
        granted: the agreement's fields.
        types: of the dataset's fields.

    Raises:
        RestrictionError: a field that is not granted, or named twice; or a rule that is unknown or does not fit.
    """
    found: dict[str, Mask] = {}
    for mask in masks:
        rule = mask.WhichOneof("rule")
        if mask.field not in granted or mask.field in found:
            raise RestrictionError("a mask is for one of the granted fields, and each has one at most")
        if rule is None or types[mask.field] not in _MASKED[rule][0]:
            raise RestrictionError(f"the mask of {mask.field} does not fit its type")
        if rule in {"first", "last"} and not 1 <= getattr(mask, rule) <= MAX_SHOWN:
            raise RestrictionError(f"a mask shows 1 to {MAX_SHOWN} characters")
        found[mask.field] = mask
    return MappingProxyType(found)


def masked_types(types: Types, masks: Mapping[str, Mask]) -> Types:
    """The types of fields as a requester sees them, and filters by them."""
    changed = {name: _MASKED[mask.WhichOneof("rule") or ""][1] for name, mask in masks.items()}
    return MappingProxyType({**types, **changed})


def read_officers(officers: Sequence[str]) -> frozenset[str]:
    """The only officers who may ask; none where everybody of the grantee may.

    Raises:
        RestrictionError: no pseudonym, one named twice, or more than anybody checks.
    """
    if len(officers) > MAX_OFFICERS or len(set(officers)) != len(officers) or not all(map(is_officer, officers)):
        raise RestrictionError(f"at most {MAX_OFFICERS} officers are named, each once, by pseudonym")
    return frozenset(officers)


def read_hours(agreement: Agreement | StandingApproval) -> Hours | None:
    """The hours of an agreement; None where any hour will do.

    A zone's name need only have its form. Which zones there are, every party's copy of the time zone database says for
    itself, and the directory must fold to the same everywhere: `is_open` denies where the zone is unknown.

    Raises:
        RestrictionError: no weekday, an unknown or repeated one, an empty span, or no name of a zone.
    """
    if not agreement.HasField("hours"):
        return None
    hours = agreement.hours
    days = list(hours.weekdays)
    if not days or days != sorted(set(days)) or not 1 <= days[0] <= days[-1] <= 7:
        raise RestrictionError("hours are for weekdays 1 (Monday) to 7 (Sunday), ascending, each once")
    if not hours.opens < hours.closes <= MINUTES:
        raise RestrictionError("hours open before they close, within one day")
    if not _ZONE.fullmatch(hours.zone):
        raise RestrictionError("hours name a time zone, such as Asia/Shanghai")
    return hours


@lru_cache(maxsize=256)
def zone_named(name: str) -> ZoneInfo | None:
    """A time zone by its IANA name; None where the database here does not have it."""
    if not _ZONE.fullmatch(name):
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return None


def is_open(hours: Hours, now: int) -> bool:
    """Whether requests may come now, milliseconds; never in a zone that is unknown here."""
    local = _local(hours.zone, now // 60_000)
    if local is None:
        return False
    weekday, minute = local
    return weekday in hours.weekdays and hours.opens <= minute < hours.closes


@lru_cache(maxsize=1024)
def _local(zone: str, minutes: int) -> tuple[int, int] | None:
    """Weekday and minute of the day in a zone, so many minutes after 1970; every request of a minute asks for them.

    No zone's offset has had seconds since 1972, when Africa/Monrovia's last did (IANA time zone database).
    """
    found = zone_named(zone)
    if found is None:
        return None
    local = datetime.fromtimestamp(minutes * 60, found)
    return local.isoweekday(), local.hour * 60 + local.minute


def hours_text(hours: Hours) -> str:
    """Hours as people say them: Mon–Fri 08:30–17:30 Asia/Shanghai."""
    spans = []
    for _, run in groupby(enumerate(hours.weekdays), lambda pair: pair[1] - pair[0]):
        days = [WEEKDAYS[day - 1] for _, day in run]
        spans.append(days[0] if len(days) == 1 else f"{days[0]}–{days[-1]}")
    opens, closes = (f"{minute // 60:02}:{minute % 60:02}" for minute in (hours.opens, hours.closes))
    return f"{', '.join(spans)} {opens}–{closes} {hours.zone}"


def next_open(hours: Hours, now: int) -> int | None:
    """The first moment from now on at which requests may come, milliseconds; None in a zone that is unknown here."""
    zone = zone_named(hours.zone)
    if zone is None:
        return None
    if is_open(hours, now):
        return now
    today = datetime.fromtimestamp(now / 1000, zone).date()
    # Two weeks: a day whose hours the clocks leave out comes again the week after.
    for days in range(15):
        day = today + timedelta(days=days)
        opening = datetime.combine(day, clock(*divmod(hours.opens, 60)), zone)
        moment = round(opening.timestamp() * 1000)
        if moment >= now and is_open(hours, moment):
            return moment
    return None
