import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.cli.frame.where import WhereError, parse_where
from exchange.core.filters import check_filter
from exchange.v1.directory_pb2 import (
    FIELD_TYPE_BOOLEAN,
    FIELD_TYPE_DATE,
    FIELD_TYPE_DECIMAL,
    FIELD_TYPE_INTEGER,
    FIELD_TYPE_TEXT,
)
from exchange.v1.request_pb2 import (
    COMPARATOR_EQUAL,
    COMPARATOR_GREATER,
    COMPARATOR_GREATER_OR_EQUAL,
    COMPARATOR_LESS,
    COMPARATOR_LESS_OR_EQUAL,
    COMPARATOR_NOT_EQUAL,
    Comparator,
    Comparison,
    Filter,
    Filters,
    Membership,
    NullTest,
    Value,
)

TYPES = {
    "district": FIELD_TYPE_TEXT,
    "rooms": FIELD_TYPE_INTEGER,
    "area_m2": FIELD_TYPE_DECIMAL,
    "since": FIELD_TYPE_DATE,
    "mortgaged": FIELD_TYPE_BOOLEAN,
    "order": FIELD_TYPE_TEXT,
    "date": FIELD_TYPE_DATE,
    "comment": FIELD_TYPE_TEXT,
}


def compare(field: str, comparator: Comparator.ValueType, **value: object) -> Filter:
    return Filter(comparison=Comparison(field=field, comparator=comparator, value=Value(**value)))


def negation(filter: Filter) -> Filter:
    return Filter(negation=filter)


def all_of(*filters: Filter) -> Filter:
    return Filter(all_of=Filters(filters=filters))


def any_of(*filters: Filter) -> Filter:
    return Filter(any_of=Filters(filters=filters))


def is_in(field: str, *values: Value) -> Filter:
    return Filter(membership=Membership(field=field, values=values))


def is_null(field: str) -> Filter:
    return Filter(null_test=NullTest(field=field))


IN_X = compare("district", COMPARATOR_EQUAL, text="X")
BIG = compare("area_m2", COMPARATOR_GREATER_OR_EQUAL, decimal="60")
UNDERSTOOD = {
    "district = 'X'": IN_X,
    "(district = 'X')": IN_X,
    "'X' = district": IN_X,
    "\"district\" = 'X'": IN_X,
    "district <> 'X'": compare("district", COMPARATOR_NOT_EQUAL, text="X"),
    "district != 'X'": compare("district", COMPARATOR_NOT_EQUAL, text="X"),
    "rooms < 3": compare("rooms", COMPARATOR_LESS, integer=3),
    "rooms <= -3": compare("rooms", COMPARATOR_LESS_OR_EQUAL, integer=-3),
    "rooms > 3": compare("rooms", COMPARATOR_GREATER, integer=3),
    "3 > rooms": compare("rooms", COMPARATOR_LESS, integer=3),
    "3 >= rooms": compare("rooms", COMPARATOR_LESS_OR_EQUAL, integer=3),
    "3 < rooms": compare("rooms", COMPARATOR_GREATER, integer=3),
    "3 <= rooms": compare("rooms", COMPARATOR_GREATER_OR_EQUAL, integer=3),
    "rooms = -9223372036854775808": compare("rooms", COMPARATOR_EQUAL, integer=-(2**63)),
    "area_m2 >= 60": BIG,
    "area_m2 = -60.50": compare("area_m2", COMPARATOR_EQUAL, decimal="-60.50"),
    "since >= '2026-01-31'": compare("since", COMPARATOR_GREATER_OR_EQUAL, date="2026-01-31"),
    "date = '2026-01-31'": compare("date", COMPARATOR_EQUAL, date="2026-01-31"),
    "mortgaged = TRUE": compare("mortgaged", COMPARATOR_EQUAL, boolean=True),
    "mortgaged <> false": compare("mortgaged", COMPARATOR_NOT_EQUAL, boolean=False),
    "mortgaged IS NULL": is_null("mortgaged"),
    "mortgaged IS NOT NULL": negation(is_null("mortgaged")),
    "NOT mortgaged IS NULL": negation(is_null("mortgaged")),
    "comment = 'x''; DROP TABLE y; --'": compare("comment", COMPARATOR_EQUAL, text="x'; DROP TABLE y; --"),
    r"comment = 'back\slash'": compare("comment", COMPARATOR_EQUAL, text="back\\slash"),
    "order = '临湖区'": compare("order", COMPARATOR_EQUAL, text="临湖区"),
    "rooms IN (1, -2)": is_in("rooms", Value(integer=1), Value(integer=-2)),
    "rooms NOT IN (1)": negation(is_in("rooms", Value(integer=1))),
    "rooms BETWEEN 1 AND 3": all_of(
        compare("rooms", COMPARATOR_GREATER_OR_EQUAL, integer=1), compare("rooms", COMPARATOR_LESS_OR_EQUAL, integer=3)
    ),
    "rooms NOT BETWEEN 1 AND 3": negation(
        all_of(
            compare("rooms", COMPARATOR_GREATER_OR_EQUAL, integer=1),
            compare("rooms", COMPARATOR_LESS_OR_EQUAL, integer=3),
        )
    ),
    "district = 'X' AND area_m2 >= 60 AND mortgaged IS NULL": all_of(IN_X, BIG, is_null("mortgaged")),
    "district = 'X' OR area_m2 >= 60 AND mortgaged IS NULL": any_of(IN_X, all_of(BIG, is_null("mortgaged"))),
    "(district = 'X' OR area_m2 >= 60) AND mortgaged IS NULL": all_of(any_of(IN_X, BIG), is_null("mortgaged")),
    "area_m2 >= 60 AND (district = 'X' OR NOT mortgaged IS NULL)": all_of(
        BIG, any_of(IN_X, negation(is_null("mortgaged")))
    ),
    "district = 'X' -- a remark": IN_X,
}

