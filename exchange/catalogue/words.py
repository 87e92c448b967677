"""Text as the search sees it: Latin words, and overlapping pairs of Chinese characters.

SQLite's trigram tokenizer finds nothing shorter than three characters, and most Chinese words have two. A run of n
characters is therefore indexed as its n - 1 pairs and its last character: any part of it is a phrase of such tokens.
"""

import re
import unicodedata
from functools import lru_cache

_HAN = "\u3400-\u9fff\uf900-\ufaff"
# Words and characters may touch: "12345热线".
_RUN = re.compile(rf"[{_HAN}]+|[^\W_{_HAN}]+")
_IS_HAN = re.compile(f"[{_HAN}]")
MAX_QUERY = 200


def indexed(text: str) -> str:
    """A text's tokens, with spaces between them."""
    return " ".join(map(_tokens, _runs(text)))


def match_terms(query: str) -> tuple[str, ...]:
    """The words of a query in the language of FTS5, each once; none where it has no word.

    Args:
        query: as a person types it; what is past 200 characters is left out.
    """
    return tuple(dict.fromkeys(_term(run) for run in _runs(query[:MAX_QUERY])))


def plain(text: str) -> str:
    """A text in the form in which it is compared: Unicode NFKC, lower case."""
    return unicodedata.normalize("NFKC", text).casefold()


def term_text(term: str) -> str:
    """What a term of `match_terms` looks for in plain text."""
    first, *rest = term.removesuffix(" *").strip('"').split(" ")
    return first + "".join(pair[-1] for pair in rest)


def _runs(text: str) -> list[str]:
    """Maximal runs of Chinese characters and of other letters and digits."""
    return _RUN.findall(plain(text))


@lru_cache(maxsize=65_536)
def _tokens(run: str) -> str:
    # Labels come again and again: most runs of a catalogue are in the cache.
    if _IS_HAN.match(run) is None:
        return run
    return " ".join((*_pairs(run), run[-1]))


def _pairs(run: str) -> list[str]:
    return [run[place : place + 2] for place in range(len(run) - 1)]


def _term(run: str) -> str:
    """A phrase that a run of the text contains; nothing in it can be taken for an operator."""
    if _IS_HAN.match(run) is None or len(run) == 1:
        return f'"{run}" *'
    return f'"{" ".join(_pairs(run))}"'
