"""Pairs of databases that differ only in what an agreement withholds, and questions that try to tell them apart.

`cases` draws an agreement over a dataset of `TYPES`, rows, the same rows with everything changed that the agreement
withholds, and questions. `expected` says in plain Python what may be seen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from exchange.core.filters import Scalar, scalar, scalar_text
from exchange.core.masking import keyed_hash
from exchange.core.restrictions import masked_types
from exchange.v1.directory_pb2 import Agreement, FieldType
from exchange.v1.request_pb2 import Comparison, Filter, Filters, Lookup, Membership, NullTest, Query, Selection, Value
from exchange.v1.terms_pb2 import KeyedHash, Limits, Mask, YearOnly
from tests.connector_contract import holds
from tests.world import LOOKUP, QUERY

TEXT, INTEGER, DECIMAL, DATE, BOOLEAN = (FieldType.ValueType(number) for number in (1, 2, 3, 4, 5))
KEY = "id"
TYPES: Mapping[str, FieldType.ValueType] = {
    KEY: TEXT,
    "name": TEXT,
    "born": DATE,
    "rooms": INTEGER,
    "area": DECIMAL,
    "let": BOOLEAN,
}
ROW_LIMIT = 4

Row = dict[str, Scalar | None]

_VALUES: Mapping[str, st.SearchStrategy[Scalar]] = {
    "name": st.sampled_from(["王芳", "王小芳", "李", "", "Ann", "ann", "Anna", "*", "a'\"%", "👩‍👧x"]),
    "born": st.sampled_from([date(1990, 3, 7), date(1990, 12, 31), date(1991, 1, 1), date(2020, 2, 29)]),
    "rooms": st.sampled_from([-1, 0, 2, 3]),
    "area": st.sampled_from([Decimal("58.40"), Decimal("60.5"), Decimal(0), Decimal("-0.1")]),
    "let": st.booleans(),
}
_KEYS = st.text("12ab湖", min_size=1, max_size=4)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: the fields, and a lookup or a selection."""

    fields: tuple[str, ...]
    query: Query

    @property
    def operation(self) -> int:
        """The one that it belongs to."""
        return LOOKUP if self.query.HasField("lookup") else QUERY


@dataclass(frozen=True, slots=True)
class Case:
    """An agreement, two databases that differ in what it withholds alone, and questions.

    Args:
        hashes: what a field has in the first database, by the field and what it has in the other behind the same hash.
    """

    agreement: Agreement
    rows: Sequence[Row]
    others: Sequence[Row]
    hashes: Mapping[tuple[str, Scalar], Scalar]
    questions: Sequence[Question]

    @property
    def masks(self) -> dict[str, Mask]:
        """Of the agreement, by field."""
        return {mask.field: mask for mask in self.agreement.masks}


def seen_value(mask: Mask | None, value: Scalar | None, key: bytes) -> Scalar | None:
    """What docs/protocol.md says that a mask leaves, written a second time."""
    if mask is None or value is None:
        return value
    match mask.WhichOneof("rule"):
        case "first":
            shown = mask.first if len(str(value)) > mask.first else 0
            return "".join(char if place < shown else "*" for place, char in enumerate(str(value)))
        case "last":
            hidden = len(str(value)) - mask.last if len(str(value)) > mask.last else len(str(value))
            return "".join("*" if place < hidden else char for place, char in enumerate(str(value)))
        case "year_only":
            return int(scalar_text(value)[:4])
    return keyed_hash(key, value)


def expected(case: Case, asked: Question, key: bytes) -> list[Row]:
    """The rows that may be seen, in any order, without any limit."""
    masks = case.masks
    found = []
    for row in case.rows:
        if case.agreement.HasField("row_filter") and holds(case.agreement.row_filter, row) is not True:
            continue
        seen = {name: seen_value(masks.get(name), value, key) for name, value in row.items()}
        if asked.query.HasField("lookup"):
            fits = seen[KEY] in [scalar(value) for value in asked.query.lookup.keys]
        else:
            selection = asked.query.selection
            fits = not selection.HasField("filter") or holds(selection.filter, seen) is True
        if fits:
            found.append({name: seen[name] for name in asked.fields})
    return found


# --- agreements ----------------------------------------------------------------------------------------