NOT_UNDERSTOOD = [
    "",
    " ",
    ";",
    "district",
    "mortgaged",
    "NOT mortgaged",
    "TRUE",
    "1",
    "1 = 1",
    "'a' = 'a'",
    "district = 'X' AND 1",
    "district =",
    "district = 'X",
    "(district = 'X'",
    "district = 'X' OR",
    "district = 'X'; district = 'Y'",
    "district = 'X' district",
    "district = 'X' UNION SELECT 1",
    "SELECT 1",
    "DROP TABLE x",
    "if = 1",
    "district LIKE 'X%'",
    "district ILIKE 'X'",
    "district SIMILAR TO 'X'",
    "district ~ 'X'",
    "lower(district) = 'x'",
    "district = lower('X')",
    "district = 'a' || 'b'",
    "district = 'a' 'b'",
    "district = 'X' COLLATE nocase",
    "district = N'X'",
    "district = X'00'",
    'district = "X"',
    "district = order",
    "district = X",
    "district = 5",
    "district = TRUE",
    "district = NULL",
    "district IN (NULL)",
    "district IN ()",
    "district IN ('X', order)",
    "district IN (SELECT 'X')",
    "district IN UNNEST(order)",
    "district = ANY('X')",
    "district = (SELECT 'X')",
    "district IS TRUE",
    "district IS NOT DISTINCT FROM 'X'",
    "district <=> 'X'",
    "district IS NULL IS NULL",
    "(district, order) = ('X', 'Y')",
    "town.district = 'X'",
    "District = 'X'",
    "nowhere = 'X'",
    "nowhere IS NULL",
    "rooms + 1 = 2",
    "rooms = 1 + 1",
    "rooms = -(-1)",
    "rooms = 1.0",
    "rooms = '1'",
    "rooms = 1e3",
    "rooms = 0x1F",
    "rooms = 1_000",
    "rooms = 9223372036854775808",
    "rooms = " + "9" * 5000,
    "rooms = ?",
    "rooms = :rooms",
    "rooms = $1",
    "rooms BETWEEN SYMMETRIC 3 AND 1",
    "rooms BETWEEN 1 AND order",
    "CASE WHEN rooms = 1 THEN TRUE END",
    "EXISTS (SELECT 1)",
    "CAST(rooms AS TEXT) = '1'",
    "rooms::text = '1'",
    "area_m2 = 1e5",
    "area_m2 = 60.",
    "area_m2 = '60'",
    "area_m2 = 0.0000000000000001",
    "since = '2026-02-30'",
    "since = '20260131'",
    "since = 20260131",
    "since = DATE '2026-01-31'",
    "since = CURRENT_DATE",
    "mortgaged = 1",
    "mortgaged = 'true'",
    "mortgaged IS NOT TRUE",
    "comment = 'a\0b'",
    "comment = '\udcff'",
    "(" * 3000 + "rooms = 1" + ")" * 3000,
    "NOT " * 17 + "rooms = 1",
    "NOT " * 3000 + "rooms = 1",
    " OR ".join(["rooms = 1"] * 256),
    "rooms IN (" + ", ".join(["1"] * 1001) + ")",
]


