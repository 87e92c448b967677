"""Files as people have them, and files that are not what they claim to be."""

import contextlib
import io
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from openpyxl import Workbook

from exchange.catalogue.errors import SchemaError
from exchange.catalogue.fields import FieldProfile, Profile
from exchange.catalogue.readers import KINDS, read_profile
from exchange.catalogue.readers import source as source_module
from exchange.cli.datasets.descriptors import TEMPLATE

Write = Callable[[str, str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def labels(profile: Profile) -> list[str]:
    return [field.label or field.name for field in profile.fields]


def workbook(*sheets: tuple[str, list[list[object]]]) -> bytes:
    book = Workbook()
    for number, (title, rows) in enumerate(sheets):
        sheet = book.active if number == 0 else book.create_sheet()
        assert sheet is not None
        sheet.title = title
        for row in rows:
            sheet.append(row)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


# What kind of file it is.


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.toml", TEMPLATE, "descriptor"),
        ("draft", TEMPLATE, "descriptor"),
        ("a.csv", "姓名,性别\n", "csv"),
        ("a", "姓名,性别,民族\n王芳,女,汉\n", "csv"),
        ("a.json", '{"properties": {"a": {}}}', "json-schema"),
        ("a.txt", ' {"properties": {"a": {}}}', "json-schema"),
        ("a.sql", "CREATE TABLE t (a int);", "sql"),
        ("a.txt", "-- x\ncreate temporary table t (a int);", "sql"),
        ("a.txt", "姓名\n性别\n", "form"),
        ("a.bin", workbook(("s", [["姓名"]])), "xlsx"),
    ],
)
def test_the_kind_is_found(write: Write, name: str, content: str | bytes, kind: str) -> None:
    assert read_profile(write(name, content)).kind == kind


def test_a_named_kind_is_obeyed(write: Write) -> None:
    path = write("a.txt", "姓名,性别,民族\n")
    assert (read_profile(path).kind, read_profile(path, "form").kind) == ("csv", "form")


@pytest.mark.parametrize(
    ("name", "content", "problem", "hint"),
    [
        ("a.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old format of Office", "save it as .xlsx"),
        ("a.pdf", b"%PDF-1.7", "is a PDF", "one a line"),
        ("a.png", b"\x89PNG\r\n", "is a picture", "one a line"),
        ("a.docx", b"PK\x03\x04", "is no workbook", "one a line"),
        ("a.txt", b" \n", "is empty", "name a file"),
        ("a.txt", b"a\nb\0", "a.txt:2: is no text", "UTF-8"),
        ("a.txt", b"a\n\xff\xff\xff", "a.txt:2: is neither UTF-8 nor GB18030", "UTF-8"),
    ],
)
def test_other_files_are_refused_with_what_to_do(
    write: Write, name: str, content: bytes, problem: str, hint: str
) -> None:
    with pytest.raises(SchemaError, match=problem) as caught:
        read_profile(write(name, content))
    assert hint in caught.value.hint
    assert name in str(caught.value)


def test_a_file_that_is_too_large_is_not_read(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "MAX_FILE", 1 << 20)
    with pytest.raises(SchemaError, match="larger than 1 MiB"):
        read_profile(write("a.csv", b"a,b\n" * (1 << 18) + b"x"))


