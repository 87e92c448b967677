"""Terms of an agreement beyond what it grants: masks, officers, hours, limits; from a file, and in words."""

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path

from exchange.cli.frame.output import listed
from exchange.cli.frame.placed import PlacedFile
from exchange.cli.frame.times import day_of, end_of_day, iso
from exchange.core.errors import CoreError
from exchange.core.restrictions import WEEKDAYS, hours_text, read_hours, read_masks, read_officers, zone_named
from exchange.core.terms import AgreementTerms, DatasetTerms
from exchange.v1.directory_pb2 import Agreement
from exchange.v1.terms_pb2 import Hours, KeyedHash, Limits, Mask, YearOnly

TEMPLATE = """\
# Terms of an agreement, beside what it grants. Sign it with: exchange agreement sign ID --terms FILE
# Each line may be left out.

# What the requester sees of a field: "first 4", "last 4" (characters), "year" (of a date), or "hash".
[masks]
id_number = "last 4"

[use]
# The only officers who may ask, by pseudonym.
officers = ["officer-17", "officer-18"]

# When they may ask, in the time of a zone.
hours = "Mon-Fri 08:30-17:30 Asia/Shanghai"

# How many requests are answered to the grantee's department as a whole: within any 60 seconds, within a day of UTC,
# and in all, whatever versions the agreement has.
per_minute = 60
per_day = 2000
in_total = 100000

# Rows of one answer, and keys of one LOOKUP.
rows = 100

[review]
# From that day on suspended, until the owner signs a new version.
by = 2027-06-30

# How long the requester promises to keep what it got; without it, until the purpose is met.
retention_days = 30
"""

_LIMITS = ("per_minute", "per_day", "in_total", "rows")
_KEYS: Mapping[str, tuple[str, ...]] = {
    "use": ("officers", "hours", *_LIMITS),
    "review": ("by", "retention_days"),
}
_MASK = re.compile(r"(first|last) ([1-9][0-9]?)", re.ASCII)
_HOURS = re.compile(r"(\S+(?:, ?\S+)*) ([0-9]{2}):([0-9]{2})[-–]([0-9]{2}):([0-9]{2}) (\S+)", re.ASCII)
_MOST = 0xFFFFFFFF


def add_terms(agreement: Agreement, path: Path, dataset: DatasetTerms) -> None:
    """Write the terms of a file into an agreement that is still to be signed.

    Args:
        agreement: says already which fields it grants.
        path: a TOML file, as `TEMPLATE` has it.
        dataset: that it is for.

    Raises:
        PlacedError: the first thing that is wrong, with its place.
    """
    _Reading(PlacedFile(path), agreement, dataset).read()


