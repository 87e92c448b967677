"""A form's fields as plain text, Chinese or English, one or several a line: as people copy them out of a document."""

import re
from collections.abc import Iterator

from exchange.catalogue.errors import SchemaError
from exchange.catalogue.fields import FieldProfile, Profile
from exchange.catalogue.readers.source import IDENTIFIER, SourceFile, distinct
from exchange.catalogue.wording import normalised

_LONGEST, _LONGEST_LINE = 60, 1_000
_NUMBERS = "一二三四五六七八九十"
_MARKER = re.compile(
    rf"\s*(?:[（(【\[]\s*[0-9{_NUMBERS}]{{1,3}}\s*[)）】\]]|[0-9]{{1,3}}\s*[.、．)）]|[{_NUMBERS}]{{1,3}}\s*[、.．]"
    r"|[①-⑳⑴-⒇]|[-*＊•·●◆■▪–—+#]+)\s*"
)
# Boxes to tick, lines to write on: what follows is an answer.
_ANSWER = re.compile(r"[□☐☑○◯■◻✓√].*|[_＿]{2,}.*")
_APART = re.compile(r"[\t|｜]+|\s{2,}|　+|[_＿]{2,}")
_COLON = re.compile(r"[:：]")
_EDGE = " \t　.,;:。，；：、*＊"
_TITLE = re.compile(
    r".*(?:表|申请|登记|申报|申领|信息|名单|清单|记录|台账|对象|form|application|registration|list)", re.IGNORECASE
)


def read_form(source: SourceFile) -> Profile:
    """Read a form's fields; the first line is its title where it is unlike the others.

    Raises:
        SchemaError: a line is too long to be the name of a field.
    """
    lines = [(number, line) for number, line in enumerate(source.whole_text.splitlines(), 1) if line.strip()]
    title = ""
    if len(lines) > 1 and _is_title(lines[0][1], lines[1][1]):
        title = lines.pop(0)[1].strip(_EDGE + "#")
    seen: dict[str, int] = {}
    fields = [
        FieldProfile(distinct(label, seen), label if IDENTIFIER.fullmatch(label) else "", label)
        for number, line in lines
        for label in _labels(source, number, line)
    ]
    return Profile(title or source.title, "form", tuple(fields))


def _is_title(first: str, second: str) -> bool:
    if first.lstrip().startswith("# "):
        return True
    if _MARKER.match(first) or _COLON.search(first) or first.rstrip()[-1] in ";；":
        return False
    unlike = _MARKER.match(second) or _COLON.search(second) or second.rstrip()[-1] in ";；"
    return bool(unlike) or _TITLE.fullmatch(first.strip(_EDGE)) is not None


def _labels(source: SourceFile, number: int, line: str) -> Iterator[str]:
    if len(line) > _LONGEST_LINE:
        raise _too_long(source, number, len(line))
    marker = _MARKER.match(line)
    text = line[marker.end() :] if marker else line
    pieces = [piece for piece in _APART.split(text) if piece and piece.strip(_EDGE)]
    asked = [piece for piece in pieces if _COLON.search(piece)]
    # Behind a colon only what has a colon too is a field: the rest is a blank to fill in, 年 月 日.
    for piece in asked or pieces:
        label = _label(piece)
        if len(label) > _LONGEST:
            raise _too_long(source, number, len(label))
        if label:
            yield label


def _too_long(source: SourceFile, number: int, length: int) -> SchemaError:
    hint = "one field a line; or say what the file is with --kind"
    return source.error(number, f"too long for the name of a field: {length} characters", hint)


def _label(piece: str) -> str:
    text = _ANSWER.sub("", piece)
    before, *behind = _COLON.split(text, maxsplit=1)
    rest = behind[0].strip(_EDGE) if behind else ""
    # "Legal representative: name" is one; 姓名：张三 is a name and an answer.
    joined = f"{before} {rest}" if rest and text.isascii() else before
    return normalised(joined.strip(_EDGE)).strip(_EDGE)
