"""A bar on a terminal while something long is done; nothing where nobody looks."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

Advance = Callable[[int, int], None]
"""Takes how much is done, and how much there is."""


@contextmanager
def bar(what: str) -> Iterator[Advance]:
    """A bar on stderr, for the `with` block.

    Args:
        what: what is done, in a word or two.
    """
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def counted(items: Iterable[T], total: int, advance: Advance) -> Iterator[T]:
    """Pass items on, and count them."""
    for done, item in enumerate(items, 1):
        yield item
        advance(done, total)