@pytest.mark.parametrize("text", UNDERSTOOD)
def test_understands(text: str) -> None:
    assert parse_where(text, TYPES) == UNDERSTOOD[text]


@pytest.mark.parametrize("text", NOT_UNDERSTOOD, ids=lambda text: ascii(text[:40]))
def test_refuses_what_has_no_place_in_a_filter(text: str) -> None:
    with pytest.raises(WhereError) as caught:
        parse_where(text, TYPES)
    assert caught.value.problem in str(caught.value)
    assert caught.value.example in str(caught.value)
    assert len(str(caught.value).encode()) < 400


def test_says_what_is_wrong_and_how_to_write_it() -> None:
    def words(text: str) -> str:
        with pytest.raises(WhereError) as caught:
            parse_where(text, TYPES)
        return str(caught.value)

    assert words("distrct = 'X'") == "there is no field distrct to filter by; for example: district"
    assert words("mortgaged") == "mortgaged is compared with nothing; for example: mortgaged = TRUE"
    assert words('district = "X"') == (
        "a field is compared with another field, not with a value; for example: district = 'X'"
    )
    assert words("rooms = NULL") == "nothing is equal to NULL; for example: rooms IS NULL"
    assert words("since = 2026") == "since takes a value of type date; for example: since = '2026-01-31'"
    assert words("district LIKE 'X%'").startswith("not understood: district LIKE 'X%'; for example: ")
    assert words("rooms = 1 rooms = 2").startswith("this cannot be read as a condition, near line 1, column 1")


@pytest.mark.parametrize("text", ["district = “X”", "district = ‘X’", "district = 「X」", "district = `X`"])
def test_other_quotes_than_sqls_are_named(text: str) -> None:
    with pytest.raises(WhereError, match=f"put values in '…', not in {text[11]}"):
        parse_where(text, TYPES)


def test_other_quotes_within_a_value_are_text() -> None:
    found = parse_where("district = 'it''s “X”'", TYPES)
    assert found.comparison.value.text == "it's “X”"


def test_says_so_when_nothing_can_be_filtered() -> None:
    with pytest.raises(WhereError, match="there is no field district to filter by"):
        parse_where("district = 'X'", {})


def test_a_long_chain_is_one_node() -> None:
    chain = parse_where(" AND ".join(["rooms = 1"] * 255), TYPES)
    assert len(chain.all_of.filters) == 255


words = st.sampled_from(
    ["district", "rooms", "area_m2", "'X'", "1", "2.5", "=", "<", "AND", "OR", "NOT", "IN", "IS", "NULL", "(", ")", ",",
     "BETWEEN", "TRUE", "-", "--", ";", "\"", "'", "LIKE", "SELECT", "*", "x("]
)  # fmt: skip


@given(st.lists(words, max_size=12).map(" ".join) | st.text(max_size=30))
def test_any_text_gives_a_sound_filter_or_an_error(text: str) -> None:
    try:
        filter = parse_where(text, TYPES)
    except WhereError:
        return
    check_filter(filter, frozenset(TYPES), TYPES)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_any_quoted_text_arrives_unchanged(text: str) -> None:
    quoted = text.replace("'", "''")
    assert parse_where(f"district = '{quoted}'", TYPES) == compare("district", COMPARATOR_EQUAL, text=text)
