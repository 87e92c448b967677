"""One field held against another: pieces of evidence, each with its weight and a reason that people can check."""

from dataclasses import dataclass

from exchange.catalogue.context import Seen, is_weak
from exchange.catalogue.lexicon import ROLE, lexicon
from exchange.catalogue.meaning import Meaning
from exchange.catalogue.patterns import NAMING, TITLES
from exchange.catalogue.pinyin import spelled_by_character
from exchange.catalogue.wording import normalised, units

THRESHOLD = 0.6
"""The score from which a field counts as provided; the labelled schemas in tests/similarity measure it."""

ELEMENT, MEANING = 0.97, 0.9
BROADER, GUESSED = 0.8, 0.9
TEXT = 0.85
VALUES = 0.65
AGREEING = 0.04
OTHER_CONCEPT, OTHER_ROLE, OTHER_HOLDER = 0.15, 0.3, 0.4
MEMBER, OTHER_GROUP, ONE_GROUP = 0.8, 0.8, 0.9
ADDED, CONFLICTING = 0.88, 0.6
OTHER_RECORD, SAME_RECORD, IMPLIED = 0.45, 0.95, 0.85
ANY_RECORD = 0.5
TYPE_CLASH, VALUES_CLASH, ELEMENT_CLASH = 0.75, 0.5, 0.6
_LETTERS = 4
_WEIGHT_OF_WORD = 2
_CLASHES = frozenset(
    frozenset(pair) for pair in (("date", "boolean"), ("date", "decimal"), ("boolean", "decimal"), ("date", "integer"))
)


@dataclass(frozen=True, slots=True)
class Evidence:
    """How much speaks for two fields being the same.

    Args:
        score: 0 to 1.
        reasons: what speaks for it and against it, the most important first.
    """

    score: float
    reasons: tuple[str, ...] = ()

    def times(self, factor: float, reason: str = "") -> "Evidence":
        """The same, weaker by a factor."""
        return Evidence(self.score * factor, (*self.reasons, reason) if reason else self.reasons)


NOTHING = Evidence(0.0)


def compare(wanted: Seen, provided: Seen, wanted_themes: frozenset[str], provided_themes: frozenset[str]) -> Evidence:
    """How far one field provides another.

    Args:
        wanted: the field of what somebody wants to collect.
        provided: the field of a dataset.
        wanted_themes, provided_themes: what the records are about that they stand in.
    """
    said = max(
        (
            _meaning(wanted, provided, one, other, wanted_themes, provided_themes)
            for one in wanted.meanings
            for other in provided.meanings
        ),
        key=lambda evidence: evidence.score,
    )
    if wanted.pinyin or provided.pinyin:
        said = said.times(GUESSED)
    said = max((said, _spelt(wanted, provided), _values(wanted, provided)), key=lambda evidence: evidence.score)
    return _element(wanted, provided, _agreement(wanted, provided, said))


def _meaning(
    wanted: Seen, provided: Seen, one: Meaning, other: Meaning, here: frozenset[str], there: frozenset[str]
) -> Evidence:
    if not (one.is_known and other.is_known):
        return _texts(wanted, provided, one, other)
    kind = _kinds(wanted, provided, one, other)
    if kind.score <= OTHER_CONCEPT:
        return kind
    whose = _roles(one, other, kind)
    return _headed(one, other, whose, here, there) if one.generic and other.generic else _modified(one, other, whose)


def _kinds(wanted: Seen, provided: Seen, one: Meaning, other: Meaning) -> Evidence:
    words = f"{wanted.words} = {provided.words}"
    if one.concept == other.concept:
        word = lexicon().meaning_word(one.concept)
        same = normalised(wanted.words).lower() == normalised(provided.words).lower()
        found = Evidence(MEANING, (f"same label: {wanted.words}" if same else f"same meaning: {words}",))
        return found.times(ANY_RECORD, "any record has it") if word is not None and word.record else found
    broader = lexicon().broader
    if one.concept in broader(other.concept) or other.concept in broader(one.concept):
        return Evidence(MEANING * BROADER, (f"one is a kind of the other: {wanted.words}, {provided.words}",))
    return Evidence(OTHER_CONCEPT, (f"different things: {wanted.words}, {provided.words}",))


def _roles(one: Meaning, other: Meaning, found: Evidence) -> Evidence:
    """Whose value: the spouse's number is not the applicant's."""
    if one.roles != other.roles:
        words = lexicon().words
        missing = other.roles - one.roles
        if one.roles < other.roles and all(words[ROLE, role].members for role in missing):
            # One's company is an employer to a register of persons.
            bare = one.subject == "organisation" or one.holder == "organisation"
            if bare:
                return found.times(MEMBER, f"there as {_said(missing)}")
        return found.times(OTHER_ROLE, f"whose differs: {_said(one.roles)}, {_said(other.roles)}")
    if one.holder and other.holder and one.holder != other.holder:
        return found.times(OTHER_HOLDER, f"whose differs: a {one.holder}'s, a {other.holder}'s")
    return _groups(one.subject, other.subject, found)


def _groups(one: str, other: str, found: Evidence) -> Evidence:
    """A register of pupils or drivers has not everybody in it: it is the second choice."""
    words = lexicon().words
    if not other or one == other or words[ROLE, other].anyone:
        return found
    named = bool(one) and not words[ROLE, one].anyone
    return found.times(OTHER_GROUP if named else ONE_GROUP, f"there only of a {_said({other})}")


