"""Pairs of fields that must be told apart, or found, and the order of sources."""

import pytest

from exchange.catalogue.fields import FieldProfile, Profile, dataset_profile
from exchange.catalogue.similar import THRESHOLD, Catalogue, Match, Source
from exchange.v1.directory_pb2 import Dataset, Field, FieldType

PERSON = ("公民身份号码", "姓名", "出生日期")
COMPANY = ("统一社会信用代码", "企业名称", "经营范围")


def profile(*labels: str, title: str = "", **more: str) -> Profile:
    return Profile(title, "form", tuple(FieldProfile(label, label=label, **more) for label in labels))


def best(wanted: Profile, provided: Profile, minimum: float = THRESHOLD) -> Match | None:
    """What provides the first field."""
    [first, *_] = Catalogue.of([Source("a/b", provided)]).similar(wanted, minimum).fields
    return first.matches[0] if first.matches else None


@pytest.mark.parametrize(
    ("wanted", "provided"),
    [
        ("身份证号", "公民身份号码"),
        ("citizen id", "公民身份号码"),
        ("Date of birth", "出生年月"),
        ("申请人姓名", "姓名"),
        ("法人身份证号", "法定代表人身份证号码"),
        ("手机号码", "联系电话"),
        ("户口所在地", "户籍地址"),
        ("税号", "统一社会信用代码"),
        ("Employer", "工作单位名称"),
        ("溶解氧", "溶解氧"),
        ("河道断面编号", "河道断面编码"),
    ],
)
def test_finds_the_same_thing_in_other_words(wanted: str, provided: str) -> None:
    found = best(profile(wanted), profile(provided))
    assert found is not None
    assert found.reasons


@pytest.mark.parametrize(
    ("wanted", "provided"),
    [
        ("姓名", "企业名称"),
        ("姓名", "法定代表人姓名"),
        ("法定代表人姓名", "姓名"),
        ("申请人身份证号", "配偶身份证号"),
        ("父亲姓名", "母亲姓名"),
        ("出生日期", "登记日期"),
        ("出生日期", "死亡日期"),
        ("户籍地址", "经营地址"),
        ("户籍地址", "现住址"),
        ("注册地址", "经营场所"),
        ("企业联系电话", "申请人联系电话"),
        ("联系人手机", "企业联系电话"),
        ("工作单位", "企业名称"),
        ("合同编号", "项目编号"),
        ("备注", "备注"),
        ("建筑面积", "套内建筑面积"),
        ("养老金金额", "补贴金额"),
    ],
)
def test_tells_apart_what_only_sounds_alike(wanted: str, provided: str) -> None:
    assert best(profile(wanted), profile(provided)) is None


def test_a_bare_telephone_is_whose_the_record_is_about() -> None:
    person, company = profile("联系电话", *PERSON), profile("联系电话", *COMPANY)
    assert best(person, company) is None
    assert best(person, person) is not None
    assert best(company, company) is not None


def test_a_dataset_says_by_itself_whom_it_is_about() -> None:
    bare = profile("联系电话")
    company = Dataset(subject_type="company", fields=[Field(name="phone", label="联系电话")])
    assert best(profile("企业联系电话"), dataset_profile(company)) is not None
    assert best(profile("联系电话", *PERSON), dataset_profile(company)) is None
    assert best(profile("联系电话", *PERSON), bare) is not None


def test_a_dataset_is_compared_by_all_that_its_owner_says() -> None:
    field = Field(name="f", label="f", label_en="Date of birth", element="X1", type=FieldType.FIELD_TYPE_DATE)
    [read] = dataset_profile(Dataset(title="T", fields=[field])).fields
    assert read == FieldProfile("f", "f", "", "Date of birth", "", "date", "X1")


def test_a_bare_status_says_something_only_of_the_same_kind_of_record() -> None:
    vehicles, houses = profile("状态", "车牌号", "发动机号"), profile("状态", "房屋坐落", "建筑面积")
    assert best(vehicles, houses) is None
    assert best(vehicles, vehicles) is not None


