from pathlib import Path

import pytest

from exchange.cli.datasets.descriptors import TEMPLATE, DescriptorFileError, read_descriptor
from exchange.core.names import Party
from exchange.v1.catalogue_pb2 import Level, SharingClass
from exchange.v1.directory_pb2 import Dataset, FieldType
from exchange.v1.request_pb2 import Operation

OWNER = Party("city.example", "registry-office")


def read(tmp_path: Path, text: str) -> Dataset:
    path = tmp_path / "data.toml"
    path.write_text(text)
    return read_descriptor(path, OWNER).dataset


def test_the_template_is_a_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "data.toml"
    path.write_text(TEMPLATE)
    dataset = read_descriptor(path, OWNER).dataset
    assert (dataset.code, dataset.key) == ("household.registration", "id_number")
    assert dataset.system == "exchange://city.example/registry-office/registry"
    assert (dataset.level, dataset.update_frequency) == (Level.LEVEL_CITY, "DAILY")
    assert dataset.sharing.sharing_class == SharingClass.SHARING_CLASS_UNCONDITIONAL
    assert [value.label for value in dataset.fields[2].codes] == ["男", "女"]
    assert list(dataset.keywords) == ["户籍", "住址", "household", "residence"]
    assert list(dataset.operations) == [Operation.OPERATION_LOOKUP, Operation.OPERATION_QUERY]
    assert list(dataset.filterable) == ["district", "registered_on"]
    assert [field.type for field in dataset.fields][-1] == FieldType.FIELD_TYPE_DATE
    assert (dataset.fields[0].label, dataset.fields[0].label_en) == ("公民身份号码", "Identity number")


def test_a_label_may_be_left_out_and_a_system_written_in_full(tmp_path: Path) -> None:
    text = TEMPLATE.replace('label = "所在区"\n', "").replace('"registry"', f'"{OWNER}/registry"')
    path = tmp_path / "data.toml"
    path.write_text(text)
    dataset = read_descriptor(path, OWNER).dataset
    assert dataset.fields[3].label == "district"
    assert dataset.system == f"{OWNER}/registry"


def line_of(text: str, beginning: str, after: str = "") -> int:
    lines = text.splitlines()
    start = lines.index(after) if after else 0
    return next(n for n in range(start, len(lines)) if lines[n].startswith(beginning)) + 1


