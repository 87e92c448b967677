"""What every SQL connector keeps of masks, whatever its database: it selects, orders and cuts as if rows were masked.

The reference masks the records of `connector_contract` in plain Python, and filters them then.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from hypothesis import assume
from hypothesis import strategies as st

from adapters.connectors import ConnectorError, Question, Rows
from adapters.connectors.sql import SqlConnector
from exchange.core.filters import FilterError, Scalar, check_filter
from exchange.core.masking import Masking, keyed_hash
from exchange.core.restrictions import Types, masked_types
from exchange.v1.directory_pb2 import FIELD_TYPE_BOOLEAN, FIELD_TYPE_DATE, FIELD_TYPE_TEXT
from exchange.v1.request_pb2 import Filter, NullTest, Value
from exchange.v1.terms_pb2 import KeyedHash, Mask, YearOnly
from tests.connector_contract import FILTERABLE, RECORDS, TYPES, branches, captured, holds, leaves, ordered

KEY = bytes(32)
_DAYS = st.builds(Value, date=st.sampled_from(["2020-02-29", "0001-01-01", "9999-12-31", "2021-01-01"]))
_VISIBLE_YEARS = (1, 1999, 2020, 2026, 9999, -1, 0)


def masks_of(field: str) -> st.SearchStrategy[Mask]:
    """A mask that fits a field of the contract's table."""
    rules = []
    if TYPES[field] == FIELD_TYPE_TEXT:
        shown = st.sampled_from([1, 2, 3, 5, 64])
        rules += [st.builds(Mask, field=st.just(field), first=shown), st.builds(Mask, field=st.just(field), last=shown)]
    if TYPES[field] == FIELD_TYPE_DATE:
        rules.append(st.just(Mask(field=field, year_only=YearOnly())))
    if TYPES[field] != FIELD_TYPE_BOOLEAN:
        rules.append(st.just(Mask(field=field, hash=KeyedHash())))
    return st.one_of(rules)


def masked_values(field: str, mask: Mask) -> st.SearchStrategy[Value]:
    """Values near what a mask leaves of the stored ones, and stored ones as somebody would guess them."""
    if mask.HasField("year_only"):
        return st.builds(Value, integer=st.sampled_from(_VISIBLE_YEARS))
    stored = [record[field] for record in RECORDS if record[field] is not None]
    masking = Masking({field: mask}, KEY)
    seen = {str(masking.value(field, value)) for value in stored}
    guessed = {str(value) for value in stored}
    hashes = {keyed_hash(KEY, value) for value in stored if value is not None}
    return st.builds(Value, text=st.sampled_from(sorted(seen | guessed | hashes)))


def _plain_leaves(field: str) -> st.SearchStrategy[Filter]:
    """Those of the contract, but for a day that is in no calendar."""
    return leaves(field, _DAYS if field == "since" else None)


@st.composite
def maskings(draw: st.DrawFn) -> Masking:
    """Masks for any fields but booleans."""
    fields = draw(st.lists(st.sampled_from([name for name in TYPES if name != "let"]), min_size=1, unique=True))
    return Masking({field: draw(masks_of(field)) for field in fields}, KEY)


def _is_sound(filter: Filter | None, types: Types) -> bool:
    """Random texts hold what no question may."""
    try:
        check_filter(filter or Filter(null_test=NullTest(field="owner")), FILTERABLE, types)
    except FilterError:
        return False
    return True


@st.composite
def masked_questions(draw: st.DrawFn) -> Question:
    """A question that reads masked fields, as the host would ask it."""
    masking = draw(maskings())
    parts = [
        leaves(field, masked_values(field, mask)) if (mask := masking.masks.get(field)) else _plain_leaves(field)
        for field in TYPES
    ]
    filter = draw(st.none() | st.recursive(st.one_of(parts), branches, max_leaves=6))
    row_filter = draw(st.none() | st.one_of([_plain_leaves(field) for field in TYPES]))
    assume(_is_sound(filter, masked_types(TYPES, masking.masks)) and _is_sound(row_filter, TYPES))
    fields = draw(st.lists(st.sampled_from(list(TYPES)), min_size=1, unique=True))
    shown = "owner" not in masking.masks and draw(st.booleans())
    limit = draw(st.sampled_from([1, 2, 5, 1000]))
    return Question("homes", tuple(fields), None, filter, row_filter, limit, masking, key_shown=shown)


def check_masked(connector: SqlConnector, asked: Question) -> None:
    """The answer is the one that masked rows would give."""
    with captured(connector.engine) as statements:
        found = asyncio.run(connector.answer(asked))
    wanted = [
        {field: record[field] for field in asked.fields}
        for record in RECORDS
        if (asked.row_filter is None or holds(asked.row_filter, record) is True)
        and (asked.filter is None or holds(asked.filter, asked.masking.row(record)) is True)
    ]
    assert found.truncated == (len(wanted) > asked.limit)
    assert len(found.rows) == min(len(wanted), asked.limit)
    seen, all_seen = _seen(asked, found.rows), _seen(asked, wanted)
    # The rows that a limit lets through are the first ones, and where rows look alike it does not matter which.
    assert all(all_seen.count(row) >= seen.count(row) for row in seen)
    if not found.truncated:
        assert ordered(found.rows) == ordered(wanted)
    assert not any("DROP" in statement or "湖区" in statement for statement in statements)
    _check_order(asked, found)


def _seen(asked: Question, rows: Sequence[dict[str, Scalar | None]]) -> list[dict[str, Scalar | None]]:
    return [asked.masking.row(row) for row in rows]


def _check_order(asked: Question, found: Rows) -> None:
    """Masked fields alone decide between rows that are alike before them."""
    hashed = [field for field in asked.fields if field in asked.masking.hashed]
    names = [field for field in asked.fields if field not in hashed]
    for (one, row), (two, following) in pairwise(zip(found.subjects, _seen(asked, found.rows), strict=True)):
        if asked.key_shown and one != two:
            assert one < two
            continue
        for field in (*names, *hashed):
            if row[field] != following[field]:
                if row[field] is not None and following[field] is not None:
                    assert row[field] < following[field], field  # type: ignore[operator]
                break


def check_same_after_cut(connector: SqlConnector, asked: Question) -> None:
    """Asking for fewer rows gives the first of those that asking for all gives."""
    whole = asyncio.run(connector.answer(_limited(asked, 1000)))
    for limit in range(1, len(whole.rows) + 1):
        cut = asyncio.run(connector.answer(_limited(asked, limit)))
        assert _seen(asked, cut.rows) == _seen(asked, whole.rows[:limit])
        assert cut.truncated == (limit < len(whole.rows))


def _limited(asked: Question, limit: int) -> Question:
    return replace(asked, limit=limit)


def failure(connector: SqlConnector, asked: Question) -> str:
    """The reason of the ConnectorError that a question ends in."""
    try:
        asyncio.run(connector.answer(asked))
    except ConnectorError as error:
        return error.reason
    raise AssertionError("it was answered")
