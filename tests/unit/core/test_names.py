"""A party has one spelling, and authority follows whole segments."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.errors import NameFormatError
from exchange.core.names import Party, is_case_id, is_code, is_field, is_officer, lookalike, skeleton

EXCHANGE = Party("share.gov.example")
HEALTH = Party("share.gov.example", "health")
REGISTRY = Party("share.gov.example", "health", "registry-2")

SEGMENTS = st.text("abz059-", min_size=1, max_size=63)
DOMAINS = st.lists(SEGMENTS, min_size=1, max_size=4).map(".".join).filter(lambda domain: len(domain) <= 253)
PARTIES = st.one_of(
    st.builds(Party, DOMAINS),
    st.builds(Party, DOMAINS, SEGMENTS),
    st.builds(Party, DOMAINS, SEGMENTS, SEGMENTS),
)
# Near misses: the characters of names, those that look like them, and those that parsers trip over.
NEAR = st.text("ab-./:%A_ \n\r\t\0+?#@é٠０ａ\u2028", max_size=12)

MALFORMED = [
    "",
    "exchange:",
    "exchange://",
    "exchange:///health",
    "share.gov.example/health",
    "Exchange://share.gov.example",
    "https://share.gov.example/health",
    " exchange://share.gov.example",
    "exchange://share.gov.example/",
    "exchange://share.gov.example//registry",
    "exchange://share.gov.example/health/",
    "exchange://share.gov.example/health/registry/",
    "exchange://share.gov.example/health/registry/table",
    "exchange://share.gov.example/health\n",
    "exchange://share.gov.example\n",
    "exchange://share.gov.example/health/registry\n",
    "exchange://share.gov.example/Health",
    "exchange://share.gov.example/heal th",
    "exchange://share.gov.example/heal_th",
    "exchange://share.gov.example/heal.th",
    "exchange://share.gov.example/heal%74h",
    "exchange://share.gov.example/héalth",
    "exchange://share.gov.example/health٣",
    "exchange://share.gov.example/health３",
    "exchange://share.gov.example/卫生",
    "exchange://share.gov.example/health?x",
    "exchange://share.gov.example/health#x",
    "exchange://share.gov.example:443/health",
    "exchange://user@share.gov.example/health",
    "exchange://Share.gov.example",
    "exchange://share..example",
    "exchange://.share.example",
    "exchange://share.example.",
    "exchange://" + "a" * 64,
    "exchange://share.example/" + "a" * 64,
    "exchange://share.example/health/" + "a" * 64,
    "exchange://" + ".".join(["a" * 63] * 4),
]


@given(PARTIES)
def test_a_name_reads_back_as_the_party_that_wrote_it(party: Party) -> None:
    assert Party.parse(str(party)) == party


@given(st.one_of(NEAR, st.text()).map(lambda tail: "exchange://" + tail) | st.text())
def test_any_text_is_one_partys_only_spelling_or_refused(text: str) -> None:
    try:
        party = Party.parse(text)
    except NameFormatError:
        return
    assert str(party) == text


@pytest.mark.parametrize("text", MALFORMED)
def test_refuses_malformed_name(text: str) -> None:
    with pytest.raises(NameFormatError):
        Party.parse(text)


@pytest.mark.parametrize(
    ("domain", "department", "system"),
    [
        ("a/b", None, None),
        ("a", "b/c", None),
        ("a", "", None),
        ("a", None, "c"),
        ("a", "b", ""),
        ("", None, None),
    ],
)
def test_refuses_malformed_party_however_it_is_made(domain: str, department: str | None, system: str | None) -> None:
    with pytest.raises(NameFormatError):
        Party(domain, department, system)


def test_accepts_names_up_to_the_limits() -> None:
    domain = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61])
    text = f"exchange://{domain}/{'e' * 63}/{'-' * 63}"
    assert len(domain) == 253
    assert str(Party.parse(text)) == text


def test_covers_itself_and_what_lies_below_only() -> None:
    chain = (EXCHANGE, HEALTH, REGISTRY)
    for depth, party in enumerate(chain):
        assert [party.covers(other) for other in chain] == [place >= depth for place in range(3)]


@pytest.mark.parametrize(
    "other",
    [
        "exchange://share.gov.example/health-insurance",
        "exchange://share.gov.example/healt",
        "exchange://share.gov.example2/health",
        "exchange://share.gov/health",
        "exchange://x.share.gov.example/health/registry-2",
        "exchange://share.gov.example/registry-2/health",
    ],
)
def test_covers_by_whole_segments_only(other: str) -> None:
    assert not HEALTH.covers(Party.parse(other))
    assert not Party.parse(other).covers(HEALTH)


@given(PARTIES, PARTIES)
def test_covering_both_ways_is_equality(one: Party, other: Party) -> None:
    assert (one.covers(other) and other.covers(one)) == (one == other)


@given(PARTIES)
def test_parents_lead_to_the_exchange_and_cover_their_children(party: Party) -> None:
    parent = party.parent
    assert (parent is None) == party.is_exchange
    if parent is not None:
        assert parent.covers(party)
        assert not party.covers(parent)
        assert len(parent.segments) == len(party.segments) - 1


def test_a_party_is_of_exactly_one_kind() -> None:
    kinds = [(party.is_exchange, party.is_department, party.is_system) for party in (EXCHANGE, HEALTH, REGISTRY)]
    assert kinds == [(True, False, False), (False, True, False), (False, False, True)]


ACCEPTED = [
    (is_code, ["a", "0", "population.household", "a-b.0-c", "a" * 63, "a" * 63 + "." + "b" * 63]),
    (is_case_id, ["a", "2026-HX-000123", "-", "Z" * 64]),
    (is_officer, ["o", "Officer_1.a-b", ".", "z" * 64]),
    (is_field, ["a", "birth_date", "a0_", "a" * 63]),
]
REFUSED = [
    (is_code, ["-a", "a.-b", "A", "a_b", "a.", ".a", "a..b", "a" * 64, "aa." + "b" * 63 + "." + "c" * 62]),
    (is_case_id, ["a_b", "a.b", "a/b", "Z" * 65]),
    (is_officer, ["a b", "a@b", "a/b", "z" * 65]),
    (is_field, ["0a", "_a", "A", "a-b", "a.b", "a" * 64]),
]
ALWAYS_REFUSED = [
    "",
    " ",
    "a\n",
    "\na",
    "a ",
    "a\0",
    "é",
    "a٣",
    "a３",
    "ａ",
    "a%41",
    "卫生",
    'a"',
    "a'",
    "a;",
]


@pytest.mark.parametrize(("is_valid", "texts"), ACCEPTED)
def test_accepts_code(is_valid: Callable[[str], bool], texts: list[str]) -> None:
    assert [text for text in texts if not is_valid(text)] == []


@pytest.mark.parametrize(("is_valid", "texts"), [(check, texts + ALWAYS_REFUSED) for check, texts in REFUSED])
def test_refuses_code(is_valid: Callable[[str], bool], texts: list[str]) -> None:
    assert [text for text in texts if is_valid(text)] == []


def test_a_system_has_its_department_and_others_themselves() -> None:
    for name, department in (("/health/clinic", "/health"), ("/health", "/health"), ("", "")):
        party = Party.parse(f"exchange://city.example{name}")
        assert str(party.own_department) == f"exchange://city.example{department}"


@pytest.mark.parametrize(
    "name", ["housing", "hous1ng", "houslng", "h0using", "hou5ing", "hou-sing", "-housing-", "h0u51ng"]
)
def test_what_looks_alike_has_one_skeleton(name: str) -> None:
    assert skeleton(name) == skeleton("housing")


@pytest.mark.parametrize(("one", "other"), [("modem", "rnodem"), ("modern", "modem"), ("vvine", "wine"), ("r-n", "m")])
def test_letters_that_run_into_each_other_look_alike(one: str, other: str) -> None:
    assert skeleton(one) == skeleton(other)


@pytest.mark.parametrize(("one", "other"), [("housing", "housings"), ("tax", "tex"), ("desk-3", "desk-4"), ("a", "b")])
def test_what_can_be_told_apart_does_not_look_alike(one: str, other: str) -> None:
    assert skeleton(one) != skeleton(other)


def test_a_lookalike_has_the_same_parent_and_another_name() -> None:
    housing, clinic = Party("city.example", "housing"), Party("city.example", "health", "c1inic")
    others = [Party("city.example"), housing, Party("city.example", "health", "housing"), clinic]
    assert lookalike(housing, others) is None
    assert lookalike(Party("city.example", "h0using"), others) == housing
    assert lookalike(Party("city.example", "health", "clinic"), others) == clinic
    assert lookalike(Party("city.example", "tax", "clinic"), others) is None
    assert lookalike(Party("town.example", "h0using"), others) is None


@given(SEGMENTS, SEGMENTS)
def test_hyphens_never_tell_two_names_apart(one: str, other: str) -> None:
    assert skeleton(f"{one}-{other}") == skeleton(f"{one}{other}")
