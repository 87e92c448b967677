from hypothesis import given
from hypothesis import strategies as st

from exchange.cli.frame.filter_text import filter_text
from exchange.cli.frame.where import parse_where
from exchange.v1.directory_pb2 import FieldType
from exchange.v1.request_pb2 import Comparator, Comparison, Filter, Filters, Membership, NullTest, Value

TYPES = {
    "name": FieldType.FIELD_TYPE_TEXT,
    "size": FieldType.FIELD_TYPE_INTEGER,
    "area": FieldType.FIELD_TYPE_DECIMAL,
    "born": FieldType.FIELD_TYPE_DATE,
    "alive": FieldType.FIELD_TYPE_BOOLEAN,
}
COMPARATORS = [number for number in Comparator.values() if number]
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
VALUES = {
    "name": TEXT.map(lambda text: Value(text=text)),
    "size": st.integers(-(2**63), 2**63 - 1).map(lambda number: Value(integer=number)),
    "area": st.decimals(-(10**6), 10**6, places=2).map(lambda number: Value(decimal=format(number, "f"))),
    "born": st.dates().map(lambda day: Value(date=day.isoformat())),
    "alive": st.booleans().map(lambda truth: Value(boolean=truth)),
}


@st.composite
def leaves(draw: st.DrawFn) -> Filter:
    field = draw(st.sampled_from(sorted(TYPES)))
    match draw(st.integers(0, 2)):
        case 0:
            comparator = draw(st.sampled_from(COMPARATORS))
            return Filter(comparison=Comparison(field=field, comparator=comparator, value=draw(VALUES[field])))
        case 1:
            values = draw(st.lists(VALUES[field], min_size=1, max_size=3))
            return Filter(membership=Membership(field=field, values=values))
    return Filter(null_test=NullTest(field=field))


def joined(children: st.SearchStrategy[Filter]) -> st.SearchStrategy[Filter]:
    several = st.lists(children, min_size=2, max_size=3).map(lambda items: Filters(filters=items))
    return st.one_of(
        several.map(lambda filters: Filter(all_of=filters)),
        several.map(lambda filters: Filter(any_of=filters)),
        children.map(lambda child: Filter(negation=child)),
    )


@given(st.recursive(leaves(), joined, max_leaves=8))
def test_a_filter_written_as_text_is_read_back_the_same(filter: Filter) -> None:
    assert parse_where(filter_text(filter), TYPES) == filter