class _Reading:
    """Reads one file, in the order in which it is written."""

    def __init__(self, file: PlacedFile, agreement: Agreement, dataset: DatasetTerms) -> None:
        self._file = file
        self._agreement = agreement
        self._dataset = dataset

    def read(self) -> None:
        """Every table, and every key of it."""
        readers: dict[str, Callable[[str, object, int], None]] = {"masks": self._mask, "use": self._use}
        readers["review"] = self._review
        for table, said in self._file.said.items():
            line = self._file.reach(table)
            if table not in readers or not isinstance(said, dict):
                raise self._file.error(table, line, "is not a table of terms", f"known are {listed(readers)}")
            for key, value in said.items():
                line = self._file.reach(key)
                if table in _KEYS and key not in _KEYS[table]:
                    raise self._file.error(key, line, "is not known here", _near(key, _KEYS[table]))
                readers[table](key, value, line)

    def _mask(self, field: str, value: object, line: int) -> None:
        found = _MASK.fullmatch(value) if isinstance(value, str) else None
        mask = Mask(field=field)
        if found is not None:
            setattr(mask, found[1], int(found[2]))
        elif value == "year":
            mask.year_only.CopyFrom(YearOnly())
        elif value == "hash":
            mask.hash.CopyFrom(KeyedHash())
        else:
            raise self._file.error(field, line, "is no mask", 'write "first 4", "last 4", "year" or "hash"')
        if field not in self._agreement.fields:
            hint = _near(field, tuple(self._agreement.fields))
            raise self._file.error(field, line, "is not a field that the agreement grants", hint)
        self._checked(field, line, lambda: read_masks([mask], self._agreement.fields, self._dataset.types))
        self._agreement.masks.append(mask)

    def _use(self, key: str, value: object, line: int) -> None:
        if key == "officers":
            self._officers(value, line)
        elif key == "hours":
            self._hours(value, line)
        else:
            setattr(self._agreement.limits, key, self._number(key, value, line))

    def _review(self, key: str, value: object, line: int) -> None:
        if key == "by":
            if type(value) is not date:
                raise self._file.error(key, line, "is a day, without quotes", "such as 2027-06-30")
            self._agreement.review_at = end_of_day(value.isoformat(), f"{self._file.path}:{line}: by")
        else:
            self._agreement.retention_days = self._number(key, value, line)

    def _number(self, key: str, value: object, line: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST:
            raise self._file.error(key, line, f"is a number from 1 to {_MOST:,}", "leave it out for no limit")
        return value

    def _officers(self, value: object, line: int) -> None:
        if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
            raise self._file.error("officers", line, "is a list of pseudonyms")
        self._checked("officers", line, lambda: read_officers(value))
        self._agreement.officers.extend(value)

    def _hours(self, value: object, line: int) -> None:
        hint = 'write "Mon-Fri 08:30-17:30 Asia/Shanghai"'
        found = _HOURS.fullmatch(value) if isinstance(value, str) else None
        days = _weekdays(found[1]) if found is not None else None
        if found is None or days is None:
            raise self._file.error("hours", line, "are not in their form", hint)
        opens, closes = (int(found[at]) * 60 + int(found[at + 1]) for at in (2, 4))
        if int(found[3]) > 59 or int(found[5]) > 59:
            raise self._file.error("hours", line, "are not in their form", hint)
        hours = Hours(zone=found[6], weekdays=days, opens=opens, closes=closes)
        self._checked("hours", line, lambda: read_hours(Agreement(hours=hours)))
        if zone_named(hours.zone) is None:
            raise self._file.error("hours", line, f"no time zone is called {hours.zone}", "such as Asia/Shanghai")
        self._agreement.hours.CopyFrom(hours)

    def _checked(self, key: str, line: int, check: Callable[[], object]) -> None:
        try:
            check()
        except CoreError as error:
            raise self._file.error(key, line, str(error)) from error


def term_pairs(terms: AgreementTerms) -> dict[str, object]:
    """The terms in words, for people; what is not limited is left out."""
    limits = terms.limits
    spans = ((limits.per_minute, "a minute"), (limits.per_day, "a day (UTC)"), (limits.in_total, "in all"))
    pairs: dict[str, object] = {
        "masked": [mask_text(mask) for mask in terms.masks.values()],
        "officers": listed(sorted(terms.officers)),
        "hours": hours_text(terms.hours) if terms.hours is not None else "",
        "requests": listed(f"{count:,} {span}" for count, span in spans if count),
        "rows of an answer": f"{limits.rows:,} at most" if limits.rows else "",
        "reviewed by": day_of(terms.review_at) if terms.review_at else "",
        "kept for": f"{terms.retention_days} days" if terms.retention_days else "",
    }
    return {name: value for name, value in pairs.items() if value}


def described_terms(terms: AgreementTerms) -> dict[str, object]:
    """The same for programs; None is no limit."""
    limits = terms.limits
    return {
        "masks": {name: mask_text(mask).partition(": ")[2] for name, mask in terms.masks.items()},
        "officers": sorted(terms.officers),
        "hours": hours_text(terms.hours) if terms.hours is not None else None,
        **{name: getattr(limits, name) or None for name in _LIMITS},
        "review_at": iso(terms.review_at) if terms.review_at else None,
        "retention_days": terms.retention_days or None,
    }


def mask_text(mask: Mask) -> str:
    """A mask in words."""
    rule = mask.WhichOneof("rule")
    if rule in {"first", "last"}:
        count = getattr(mask, rule)
        return f"{mask.field}: the {rule} {f'{count} characters' if count > 1 else 'character'}"
    return f"{mask.field}: {'the year' if rule == 'year_only' else 'a keyed hash'}"


def keep_terms(agreement: Agreement, before: AgreementTerms) -> None:
    """Let a next version say what the version before says, beside what it grants."""
    agreement.masks.extend(mask for name, mask in before.masks.items() if name in agreement.fields)
    agreement.officers.extend(sorted(before.officers))
    if before.hours is not None:
        agreement.hours.CopyFrom(before.hours)
    if before.limits != Limits():
        agreement.limits.CopyFrom(before.limits)
    agreement.retention_days = before.retention_days


def _weekdays(text: str) -> list[int] | None:
    """Days such as Mon-Wed, Fri; None where they are not, or not in their order."""
    days: list[int] = []
    for part in re.split(r", ?", text):
        first, _, last = part.replace("–", "-").partition("-")
        if first not in WEEKDAYS or (last or first) not in WEEKDAYS:
            return None
        span = range(WEEKDAYS.index(first) + 1, WEEKDAYS.index(last or first) + 2)
        if not span:
            return None
        days.extend(span)
    return days if days and days == sorted(set(days)) else None


def _near(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"known are {listed(known)}"
