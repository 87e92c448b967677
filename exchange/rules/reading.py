"""Reads the rules of a jurisdiction, and the years of its calendar.

    extends = "cn-national"                           # only what differs is written
    label = "山西省"
    label_en = "Shanxi"

    [clocks."application.answer.conditional"]
    length = "5 working days"
    article = "Shanxi Measures on Government Data"

A name stands for a file of this package; what ends in `.toml` is a path, relative to the file that names it.
"""

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

from exchange.core.calendar import MAX_COUNT, Calendar
from exchange.core.clocks import Clock, Escalation, Extension, Jurisdiction, Role
from exchange.core.names import is_code
from exchange.rules.tables import (
    SUFFIX,
    ClockTable,
    Keys,
    Place,
    RulesError,
    RulesTable,
    TableFile,
    YearTable,
    parse_length,
    place_of,
    read_file,
    read_year,
)

DEFAULT = "cn-national"

_MAX_CHAIN = 8
_NEEDED = ("label", "label_en", "due_from", "length", "article")

_Chain = Sequence[TableFile[RulesTable]]


def load_rules(rules: str = DEFAULT) -> Jurisdiction:
    """Reads the rules of a jurisdiction, with what they extend and every year of the calendar.

    Args:
        rules: the name of a file of this package, or a path that ends in `.toml`.

    Raises:
        RulesError: a file cannot be read, or says something that it cannot say.
    """
    chain = [read_file(place_of(rules, Path()), RulesTable)]
    while (base := chain[0].table.extends) is not None:
        if len(chain) == _MAX_CHAIN:
            raise chain[0].error(("extends",), f"more than {_MAX_CHAIN} files extend each other")
        # What is more general goes to the front; what is nearer stands later, and holds.
        chain.insert(0, read_file(_named(chain[0], base, ("extends",)), RulesTable))
    return _joined(chain)


def _named(file: TableFile[RulesTable], name: str, keys: Keys) -> Place:
    """The file that stands under a key of another."""
    try:
        return place_of(name, file.place.folder)
    except RulesError as error:
        raise file.error(keys, str(error), error.hint) from None


def _joined(chain: _Chain) -> Jurisdiction:
    nearest = chain[-1]
    name = nearest.place.name.removesuffix(SUFFIX)
    steps = {Role(to): after for file in chain for to, after in file.table.escalation.items()}
    escalations = sorted((Escalation(after, to) for to, after in steps.items()), key=lambda step: step.after)
    label, label_en = nearest.table.label, nearest.table.label_en
    return Jurisdiction(name, label, label_en, _calendar(chain, name), _clocks(chain), tuple(escalations))


def _calendar(chain: _Chain, name: str) -> Calendar:
    zones = [file.table.calendar.zone for file in chain if file.table.calendar.zone is not None]
    if not zones:
        raise chain[-1].error(("calendar", "zone"), "missing: a time zone says when a day ends")
    years: dict[int, YearTable] = {}
    for file in chain:
        years |= _years(file)
    tables = years.values()
    return Calendar(
        name,
        ZoneInfo(zones[-1]),
        holidays=frozenset(day for table in tables for day in table.days_of_rest()),
        working_weekends=frozenset[date]().union(*(table.working_weekends for table in tables)),
        covers=frozenset(years),
        provisional=frozenset(table.year for table in tables if table.provisional),
    )


def _years(file: TableFile[RulesTable]) -> dict[int, YearTable]:
    """The years that one file names, in place of those of the files that it extends."""
    found: dict[int, YearTable] = {}
    for number, named in enumerate(file.table.calendar.years):
        keys = ("calendar", "years", number)
        if not named.endswith(SUFFIX):
            raise file.error(keys, f"the path of a file is expected, which ends in {SUFFIX}")
        table = read_year(_named(file, named, keys)).table
        if table.year in found:
            raise file.error(keys, f"a second file for {table.year}")
        found[table.year] = table
    return found


def _clocks(chain: _Chain) -> tuple[Clock, ...]:
    said: dict[str, ClockTable] = {}
    last: dict[str, TableFile[RulesTable]] = {}
    for file in chain:
        for code, table in file.table.clocks.items():
            if not is_code(code):
                raise file.error(("clocks", code), "not a code: small letters, digits and hyphens, joined by dots")
            before = said.get(code, ClockTable())
            said[code] = before.model_copy(update=table.model_dump(exclude_unset=True))
            last[code] = file
    return tuple(_clock(last[code], code, said[code]) for code in sorted(said))


def _clock(file: TableFile[RulesTable], code: str, table: ClockTable) -> Clock:
    keys = ("clocks", code)
    if missing := [name for name in _NEEDED if getattr(table, name) is None]:
        raise file.error((*keys, missing[0]), "missing, here and in what this file extends")
    if table.extension and table.consent is None:
        raise file.error((*keys, "consent"), "missing: who consents to an extension?")
    length = parse_length(table.length or "")
    if length.count + table.extension > MAX_COUNT:
        raise file.error((*keys, "extension"), f"with it, the time is longer than {MAX_COUNT} {length.unit}")
    if table.at_least and table.extension:
        raise file.error((*keys, "extension"), "what is kept for a time at least is not extended")
    extension = Extension(table.extension, Role(table.consent)) if table.extension and table.consent else None
    return Clock(
        code,
        label=table.label or "",
        label_en=table.label_en or "",
        due_from=Role(table.due_from or ""),
        length=length,
        article=table.article or "",
        extension=extension,
        at_least=table.at_least,
    )
