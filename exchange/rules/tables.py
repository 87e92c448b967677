"""What a file of rules and a file of a year hold, and how such a file is read: errors name the file, line and key."""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Generic, Literal, TypeVar
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from exchange.core.calendar import MAX_COUNT, Length, Unit
from exchange.toml_lines import line_of, syntax_error

SUFFIX = ".toml"
SHIPPED = files("exchange.rules")

_USAGE = 2
_LONGEST_HOLIDAY = timedelta(days=31)
_DAY = timedelta(days=1)
_SATURDAY = 5
_LENGTH = re.compile(r"([1-9][0-9]{0,3}) (working day|day|month|year)(s?)", re.ASCII)

Keys = tuple[int | str, ...]


class RulesError(Exception):
    """A file of rules cannot be used; the message is `FILE:LINE: KEY: what is wrong`, as far as each is known.

    Args:
        message: that; hint: what to do, or empty.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint
        self.exit_code = _USAGE


def parse_length(text: str) -> Length:
    """Reads a length: `1 working day`, `10 working days`, `90 days`, `6 months`, `3 years`.

    Raises:
        ValueError: it is not in that form.
    """
    match = _LENGTH.fullmatch(text)
    # One form for each: "1 working day", "2 working days".
    if match is None or (match[3] == "s") == (match[1] == "1"):
        raise ValueError('write a length as "1 working day", "10 working days", "90 days", "6 months" or "3 years"')
    return Length(int(match[1]), Unit(f"{match[2]}s"))


def _checked_length(text: str) -> str:
    parse_length(text)
    return text


def _checked_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        # A slim system has none at all; the package `tzdata` brings them.
        raise ValueError("no time zone of this name is installed here (IANA names, such as Asia/Shanghai)") from None
    return name


_Text = Annotated[str, Field(min_length=1, max_length=200)]
_Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]


class Table(BaseModel):
    """A table of TOML: nothing that is unknown, and no value that only looks like another."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class ClockTable(Table):
    """One clock, or what differs in it from the file that is extended."""

    label: _Text | None = None
    label_en: _Text | None = None
    due_from: Literal["requester", "provider", "coordinator", "operator"] | None = None
    length: Annotated[str, AfterValidator(_checked_length)] | None = None
    article: _Text | None = None
    extension: _Count = 0
    consent: Literal["coordinator", "head"] | None = None
    at_least: bool = False


class CalendarTable(Table):
    """Whose days these are, and the files of the years."""

    zone: Annotated[str, AfterValidator(_checked_zone)] | None = None
    years: Annotated[tuple[str, ...], Field(strict=False)] = ()


class RulesTable(Table):
    """A file of rules."""

    extends: str | None = None
    label: _Text
    label_en: _Text
    calendar: CalendarTable = CalendarTable()
    escalation: dict[Literal["head", "coordinator", "upper-level"], _Count] = {}
    clocks: dict[str, ClockTable] = {}


class YearTable(Table):
    """A file of one year; a holiday is its first day and its last."""

    year: Annotated[int, Field(ge=1970, le=9998)]
    source: _Text
    provisional: bool = False
    working_weekends: Annotated[tuple[date, ...], Field(strict=False)] = ()
    holidays: dict[str, Annotated[tuple[date, date], Field(strict=False)]]

    def days_of_rest(self) -> Iterator[date]:
        """Every day of every holiday."""
        for first, last in self.holidays.values():
            yield from (first + number * _DAY for number in range((last - first).days + 1))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file is.

    Args:
        folder: of the file: paths in it are relative to that; name: within the folder.
    """

    folder: Traversable
    name: str

    def __str__(self) -> str:
        return str(self.folder / self.name)


_Read = TypeVar("_Read", bound=Table)


@dataclass(frozen=True, slots=True)
class TableFile(Generic[_Read]):
    """A file that was read, and its text, which tells where a key stands."""

    place: Place
    text: str
    table: _Read

    def error(self, keys: Keys, message: str, hint: str = "") -> RulesError:
        """What is wrong under a key."""
        return _error(self.place, self.text, keys, message, hint)


def shipped_rules() -> tuple[str, ...]:
    """The names of the rules that this package has, in order."""
    names = (file.name for file in SHIPPED.iterdir())
    return tuple(sorted(name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX)))


def place_of(name: str, folder: Traversable) -> Place:
    """Where a file is that a person or another file names.

    Args:
        name: a path that ends in `.toml`, or the name of a file of this package.
        folder: what a path is relative to.

    Raises:
        RulesError: it is neither.
    """
    if "\0" in name or not name.endswith(SUFFIX):
        if name in shipped_rules():
            return Place(SHIPPED, f"{name}{SUFFIX}")
        raise RulesError(f"there are no rules {name!r}", f"there are {', '.join(shipped_rules())}; or name a FILE.toml")
    path = folder / name
    return Place(path.parent, path.name) if isinstance(path, Path) else Place(folder, name)


def read_file(place: Place, kind: type[_Read]) -> TableFile[_Read]:
    """Reads a file, each key and value checked.

    Raises:
        RulesError: it cannot be read, is not TOML, or says something that it cannot say.
    """
    text = _text(place)
    try:
        return TableFile(place, text, kind.model_validate(tomllib.loads(text)))
    except tomllib.TOMLDecodeError as error:
        line, message = syntax_error(error)
        raise RulesError(f"{place}:{line}: {message}" if line else f"{place}: {message}") from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        raise _error(place, text, first["loc"], first["msg"].removeprefix("Value error, ")) from None


def read_year(place: Place) -> TableFile[YearTable]:
    """Reads the file of a year, each of its days in that year.

    Raises:
        RulesError: it cannot be read, or says something that it cannot say.
    """
    file = read_file(place, YearTable)
    year = file.table.year
    for name, (first, last) in file.table.holidays.items():
        if not first <= last <= first + _LONGEST_HOLIDAY:
            raise file.error(("holidays", name), "write its first day and its last, a month apart at most")
        if {first.year, last.year} != {year}:
            raise file.error(("holidays", name), f"not in {year}: each year has its own file")
    rests = frozenset(file.table.days_of_rest())
    for day in file.table.working_weekends:
        if day.year != year or day.weekday() < _SATURDAY or day in rests:
            raise file.error(("working_weekends",), f"{day} is no Saturday or Sunday of {year} outside its holidays")
    return file


def _text(place: Place) -> str:
    try:
        return (place.folder / place.name).read_text(encoding="utf-8")
    except OSError as error:
        raise RulesError(f"{place}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise RulesError(f"{place}: is not UTF-8") from None


def _error(place: Place, text: str, keys: Keys, message: str, hint: str = "") -> RulesError:
    path = tuple(str(key) for key in keys if key != "[key]")
    line = line_of(text, path)
    where = f"{place}:{line}" if line else str(place)
    return RulesError(f"{where}: {'.'.join(path)}: {message}", hint)