@st.composite
def agreements(draw: st.DrawFn) -> Agreement:
    """What an owner may grant of the dataset."""
    fields = draw(st.lists(st.sampled_from(list(TYPES)), min_size=1, max_size=4, unique=True))
    masks = [draw(_masks(name)) for name in fields if name != "let" and draw(st.integers(0, 2))]
    # Filters are there to try what is masked; one that is not shown, but may be filtered by, is as good as granted.
    filterable = [mask.field for mask in masks if draw(st.integers(0, 3))]
    filterable += draw(st.lists(st.sampled_from([name for name in TYPES if name not in filterable]), max_size=2))
    agreement = Agreement(
        fields=fields,
        filterable=dict.fromkeys(filterable),
        operations=draw(st.sampled_from([[QUERY], [LOOKUP, QUERY]])),
        masks=masks,
        limits=Limits(rows=draw(st.sampled_from([0, 0, 1, 2, 3]))),
    )
    if draw(st.integers(0, 2)) == 2:
        agreement.row_filter.CopyFrom(draw(_filters(TYPES, {name: _typed(name) for name in TYPES}, 2)))
    return agreement


def _masks(name: str) -> st.SearchStrategy[Mask]:
    rules: list[Mask] = [Mask(field=name, hash=KeyedHash())]
    if TYPES[name] == TEXT:
        rules += [Mask(field=name, first=1), Mask(field=name, last=1), Mask(field=name, first=2)]
    if TYPES[name] == DATE:
        rules.append(Mask(field=name, year_only=YearOnly()))
    return st.sampled_from(rules)


def _typed(name: str) -> st.SearchStrategy[Value]:
    values = _KEYS if name == KEY else _VALUES[name]
    return values.map(to_value)


def to_value(value: Scalar) -> Value:
    """A value as a question writes it."""
    match value:
        case bool():
            return Value(boolean=value)
        case int():
            return Value(integer=value)
        case Decimal():
            return Value(decimal=scalar_text(value))
        case date():
            return Value(date=value.isoformat())
    return Value(text=value)


def _filters(
    names: Mapping[str, Any], values: Mapping[str, st.SearchStrategy[Value]], leaves: int
) -> st.SearchStrategy[Filter]:
    def leaf(name: str) -> st.SearchStrategy[Filter]:
        comparison = st.builds(
            Comparison, field=st.just(name), comparator=st.sampled_from([1, 2, 3, 4, 5, 6]), value=values[name]
        )
        listed = st.lists(values[name], min_size=1, max_size=3)
        return st.one_of(
            st.builds(Filter, comparison=comparison),
            st.builds(Filter, membership=st.builds(Membership, field=st.just(name), values=listed)),
            st.just(Filter(null_test=NullTest(field=name))),
        )

    def branch(children: st.SearchStrategy[Filter]) -> st.SearchStrategy[Filter]:
        several = st.builds(Filters, filters=st.lists(children, min_size=1, max_size=3))
        return st.one_of(
            st.builds(Filter, all_of=several),
            st.builds(Filter, any_of=several),
            st.builds(Filter, negation=children),
        )

    return st.recursive(st.one_of([leaf(name) for name in names]), branch, max_leaves=leaves)


# --- the other database ----------------------------------------------------------------------------------