def _modified(one: Meaning, other: Meaning, found: Evidence) -> Evidence:
    """A concept says what it is by itself; more words narrow it down."""
    here, there = one.modifiers - other.modifiers, other.modifiers - one.modifiers
    factor: float = ADDED ** sum(1 for name in here | there if not is_weak(name))
    if (here and there) or (one.generic and here) or (other.generic and there):
        factor *= CONFLICTING
    return found.times(factor, f"more words: {_said(here | there)}" if factor < 1 else "")


def _headed(one: Meaning, other: Meaning, found: Evidence, here: frozenset[str], there: frozenset[str]) -> Evidence:
    """A head says nothing by itself: the words before it must be the same, or the record must say them."""
    mine, theirs = one.modifiers, other.modifiers
    strong = any(not is_weak(name) for name in mine & theirs)
    implied = {name for name in mine - theirs if name in there} | {name for name in theirs - mine if name in here}
    open_ends = (mine ^ theirs) - implied
    if open_ends:
        return found.times(_overlap(mine, theirs) * CONFLICTING, f"of different things: {_said(open_ends)}")
    if implied:
        return found.times(IMPLIED, f"the record says {_said(implied)}")
    if strong:
        return found
    if here & there:
        return found.times(SAME_RECORD, f"both records are about {_said(here & there)}")
    return found.times(OTHER_RECORD, "the records are about different things")


def _texts(wanted: Seen, provided: Seen, one: Meaning, other: Meaning) -> Evidence:
    """Labels that the lexicon does not know: how much of them is the same."""
    mine, theirs = _words(one), _words(other)
    if not mine or not theirs:
        return NOTHING
    share = _overlap(mine, theirs)
    same = normalised(wanted.words).lower() == normalised(provided.words).lower()
    if same:
        found = Evidence(MEANING, (f"same label: {wanted.words}",))
    else:
        found = Evidence(TEXT * share, (f"similar labels: {wanted.words}, {provided.words}",))
    return _roles(one, other, found)


def _words(meaning: Meaning) -> frozenset[str]:
    return meaning.modifiers | ({meaning.concept} if meaning.concept else frozenset())


def _overlap(mine: frozenset[str], theirs: frozenset[str]) -> float:
    """Dice's measure over words of the lexicon and pairs of characters of what it does not know, 0 to 1."""
    one, other = _pieces(mine), _pieces(theirs)
    total = sum(one.values()) + sum(other.values())
    shared = sum(min(count, other.get(piece, 0)) for piece, count in one.items())
    return 2 * shared / total if total else 0.0


def _pieces(names: frozenset[str]) -> dict[str, int]:
    pieces: dict[str, int] = {}
    for name in names:
        if name.isascii():
            pieces[name] = _WEIGHT_OF_WORD
            continue
        for start in range(max(1, len(name) - 1)):
            piece = name[start : start + 2]
            pieces[piece] = pieces.get(piece, 0) + 1
    return pieces


def _spelt(wanted: Seen, provided: Seen) -> Evidence:
    """A name that is the pinyin, or the initials, of the other's label."""
    for name, label in ((wanted, provided), (provided, wanted)):
        text = "".join(units(name.field.name))
        if name.field.label or len(text) < _LETTERS or not label.field.label:
            continue
        chinese = "".join(units(label.field.label))
        if text in spelled_by_character(chinese):
            return Evidence(TEXT, (f"{name.field.name} is the pinyin of {label.field.label}",))
    return NOTHING


def _values(wanted: Seen, provided: Seen) -> Evidence:
    """A column whose name says nothing, but whose values nothing else looks like."""
    shared = wanted.field.patterns & provided.patterns & NAMING
    silent = not any(meaning.is_known or meaning.roles for meaning in wanted.meanings)
    theirs = provided.meanings[0]
    if not shared or not silent or theirs.roles:
        return NOTHING
    return Evidence(VALUES, (f"its values look like {TITLES[min(shared)]}, which {provided.words} has",))


def _agreement(wanted: Seen, provided: Seen, found: Evidence) -> Evidence:
    """Types and values, which confirm or contradict, and alone say nothing."""
    if wanted.field.patterns and provided.patterns:
        seen, known = wanted.field.patterns & NAMING, provided.patterns & NAMING
        if seen and known and not seen & known:
            return found.times(VALUES_CLASH, f"values differ: {TITLES[min(seen)]}, {TITLES[min(known)]}")
        if seen & known:
            title = TITLES[min(seen & known)]
            return Evidence(
                min(1.0, found.score + AGREEING * (found.score > 0)), (*found.reasons, f"both hold {title}")
            )
    types = frozenset((wanted.type, provided.type))
    if types in _CLASHES:
        return found.times(TYPE_CLASH, f"type differs: {wanted.type}, {provided.type}")
    if wanted.type and wanted.type == provided.type and found.score:
        return Evidence(min(1.0, found.score + AGREEING), (*found.reasons, f"same type: {wanted.type}"))
    return found


def _element(wanted: Seen, provided: Seen, found: Evidence) -> Evidence:
    mine, theirs = wanted.field.element.casefold(), provided.field.element.casefold()
    if not mine or not theirs:
        return found
    if mine == theirs:
        reason = f"same data element: {wanted.field.element}"
        return Evidence(max(found.score, ELEMENT), (reason, *found.reasons))
    return found.times(ELEMENT_CLASH, f"data element differs: {wanted.field.element}, {provided.field.element}")


def _said(names: frozenset[str] | set[str]) -> str:
    return ", ".join(sorted(name.replace("_", " ") for name in names)) or "the subject"
