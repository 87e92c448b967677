"""Bodies that were kept, opened again: each as it was when its entry came (DESIGN section 7)."""

from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

from immutables import Map

from exchange.core.cases import open_body
from exchange.core.errors import CoreError
from exchange.core.state import RULES_OBJECT, State, Version
from exchange.core.terms import Terms


def reopen_terms(state: State, bodies: Iterable[tuple[int, bytes]]) -> Terms:
    """Open bodies again, long after their entries were folded: each as it was opened when its entry came.

    Args:
        state: with all of their entries folded in.
        bodies: of entries by their index, ascending; one that breaks a rule gives no rights.
    """
    versions = {version.index: version for version in state.versions.values() if version.body_sha256}
    inline = (version for version in state.versions.values() if version.purpose or version.rules)
    rest = deque(sorted(inline, key=lambda version: version.index))
    terms, then = Terms(), replace(state, purposes=Map(), objects=_without_rules(state))
    for index, body in bodies:
        while rest and rest[0].index < index:
            then = _with(then, rest.popleft())
        if index in versions:
            # As its entry left it; what came later is in the state alone.
            version = replace(versions[index], ended_index=None, superseded_by=None)
            with suppress(CoreError):
                terms = open_body(then, terms, version, body)
    return terms


def _without_rules(state: State) -> Map[bytes, bytes]:
    return state.objects.delete(RULES_OBJECT) if RULES_OBJECT in state.objects else state.objects


def _with(then: State, version: Version) -> State:
    if version.purpose is not None:
        return replace(then, purposes=then.purposes.set(version.purpose.code, version.digest))
    return replace(then, objects=then.objects.set(RULES_OBJECT, version.digest))
