import pytest

from exchange.catalogue.lexicon import CONCEPT, HEAD, ROLE, TERM, lexicon
from exchange.catalogue.meaning import Meaning, in_context, read_meaning, read_pinyin
from exchange.catalogue.patterns import PATTERNS


@pytest.mark.parametrize(
    ("text", "concept", "roles"),
    [
        ("姓名", "person.name", ()),
        ("申请人姓名", "person.name", ()),
        ("法定代表人姓名", "person.name", ("legal_representative",)),
        ("法定代表人", "person.name", ("legal_representative",)),
        ("企业名称", "organisation.name", ()),
        ("配偶身份证号", "person.identity_number", ("spouse",)),
        ("spouse_id_number", "person.identity_number", ("spouse",)),
        ("Spouse of the legal representative", "person.name", ("legal_representative", "spouse")),
        ("Unified social credit code of the employer", "organisation.uscc", ("employer",)),
        ("出生日期", "person.birth_date", ()),
        ("登记日期", "date", ()),
        ("户籍地址", "person.registered_address", ()),
        ("经营地址", "organisation.business_address", ()),
        ("项目名称", "project.name", ()),
        ("aac003", "person.name", ()),
        ("DE02.01.005.01", "person.birth_date", ()),
        ("溶解氧", "", ()),
        ("", "", ()),
    ],
)
def test_says_what_a_value_is_and_whose(text: str, concept: str, roles: tuple[str, ...]) -> None:
    found = read_meaning(text)
    assert (found.concept, tuple(sorted(found.roles))) == (concept, roles)


def test_what_the_lexicon_does_not_know_is_kept() -> None:
    assert read_meaning("合同签订日期") == Meaning("date", True, modifiers=frozenset({"contract", "签订"}))


def test_a_head_before_another_narrows_it() -> None:
    assert read_meaning("office_name") == Meaning("name", True, modifiers=frozenset({"authority"}))


@pytest.mark.parametrize(
    ("holder", "phone", "name", "address"),
    [
        ("person", "person", "person.name", "person.residence"),
        ("organisation", "organisation", "organisation.name", "organisation.address"),
        ("", "", "name", "address"),
    ],
)
def test_the_record_says_whose_a_bare_word_is(holder: str, phone: str, name: str, address: str) -> None:
    assert in_context(read_meaning("联系电话"), holder).holder == phone
    assert in_context(read_meaning("名称"), holder).concept == name
    assert in_context(read_meaning("地址"), holder).concept == address


def test_the_record_does_not_change_what_a_label_says() -> None:
    assert in_context(read_meaning("企业联系电话"), "person").holder == "organisation"
    assert in_context(read_meaning("office_name"), "person").concept == "name"


@pytest.mark.parametrize(
    ("name", "concept", "roles"),
    [
        ("xm", "person.name", ()),
        ("XINGMING", "person.name", ()),
        ("sfzh", "person.identity_number", ()),
        ("csrq", "person.birth_date", ()),
        ("poxm", "person.name", ("spouse",)),
        ("po_sfzh", "person.identity_number", ("spouse",)),
        ("mz", "person.nation", ()),
    ],
)
def test_reads_names_in_pinyin(name: str, concept: str, roles: tuple[str, ...]) -> None:
    assert (concept, frozenset(roles)) in {(found.concept, found.roles) for found in read_pinyin(name)}


@pytest.mark.parametrize("name", ["temperature", "q", "姓名", ""])
def test_other_names_are_no_pinyin(name: str) -> None:
    assert read_pinyin(name) == ()


def test_the_lexicon_agrees_with_itself() -> None:
    words = lexicon()
    assert sum(1 for kind, _ in words.words if kind == CONCEPT) >= 120
    for word in words.words.values():
        assert word.kind in (CONCEPT, HEAD, ROLE, TERM, "stop")
        assert not word.broader or words.meaning_word(word.broader) is not None, word
        assert not word.pattern or word.pattern in PATTERNS, word
        assert word.subject or not word.anyone, word
    ids = [id for kind, id in words.words if kind in (CONCEPT, HEAD)]
    assert len(ids) == len(set(ids))
