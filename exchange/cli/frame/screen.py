"""What has to fit one screen of 24 lines and 80 columns, whatever terminal it is read on."""

import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence

COLUMNS, LINES = 80, 24
_GAP = 2
_MORE = " … (--json)"


def on_one_screen(pairs: Mapping[str, object], notes: Sequence[str], kept: Collection[str] = ()) -> list[str]:
    """The lines of names with their values, and of notes below them; one line of the screen is left for the prompt.

    Long values take more lines. Where there is no room for all of them, the longest lose their ends, and say so.

    Args:
        pairs: a value is a text, or a list of texts that take a line each at least.
        notes: paragraphs.
        kept: names whose values stay whole.
    """
    label = max((len(name) for name in pairs), default=0) + _GAP
    values = {name: _lines(value, COLUMNS - label) for name, value in pairs.items()}
    below = [line for note in notes for line in _paragraph(note)]
    room = LINES - 1 - (len(below) + 1 if below else 0)
    while sum(map(len, values.values())) > room:
        longest = max((name for name in values if name not in kept), key=lambda name: len(values[name]))
        if len(values[longest]) == 1:
            break
        values[longest] = _shortened(values[longest], COLUMNS - label)
    lines = [
        f"{name if not number else '':<{label}}{line}"
        for name, found in values.items()
        for number, line in enumerate(found)
    ]
    return [*lines, *(["", *below] if below else [])]


def packed(items: Iterable[str], width: int) -> list[str]:
    """Items with semicolons between them, as many on a line as fit; none is cut in two."""
    lines: list[str] = []
    for item in items:
        if lines and len(lines[-1]) + len(item) + _GAP <= width:
            lines[-1] += f"; {item}"
        else:
            lines.append(item)
    return lines


def _lines(value: object, width: int) -> list[str]:
    texts = value if isinstance(value, list | tuple) else [value]
    return [line for text in texts for line in _wrapped(str(text), width)] or ["-"]


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, max(width, 20), break_on_hyphens=False) or [""]


def _paragraph(note: str) -> list[str]:
    return textwrap.wrap(note, COLUMNS, initial_indent="! ", subsequent_indent="  ", break_on_hyphens=False)


def _shortened(lines: Sequence[str], width: int) -> list[str]:
    *first, last = lines[:-1]
    return [*first, last.removesuffix(_MORE)[: max(width - len(_MORE), 0)].rstrip() + _MORE]
