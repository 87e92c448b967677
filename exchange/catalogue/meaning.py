"""What a label or a name says: whose value it is, of what kind, and of what.

`配偶身份证号` is the identity number of the spouse, `Date of issue` the date of something issued. A text is cut into
the words of the lexicon so that as little as possible is left over; the last concept or head says what the value is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby

from exchange.catalogue.lexicon import CONCEPT, HEAD, ROLE, STOP, TERM, Lexicon, Word, lexicon
from exchange.catalogue.wording import is_latin, units

PERSON, ORGANISATION = "person", "organisation"
_LEFT_OVER = 10
# Of a name in pinyin with underscores; each may have several readings.
_PARTS = 4
# Heads that add nothing to a concept before them: 民族代码 is 民族.
_ABSORBED = ("number", "name", "type")
_NAMES = {PERSON: "person.name", ORGANISATION: "organisation.name"}
_ADDRESSES = {PERSON: "person.residence", ORGANISATION: "organisation.address"}


@dataclass(frozen=True, slots=True)
class Meaning:
    """What one text says.

    Args:
        concept: id of a concept or a head; empty where none was found.
        generic: `concept` is a head: the value's kind alone.
        roles: whose value, where the text says so; who the record is about is left out.
        subject: the text names the record's subject itself: 申请人, 学生.
        holder: person, organisation, or empty.
        modifiers: ids of terms, and what no word covers.
    """

    concept: str = ""
    generic: bool = False
    roles: frozenset[str] = frozenset()
    subject: str = ""
    holder: str = ""
    modifiers: frozenset[str] = frozenset()

    @property
    def is_known(self) -> bool:
        """Whether the lexicon says what kind of value it is."""
        return bool(self.concept)


@lru_cache(maxsize=200_000)
def read_meaning(text: str) -> Meaning:
    """What a label, or a name made of words, says."""
    words = lexicon()
    code = words.codes.get(text.lower())
    if code is not None:
        return _of_word(code)
    return interpret(list(_segments(words, units(text))))


@lru_cache(maxsize=200_000)
def read_pinyin(name: str) -> tuple[Meaning, ...]:
    """What a name says if it is pinyin or its initials (`csrq`, `po_xm`): every reading, none where it is not."""
    words, parts = lexicon(), units(name)
    if not is_latin(parts):
        return ()
    whole = words.pinyin.get("".join(parts), ())
    if whole:
        return tuple(map(_of_word, whole))
    if 1 < len(parts) <= _PARTS:
        return _combined([words.pinyin.get(part, ()) for part in parts])
    text = parts[0] if len(parts) == 1 else ""
    # 配偶姓名 is poxm: a role, then what of it.
    cuts = ((words.pinyin.get(text[:at], ()), words.pinyin.get(text[at:], ())) for at in range(2, len(text) - 1))
    found = [reading for first, rest in cuts for reading in _combined([_roles(first), rest])]
    return tuple(dict.fromkeys(found))


def interpret(found: Sequence[Word | str]) -> Meaning:
    """Put words together: what is not in the lexicon is a string."""
    kinds = [word for word in found if isinstance(word, Word) and word.kind in (CONCEPT, HEAD)]
    while len(kinds) > 1 and kinds[-1].kind == HEAD and kinds[-1].id in _ABSORBED and kinds[-2].kind == CONCEPT:
        kinds.pop()
    roles = [word for word in found if isinstance(word, Word) and word.kind == ROLE]
    kind = kinds[-1] if kinds else None
    others = [word for word in roles if not word.subject]
    modifiers = [word if isinstance(word, str) else word.id for word in found if _modifies(word)]
    modifiers += [word.id for word in kinds[:-1]]
    owner = (others or roles)[-1].of if roles else ""
    said = Meaning(
        concept=kind.id if kind else "",
        generic=kind is not None and kind.kind == HEAD,
        roles=frozenset(word.id for word in others),
        subject=roles[-1].id if roles and not others else "",
        holder=(kind.of if kind else "") or owner,
        modifiers=frozenset(modifiers),
    )
    return _completed(said, owner)


def in_context(meaning: Meaning, holder: str) -> Meaning:
    """The meaning of a text within a record that is about a person or an organisation: there, 电话 is theirs.

    Args:
        meaning: of the text alone.
        holder: person, organisation, or empty where the record is about neither or both.
    """
    if not holder or meaning.holder or meaning.roles:
        return meaning
    named = replace(meaning, holder=holder)
    if meaning.modifiers or not meaning.generic:
        return named
    concept = {"name": _NAMES, "address": _ADDRESSES}.get(meaning.concept, {}).get(holder)
    return replace(named, concept=concept, generic=False) if concept else meaning


def _completed(said: Meaning, owner: str) -> Meaning:
    """A role alone is its name: 户主, employer; a role's name or address is a person's or an organisation's."""
    if not owner:
        return said
    if not said.concept and not said.modifiers:
        return replace(said, concept=_NAMES[owner], holder=owner)
    if said.concept == "name" and (not said.modifiers or said.roles):
        return replace(said, concept=_NAMES[owner], generic=False)
    if said.concept == "address" and not said.modifiers:
        return replace(said, concept=_ADDRESSES[owner], generic=False)
    return said


def _modifies(word: Word | str) -> bool:
    return isinstance(word, str) or word.kind == TERM


def _segments(words: Lexicon, parts: tuple[str, ...]) -> Iterable[Word | str]:
    """The words of a text: least left over first, then fewest words, then the longer word in front."""
    count = len(parts)
    best: list[tuple[int, int, Word | None]] = [(0, 0, None)] * (count + 1)
    for start in range(count - 1, -1, -1):
        chosen: tuple[int, int, Word | None] = (best[start + 1][0] + _LEFT_OVER, 1, None)
        for length in words.lengths.get(parts[start], ()):
            word = words.phrases.get(parts[start : start + length]) if start + length <= count else None
            if word is not None and best[start + length][0] + 1 < chosen[0]:
                chosen = (best[start + length][0] + 1, length, word)
        best[start] = chosen
    cut: list[Word | str] = []
    start = 0
    while start < count:
        _, length, word = best[start]
        cut.append(parts[start] if word is None else word)
        start += length
    return _joined(cut)


def _joined(cut: Iterable[Word | str]) -> Iterable[Word | str]:
    """What is left over, characters beside each other joined; words without weight are gone."""
    for is_text, run in groupby(cut, lambda item: isinstance(item, str)):
        if is_text:
            texts = [str(item) for item in run]
            yield from texts if is_latin(tuple(texts)) else ["".join(texts)]
        else:
            yield from (word for word in run if isinstance(word, Word) and word.kind != STOP)


def _of_word(word: Word) -> Meaning:
    return interpret([word])


def _roles(found: Iterable[Word]) -> tuple[Word, ...]:
    return tuple(word for word in found if word.kind == ROLE)


def _combined(choices: Sequence[Sequence[Word]]) -> tuple[Meaning, ...]:
    """Every way to take one word of each; none where one has none."""
    ways: list[list[Word]] = [[]]
    for options in choices:
        ways = [[*way, word] for way in ways for word in options]
    return tuple(meaning for meaning in map(interpret, ways) if meaning.is_known)