WRONG = {
    "not TOML": ('title = "户籍登记"', "title = ", "title", "not TOML"),
    "an unknown key": ("abstract =", "abstracts =", "abstracts", "not known here"),
    "a malformed code": ('"household.registration"', '"Household"', "code", "is not small letters"),
    "an empty title": ('title = "户籍登记"', 'title = ""', "title", "a text of 1 to"),
    "a number for a text": ('title = "户籍登记"', "title = 7", "title", "a text of 1 to"),
    "another department's system": (
        '"registry"',
        '"exchange://city.example/police/files"',
        "system",
        "is not a system of exchange://city.example/registry-office",
    ),
    "a malformed system": ('"registry"', '"Registry!"', "system", "not a name segment"),
    "a key that is no field": ('key = "id_number"', 'key = "id_numbr"', "key", "'id_numbr' is not known"),
    "an unknown operation": ('"QUERY"]', '"EXPORT"]', "operations", "'EXPORT' is not known"),
    "no operation": ('operations = ["LOOKUP", "QUERY"]', "operations = []", "operations", "at least one"),
    "an operation twice": ('"QUERY"]', '"LOOKUP"]', "operations", "each is named once"),
    "a filter on no field": ('"registered_on"]', '"income"]', "filterable", "'income' is not known"),
    "an unknown level": ('level = "city"', 'level = "town"', "level", "'town' is not known"),
    "an unknown frequency": ('"DAILY"', '"NIGHTLY"', "update_frequency", "'NIGHTLY' is not known"),
    "a theme that is no code": ('theme = "population"', 'theme = "Population"', "theme", "not a code"),
    "a keyword twice": ('"household", "residence"', '"household", "household"', "keywords", "each is named once"),
    "a text for a flag": ("restricted = false", 'restricted = "no"', "restricted", "true or false"),
    "seers of what is not restricted": (
        "visible_to = []",
        'visible_to = ["housing"]',
        "visible_to",
        "only a restricted",
    ),
    "an unknown class": ('class = "unconditional"', 'class = "open"', "class", "'open' is not known"),
    "conditions without a list": ('class = "unconditional"', 'class = "conditional"', "class", "lists its conditions"),
    "no reason for not sharing": ('class = "unconditional"', 'class = "not shared"', "class", "has a reason"),
    "a text for a list": (
        'filterable = ["district", "registered_on"]',
        'filterable = "district"',
        "filterable",
        "list",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_error_names_file_line_and_key_for(tmp_path: Path, name: str) -> None:
    old, new, key, message = WRONG[name]
    assert old in TEMPLATE
    text = TEMPLATE.replace(old, new, 1)
    with pytest.raises(DescriptorFileError) as caught:
        read(tmp_path, text)
    line = line_of(text, f"{key} =")
    assert str(caught.value).startswith(f"{tmp_path / 'data.toml'}:{line}: ")
    assert message in str(caught.value)
    assert caught.value.exit_code == 2


WRONG_FIELDS = {
    "an unknown type": ('type = "date"', 'type = "datetime"', "type", "'datetime' is not known"),
    "a malformed name": ('name = "registered_on"', 'name = "registered-on"', "name", "is not a small letter"),
    "a name twice": ('name = "registered_on"', 'name = "district"', "name", "'district' is described twice"),
    "a sensitivity past the scale": (
        "sensitivity = 3",
        "sensitivity = 5",
        "sensitivity",
        "a number from 1 to 4",
    ),
    "an element with a space": ('label_en = "Sex"', 'element = "DE 1"', "element", "letters, digits"),
    "an unknown key": ('label = "登记日期"', 'lable = "登记日期"', "lable", "not known here"),
}


@pytest.mark.parametrize("name", WRONG_FIELDS)
def test_an_error_in_a_field_names_the_line_of_its_own_block(tmp_path: Path, name: str) -> None:
    old, new, key, message = WRONG_FIELDS[name]
    assert TEMPLATE.count(old) == 1
    text = TEMPLATE.replace(old, new)
    with pytest.raises(DescriptorFileError) as caught:
        read(tmp_path, text)
    line = TEMPLATE.splitlines().index(old) + 1
    assert str(caught.value).startswith(f"{tmp_path / 'data.toml'}:{line}: {key}: ")
    assert message in str(caught.value)


def test_a_missing_key_of_a_field_points_at_its_block(tmp_path: Path) -> None:
    text = TEMPLATE.replace('type = "date"\n', "")
    blocks = [number + 1 for number, line in enumerate(text.splitlines()) if line == "[[fields]]"]
    with pytest.raises(DescriptorFileError, match=rf"data\.toml:{blocks[4]}: type: missing"):
        read(tmp_path, text)


def test_a_missing_key_names_the_file(tmp_path: Path) -> None:
    text = TEMPLATE.replace('code = "household.registration"\n', "")
    with pytest.raises(DescriptorFileError, match=r"data\.toml: code: missing"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("old", "new", "hint"),
    [
        ("abstract =", "abstrct =", "did you mean abstract?"),
        ('key = "id_number"', 'key = "id_numbr"', "did you mean id_number?"),
    ],
)
def test_a_slip_of_the_finger_gets_a_hint(tmp_path: Path, old: str, new: str, hint: str) -> None:
    with pytest.raises(DescriptorFileError) as caught:
        read(tmp_path, TEMPLATE.replace(old, new))
    assert caught.value.hint == hint


@pytest.mark.parametrize("fields", ["fields = 7", "fields = [7]", "fields = []"])
def test_fields_that_are_no_blocks_are_refused(tmp_path: Path, fields: str) -> None:
    text = TEMPLATE.split("[sharing]")[0] + fields
    with pytest.raises(DescriptorFileError, match=rf":{len(text.splitlines())}: fields"):
        read(tmp_path, text)


def test_a_file_in_another_encoding_is_not_published_as_rubbish(tmp_path: Path) -> None:
    path = tmp_path / "data.toml"
    path.write_bytes(TEMPLATE.encode("gbk"))
    with pytest.raises(DescriptorFileError) as caught:
        read_descriptor(path, OWNER)
    line = line_of(TEMPLATE, "title")
    assert f"data.toml:{line}: is not UTF-8" in str(caught.value)
    assert "iconv -f GB18030 -t UTF-8 data.toml" in caught.value.hint


def test_the_mark_that_windows_puts_before_utf_8_is_no_content(tmp_path: Path) -> None:
    path = tmp_path / "data.toml"
    path.write_bytes(TEMPLATE.encode("utf-8-sig"))
    assert read_descriptor(path, OWNER).dataset.code == "household.registration"