@pytest.mark.parametrize("kind", KINDS)
@given(content=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
@example(content=b"PK\x03\x04")
@example(content=b'{"properties": {"a": {"$ref": "#"}}}')
@example(content=b'{"properties": {"a": {"items": {"$ref": "#/properties/a"}}}}')
@example(content=b"[" * 100_000)
@example(content=b'{"a":' * 100_000)
@example(content=b"CREATE TABLE t (a int" + b"(" * 5_000)
@example(content=b'"a\n')
@example(content=b"fields = [1]")
def test_any_bytes_are_read_or_refused(kind: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(content)
        with contextlib.suppress(SchemaError):
            paths = [field.path for field in read_profile(path, kind).fields]
            assert len(set(paths)) == len(paths) > 0


# Descriptors.


def test_a_descriptor_may_be_a_draft_and_may_say_more(write: Write) -> None:
    path = write(
        "a.toml", '[[fields]]\nname = "xm"\nlabel = "姓名"\nlabel_en = "Name"\nelement = "X1"\nsensitivity = 3\n'
    )
    assert read_profile(path) == Profile("a", "descriptor", (FieldProfile("xm", "xm", "姓名", "Name", "", "", "X1"),))


def test_a_descriptor_is_wrong_at_a_line(write: Write) -> None:
    with pytest.raises(SchemaError, match=r"a\.toml:3: not TOML"):
        read_profile(write("a.toml", 'title = "x"\n\nfields = [}\n'))
    with pytest.raises(SchemaError, match="block 2 has no name"):
        read_profile(write("a.toml", 'fields = [{name = "a"}, {label = "b"}]'))


# CSV.


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
def test_csv_is_read_in_every_encoding_that_offices_use(write: Write, encoding: str) -> None:
    profile = read_profile(write("a.csv", "姓名,手机\n王芳,13800001111\n".encode(encoding)))
    assert labels(profile) == ["姓名", "手机"]
    assert profile.fields[1].patterns == {"mobile"}


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_csv_may_be_separated_by_anything_usual(write: Write, delimiter: str) -> None:
    assert labels(read_profile(write("a.csv", delimiter.join(["姓名", "性别"]) + "\n"))) == ["姓名", "性别"]


def test_csv_has_its_header_below_a_title(write: Write) -> None:
    profile = read_profile(write("a.csv", '常住人口登记表,,\n\n姓名,"出生\n日期",\n王芳,1990-03-07,x\n'))
    assert [field.path for field in profile.fields] == ["姓名", "出生 日期", "column 3"]
    assert [field.type for field in profile.fields] == ["text", "date", "text"]


def test_columns_of_one_name_are_told_apart(write: Write) -> None:
    assert [field.path for field in read_profile(write("a.csv", "姓名,姓名\n")).fields] == ["姓名", "姓名#2"]


def test_csv_is_wrong_at_a_line(write: Write) -> None:
    with pytest.raises(SchemaError, match=r"a\.csv:2: not CSV"):
        read_profile(write("a.csv", 'a,b\n"x"y,z\n'))


def test_no_value_of_a_row_is_kept(write: Write) -> None:
    profile = read_profile(write("a.csv", "姓名,证件\n王芳,11010519491231002X\n"))
    assert "王芳" not in repr(profile)
    assert "1101" not in repr(profile)


# Workbooks.


def test_a_workbook_has_fields_on_every_sheet(write: Write) -> None:
    content = workbook(("人员", [["登记表"], ["姓名", "人数"], ["王芳", 3]]), ("房屋", [["坐落"]]), ("空", []))
    profile = read_profile(write("a.xlsx", content))
    assert [field.path for field in profile.fields] == ["人员!姓名", "人员!人数", "房屋!坐落"]
    assert profile.fields[1].type == "integer"


def test_a_sheet_that_claims_a_million_columns_costs_nothing(write: Write) -> None:
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    sheet["A1"], sheet["B1"], sheet["XFD1048576"] = "姓名", "性别", "x"
    file = io.BytesIO()
    book.save(file)
    assert labels(read_profile(write("a.xlsx", file.getvalue()))) == ["姓名", "性别"]


def test_a_workbook_that_unpacks_to_too_much_is_refused(write: Write) -> None:
    file = io.BytesIO(workbook(("s", [["姓名"]])))
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/media/bomb.bin", b"\0" * (8 << 20))
    with pytest.raises(SchemaError, match=r"xl/media/bomb\.bin: unpacks to too much"):
        read_profile(write("a.xlsx", file.getvalue()))


@pytest.mark.parametrize("part", ["xl/workbook.xml", "xl/worksheets/sheet1.xml", "[Content_Types].xml"])
@pytest.mark.parametrize("content", ["", "<a>", "<a/>", "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>"])
def test_a_damaged_workbook_is_refused(write: Write, part: str, content: str) -> None:
    whole = zipfile.ZipFile(io.BytesIO(workbook(("s", [["姓名"]]))))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in whole.namelist():
            archive.writestr(name, content if name == part else whole.read(name))
    with pytest.raises(SchemaError, match=r"a\.xlsx: "):
        read_profile(write("a.xlsx", file.getvalue()))


# JSON Schema.


def test_json_schema_goes_into_objects_lists_and_references(write: Write) -> None:
    path = write(
        "a.json",
        """{"title": "T", "$defs": {"p": {"type": "object", "properties": {"name": {"title": "姓名"}}}},
        "properties": {"a": {"$ref": "#/$defs/p", "title": "配偶"},
        "b": {"type": "array", "items": {"$ref": "#/$defs/p"}},
        "c": {"type": ["null", "integer"]}, "d": {"$ref": "http://elsewhere"}},
        "allOf": [{"properties": {"e": {"format": "date", "description": "出生日期。"}}}]}""",
    )
    profile = read_profile(path)
    assert [(field.path, field.label, field.group, field.type) for field in profile.fields] == [
        ("a.name", "姓名", "配偶", ""),
        ("b[].name", "姓名", "b", ""),
        ("c", "", "", "integer"),
        ("d", "", "", ""),
        ("e", "出生日期", "", "date"),
    ]


def test_json_schema_that_refers_to_itself_ends(write: Write) -> None:
    path = write("a.json", '{"properties": {"a": {"$ref": "#"}, "b": {"$ref": "#"}, "c": {"$ref": "#"}, "d": {}}}')
    with pytest.raises(SchemaError, match="more than 5000 fields"):
        read_profile(path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"a":\n,}', r"a\.json:2: not JSON"),
        ("[1]", "not a JSON Schema"),
        ('{"姓名": "王芳"}', "JSON Schema of an object"),
    ],
)
def test_other_json_is_refused(write: Write, content: str, problem: str) -> None:
    with pytest.raises(SchemaError, match=problem):
        read_profile(write("a.json", content))


