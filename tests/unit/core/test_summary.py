"""A summary of refusals: counts that add up, a tree that each signed refusal has its place in, one strict form."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.access import read_access_leaf
from exchange.core.errors import DecodeError
from exchange.core.merkle import root_of
from exchange.core.summary import MINUTE, Summary, refusals_in
from exchange.core.wire import encode
from exchange.v1.access_pb2 import AccessKind, AccessLeaf, Code, RefusalCount
from tests.world import APPLICATIONS, BROKER, START

CODES = [code for code in Code.values() if code]
DIGEST = bytes(range(32))


def summary(*codes: Code.ValueType) -> Summary:
    grown = Summary(str(BROKER), START, START)
    for place, code in enumerate(codes):
        grown = grown.add(code, place.to_bytes(32, "big"), START + place)
    return grown


def leaf(grown: Summary, **changes: Any) -> bytes:
    found = AccessLeaf(
        format=1,
        time=START + MINUTE,
        kind=AccessKind.ACCESS_KIND_REFUSALS,
        requester=str(APPLICATIONS),
        refusal_digest=DIGEST,
        directory_size=3,
    )
    found.MergeFrom(grown.fields())
    for name, value in changes.items():
        found.ClearField(name)  # type: ignore[arg-type]
        found.MergeFrom(AccessLeaf(**{name: value}))
    return encode(found)


@given(st.lists(st.sampled_from(CODES), min_size=1, max_size=40))
def test_counts_each_code_and_keeps_the_tree_of_their_digests(codes: list[Code.ValueType]) -> None:
    read = read_access_leaf(leaf(summary(*codes)))
    assert {item.code: item.count for item in read.counts} == {code: codes.count(code) for code in codes}
    assert refusals_in(read) == len(codes)
    assert read.refusals_root == root_of([place.to_bytes(32, "big") for place in range(len(codes))])
    assert (read.since, read.until, read.refuser) == (START, START + len(codes) - 1, str(BROKER))


def test_covers_a_minute_at_the_most() -> None:
    grown = summary(Code.CODE_OVERLOADED)
    assert grown.takes(START)
    assert grown.takes(START + MINUTE)
    assert not grown.takes(START + MINUTE + 1)


def test_takes_nothing_of_an_earlier_moment_than_its_last_refusal() -> None:
    assert not summary(Code.CODE_OVERLOADED, Code.CODE_OVERLOADED).takes(START)


def count(code: Code.ValueType, number: int) -> RefusalCount:
    return RefusalCount(code=code, count=number)


WRONG: dict[str, dict[str, Any]] = {
    "a code": {"code": Code.CODE_OVERLOADED},
    "a provider": {"provider": str(APPLICATIONS)},
    "a request id": {"request_id": bytes(16)},
    "a request": {"request_digest": DIGEST},
    "a response": {"response_digest": DIGEST},
    "no last refusal": {"refusal_digest": b""},
    "no root": {"refusals_root": b""},
    "a long root": {"refusals_root": bytes(33)},
    "no counts": {"counts": []},
    "a count of nothing": {"counts": [count(Code.CODE_OVERLOADED, 0)]},
    "a count without a code": {"counts": [count(Code.CODE_UNSPECIFIED, 1)]},
    "a code twice": {"counts": [count(Code.CODE_EXPIRED, 1)] * 2},
    "codes out of order": {"counts": [count(Code.CODE_EXPIRED, 1), count(Code.CODE_OVERLOADED, 1)]},
    "an end before its beginning": {"until": START - 1},
    "more than a minute": {"until": START + MINUTE + 1},
    "nobody": {"requester": ""},
    "no broker": {"refuser": "the broker"},
}


@pytest.mark.parametrize("changes", WRONG.values(), ids=WRONG.keys())
def test_refuses_a_summary_with(changes: dict[str, Any]) -> None:
    with pytest.raises(DecodeError):
        read_access_leaf(leaf(summary(Code.CODE_OVERLOADED), **changes))


PARTS: list[dict[str, Any]] = [
    {"counts": [count(Code.CODE_OVERLOADED, 1)]},
    {"since": 1},
    {"until": 1},
    {"refusals_root": DIGEST},
    {"refuser": str(BROKER)},
]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: next(iter(part)))
def test_refuses_any_other_entry_with_a_field_of_a_summary(part: dict[str, Any]) -> None:
    fields = {"format": 1, "kind": AccessKind.ACCESS_KIND_REFUSED, "code": Code.CODE_OVERLOADED}
    assert refusals_in(read_access_leaf(encode(AccessLeaf(**fields)))) == 1
    with pytest.raises(DecodeError, match="only a summary"):
        read_access_leaf(encode(AccessLeaf(**fields, **part)))