def test_one_data_element_is_one_field_whatever_it_is_called() -> None:
    found = best(profile("甲", element="X01.02"), profile("乙", element="x01.02"))
    assert found is not None
    assert found.reasons[0] == "same data element: X01.02"


def test_other_data_elements_speak_against_equal_labels() -> None:
    assert best(profile("姓名", element="X01"), profile("姓名", element="X02")) is None


def test_types_that_exclude_each_other_lower_the_score() -> None:
    same = best(profile("成立日期", type="date"), profile("成立日期", type="date"))
    other = best(profile("成立日期", type="date"), profile("成立日期", type="integer"))
    assert same is not None
    assert other is not None
    assert other.score < same.score
    assert "type differs: date, integer" in other.reasons


def test_values_that_exclude_each_other_are_not_the_same_field() -> None:
    mobile = Profile("", "csv", (FieldProfile("身份证号", label="身份证号", patterns=frozenset({"mobile"})),))
    assert best(mobile, profile("身份证号")) is None


def test_values_speak_where_a_name_says_nothing() -> None:
    column = Profile("", "csv", (FieldProfile("F7", name="F7", patterns=frozenset({"identity_number"})),))
    found = best(column, profile("配偶身份证号", "身份证号"))
    assert found is not None
    assert found.field.label == "身份证号"
    assert "resident identity numbers" in found.reasons[0]


def test_two_letters_are_pinyin_only_among_others() -> None:
    alone = Profile("", "sql", (FieldProfile("mz", name="mz"),))
    among = Profile("", "sql", tuple(FieldProfile(name, name=name) for name in ("mz", "csrq", "sfzh", "lxdh")))
    assert best(alone, profile("民族")) is None
    assert best(among, profile("民族")) is not None


def test_a_name_is_found_as_the_pinyin_of_a_label_that_no_lexicon_knows() -> None:
    found = best(Profile("", "sql", (FieldProfile("hddmbm", name="hddmbm"),)), profile("河道断面编码"))
    assert found is not None
    assert "is the pinyin of" in found.reasons[0]


def test_a_block_says_whose_its_fields_are() -> None:
    spouse = Profile("", "json-schema", (FieldProfile("spouse.name", name="name", group="spouse"),))
    assert best(spouse, profile("姓名", *PERSON)) is None
    assert best(spouse, profile("配偶姓名")) is not None


def test_the_source_that_provides_more_of_it_comes_first() -> None:
    sources = [
        Source("a/one", profile("姓名")),
        Source("b/all", profile(*PERSON)),
        Source("c/two", profile(*PERSON[1:])),
    ]
    found = Catalogue.of(sources).similar(profile(*PERSON))
    assert [item.source.name for item in found.datasets] == ["b/all", "c/two", "a/one"]
    assert all(field.matches[0].source.name == "b/all" for field in found.fields)
    assert found.provided == 3


def test_a_register_of_everybody_comes_before_one_of_pupils() -> None:
    sources = [Source("a/pupils", profile("学生姓名", "学号")), Source("b/people", profile("姓名", "籍贯"))]
    [field] = Catalogue.of(sources).similar(profile("申请人姓名")).fields
    assert [match.source.name for match in field.matches] == ["b/people", "a/pupils"]


def test_no_more_sources_are_told_than_asked_for() -> None:
    catalogue = Catalogue.of(Source(f"a/{number}", profile("姓名")) for number in range(30))
    found = catalogue.similar(profile("姓名"), limit=3)
    assert (len(found.fields[0].matches), len(found.datasets)) == (3, 3)
    assert len(catalogue.similar(profile("姓名"), limit=None).datasets) == 30


def test_nothing_is_found_in_an_empty_catalogue() -> None:
    found = Catalogue.of([]).similar(profile(*PERSON))
    assert (found.provided, found.datasets, len(found.fields)) == (0, (), 3)