# SQL.


@pytest.mark.parametrize(
    "text",
    [
        "CREATE TABLE `t` (`xm` varchar(50) NOT NULL COMMENT '姓名', `n` int(11)) ENGINE=InnoDB COMMENT='人员';",
        "CREATE TABLE t (xm text, n bigint);\nCOMMENT ON TABLE t IS '人员'; COMMENT ON COLUMN t.xm IS '姓名';",
        "CREATE TABLE public.t (xm text, n bigint);\nCOMMENT ON COLUMN public.t.xm IS '姓名';",
        "CREATE TABLE t ( -- 人员\n xm TEXT, -- 姓名\n n INTEGER\n);",
        "SET NAMES utf8;\nDROP TABLE IF EXISTS t;\nCREATE TABLE IF NOT EXISTS t (xm TEXT /* 姓名 */, n INTEGER);",
        "CREATE TABLE t (xm VARCHAR2(50), n NUMBER(10));\nCOMMENT ON COLUMN t.xm IS '姓名';",
    ],
    ids=["mysql", "postgresql", "schema", "line comments", "block comments", "oracle"],
)
def test_sql_is_read_in_the_dialects_that_offices_use(write: Write, text: str) -> None:
    profile = read_profile(write("a.sql", text))
    assert [(field.path, field.label) for field in profile.fields] == [("xm", "姓名"), ("n", "")]
    assert profile.fields[0].type == "text"
    assert profile.fields[1].type in ("integer", "decimal")


def test_several_tables_keep_their_columns_apart(write: Write) -> None:
    profile = read_profile(write("a.sql", "CREATE TABLE a (x date, y boolean); CREATE TABLE b (x decimal(9,2));"))
    assert [(field.path, field.type) for field in profile.fields] == [
        ("a.x", "date"),
        ("a.y", "boolean"),
        ("b.x", "decimal"),
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("CREATE TABLE t (\n a int,\n b ((\n);", r"a\.sql:\d+: not SQL"),
        ("SELECT 1;", "no CREATE TABLE is in it"),
        ("CREATE TABLE t (\n a int" + "(" * 5_000, r"a\.sql:2: more than 10 brackets"),
        ("SELECT 1;\n" * 200_000, "larger than 1 MiB"),
    ],
)
def test_other_sql_is_refused(write: Write, text: str, problem: str) -> None:
    with pytest.raises(SchemaError, match=problem):
        read_profile(write("a.sql", text))


def test_reading_sql_says_nothing_on_the_way(write: Write, capfd: pytest.CaptureFixture[str]) -> None:
    read_profile(write("a.sql", "GRANT ALL ON t TO x;\nCREATE TABLE t (a int);"))
    assert capfd.readouterr() == ("", "")


# Forms.


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("1. 姓名（必填）：", ["姓名"]),
        ("（一）姓名", ["姓名"]),
        ("一、姓名", ["姓名"]),
        ("① 姓名【必填】", ["姓名"]),
        ("- 姓名*", ["姓名"]),
        ("＊姓名：________", ["姓名"]),
        ("12、性别：□男 □女", ["性别"]),
        ("出生日期：    年  月  日", ["出生日期"]),
        ("姓名：____ 性别：____　民族：____", ["姓名", "性别", "民族"]),
        ("姓名\t性别\t民族", ["姓名", "性别", "民族"]),
        ("ＩＤ号码；", ["ID号码"]),
        ("3) Date of birth (required)", ["Date of birth"]),
        ("Legal representative: name", ["Legal representative name"]),
        ("姓名：王芳", ["姓名"]),
    ],
)
def test_a_line_of_a_form_names_its_fields(write: Write, line: str, expected: list[str]) -> None:
    profile = read_profile(write("a.txt", f"1. 序号\n{line}\n"), "form")
    assert labels(profile)[1:] == expected


@pytest.mark.parametrize("first", ["申请表\n姓名\n性别", "# 表\n姓名\n性别", "住房保障\n1. 姓名\n2. 性别"])
def test_the_first_line_is_the_title_where_it_is_unlike_the_others(write: Write, first: str) -> None:
    profile = read_profile(write("a.txt", first))
    assert labels(profile) == ["姓名", "性别"]
    assert profile.title == first.partition("\n")[0].lstrip("# ")


def test_prose_is_no_list_of_fields(write: Write) -> None:
    with pytest.raises(SchemaError, match=r"a\.txt:2: too long"):
        read_profile(write("a.txt", "姓名\n" + "为加强管理" * 20))