def withheld(agreement: Agreement) -> frozenset[str]:
    """The fields of which nothing may be seen."""
    seen = {*agreement.fields, *agreement.filterable}
    if LOOKUP in agreement.operations:
        seen.add(KEY)
    return frozenset(TYPES) - seen


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A case with two to seven rows, and two to four questions."""
    agreement = draw(agreements())
    rows = [_row(draw, key) for key in draw(st.lists(_KEYS, min_size=2, max_size=7, unique=True))]
    renamed = _renamed(draw, agreement, rows)
    others = [_changed(draw, agreement, renamed, row) for row in rows if _lets_through(agreement, row)]
    # Nothing of the rows that the agreement keeps back may be noticed, not even how many there are.
    outside = [_row(draw, key) for key in draw(st.lists(_KEYS, max_size=3, unique=True))]
    others += [row for row in outside if not _lets_through(agreement, row)]
    questions = draw(st.lists(_questions(agreement, rows, others), min_size=2, max_size=4))
    back = {(name, new): old for name, found in renamed.items() for old, new in found.items()}
    return Case(agreement, rows, draw(st.permutations(others)), back, questions)


def _renamed(draw: st.DrawFn, agreement: Agreement, rows: Sequence[Row]) -> dict[str, dict[Scalar, Scalar]]:
    """For each hashed field, what takes the place of what: equal values stay equal, and no more is seen of them."""
    found = {}
    for mask in agreement.masks:
        if mask.HasField("hash") and mask.field not in _read_by(agreement.row_filter):
            values = sorted({value for row in rows if (value := row[mask.field]) is not None})  # type: ignore[type-var]
            found[mask.field] = dict(zip(values, draw(st.permutations(values)), strict=True))
    return found


def _read_by(filter: Filter) -> set[str]:
    match filter.WhichOneof("node"):
        case None:
            return set()
        case "negation":
            return _read_by(filter.negation)
        case "all_of" | "any_of" as node:
            return set[str]().union(*(_read_by(child) for child in getattr(filter, node).filters))
        case leaf:
            return {getattr(filter, leaf).field}


def _row(draw: st.DrawFn, key: str) -> Row:
    return {KEY: key} | {name: draw(_or_null(values)) for name, values in _VALUES.items()}


def _or_null(values: st.SearchStrategy[Scalar]) -> st.SearchStrategy[Scalar | None]:
    return st.integers(0, 7).flatmap(lambda drawn: st.none() if drawn == 7 else values)


def _changed(draw: st.DrawFn, agreement: Agreement, renamed: Mapping[str, Mapping[Scalar, Scalar]], row: Row) -> Row:
    """Another row that looks the same, and that the agreement lets through as well."""
    hidden, masks = withheld(agreement), {mask.field: mask for mask in agreement.masks}
    other = dict(row)
    for name, value in row.items():
        if name in hidden:
            tried = draw(_KEYS if name == KEY else _or_null(_VALUES[name]))
        elif value is None or name not in masks:
            continue
        elif masks[name].HasField("hash"):
            tried = renamed[name][value] if name in renamed else value
        else:
            tried = draw(_behind(masks[name], value))
        if _lets_through(agreement, other | {name: tried}):
            other[name] = tried
    return other


def _behind(mask: Mask, value: Scalar) -> st.SearchStrategy[Scalar]:
    """Other values that look the same behind a mask."""
    if isinstance(value, date):
        return st.dates(date(value.year, 1, 1), date(value.year, 12, 31))
    text = str(value)
    rule = mask.WhichOneof("rule") or ""
    shown = getattr(mask, rule) if len(text) > getattr(mask, rule) else 0
    noise = st.text("xyz王*1", min_size=len(text) - shown, max_size=len(text) - shown)
    return noise.map(lambda drawn: text[:shown] + drawn if rule == "first" else drawn + text[len(text) - shown :])


def _lets_through(agreement: Agreement, row: Row) -> bool:
    return not agreement.HasField("row_filter") or holds(agreement.row_filter, row) is True


# --- questions -------------------------------------------------------------------------------------------


def _questions(agreement: Agreement, rows: Sequence[Row], others: Sequence[Row]) -> st.SearchStrategy[Question]:
    masks = {mask.field: mask for mask in agreement.masks}
    values = {name: _near(name, masks.get(name), rows, others) for name in agreement.filterable}
    fields = st.lists(st.sampled_from(list(agreement.fields)), min_size=1, unique=True).map(tuple)
    limits = st.sampled_from([0, 0, 1, 2, 3])
    filter = st.none() | _filters(values, values, 3) if values else st.none()
    selections = st.builds(Selection, filter=filter, limit=limits)
    queries = st.builds(Query, format=st.just(1), selection=selections)
    if LOOKUP in agreement.operations:
        keys = st.lists(_near(KEY, masks.get(KEY), rows, others), min_size=1, max_size=4)
        lookups = st.builds(Query, format=st.just(1), lookup=st.builds(Lookup, keys=keys))
        queries = st.one_of(queries, lookups)
    return st.builds(Question, fields, queries)


def _near(name: str, mask: Mask | None, rows: Sequence[Row], others: Sequence[Row]) -> st.SearchStrategy[Value]:
    """Values that are seen, and values that somebody would guess who wants to know more."""
    stored = [value for row in (*rows, *others) if (value := row[name]) is not None]
    if mask is None:
        return st.sampled_from([to_value(value) for value in stored] or [_anything(name)])
    seen = [seen_value(mask, value, bytes(32)) for value in stored]
    kind = masked_types(TYPES, {name: mask})[name]
    guesses = [value for value in stored if TYPES[name] == kind]
    found = [to_value(value) for value in (*seen, *guesses) if value is not None]
    return st.sampled_from(found or [Value(integer=1) if kind == INTEGER else Value(text="*")])


def _anything(name: str) -> Value:
    samples: Mapping[int, Value] = {
        TEXT: Value(text="x"),
        INTEGER: Value(integer=1),
        DECIMAL: Value(decimal="1"),
        DATE: Value(date="1990-03-07"),
        BOOLEAN: Value(boolean=True),
    }
    return samples[TYPES[name]]
