"""Which entries belong to an incident: those of a party, of an officer, or under an agreement."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from exchange.cli.audit.checking.findings import Finding
from exchange.cli.audit.mirror.access_mirror import AccessMirror
from exchange.cli.audit.mirror.postings import Wanted
from exchange.cli.audit.searching.criteria import party
from exchange.cli.audit.searching.rows import ProvenEntry, proven_entries
from exchange.cli.frame.errors import WrongUsageError
from exchange.client.datasets import dataset_name
from exchange.core.directory import Directory
from exchange.core.erasures import Erasures
from exchange.core.names import Party
from exchange.core.terms import AgreementTerms

SHORTEST = 8
"""Digits of an agreement's id that name it."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What an incident is about; at least one of party, officer and agreement, and all of them hold.

    Args:
        party: asked or answered; covers its systems.
        officer: the pseudonym of the person who asked.
        agreement: that requests named.
        since, until: milliseconds, inclusive; None without a bound.
    """

    party: Party | None
    officer: str
    agreement: AgreementTerms | None
    since: int | None
    until: int | None

    def described(self) -> dict[str, object]:
        """What it is about, for the record."""
        return {
            "party": str(self.party) if self.party is not None else None,
            "officer": self.officer or None,
            "agreement": self.agreement.digest if self.agreement is not None else None,
        }

    def wanted(self) -> list[Wanted]:
        """Searches of the mirror's index that together find every entry that belongs; some of them more."""
        exact: dict[str, object] = {"officer": self.officer} if self.officer else {}
        if self.agreement is not None:
            exact["dataset"] = self.agreement.dataset
        if self.party is None:
            return [Wanted(exact, {}, self.since, self.until)]
        sides = ("requester", "provider")
        return [Wanted(dict(exact), {side: self.party}, self.since, self.until) for side in sides]

    def holds(self, item: ProvenEntry) -> bool:
        """Whether an entry belongs, by what it says itself."""
        leaf, header = item.entry.leaf, item.entry.asked
        names = [name for name in (leaf.requester, leaf.provider) if name]
        return (
            (self.party is None or any(_covers(self.party, name) for name in names))
            and (not self.officer or (header is not None and header.officer == self.officer))
            and (self.agreement is None or (header is not None and header.agreement == self.agreement.digest))
            and (self.since is None or leaf.time >= self.since)
            and (self.until is None or leaf.time <= self.until)
        )


def selected(mirror: AccessMirror, selection: Selection, erasures: Erasures) -> Iterator[ProvenEntry | Finding]:
    """The entries that belong, each once and in the log's order, read page by page; or what is wrong with one."""
    streams = [proven_entries(mirror, wanted, erasures=erasures) for wanted in selection.wanted()]
    merged = heapq.merge(*streams, key=_index)
    for _, same in groupby(merged, key=_index):
        # A party that asks itself is found on both sides; so is what is wrong with its entry.
        items = list(same)
        entry = next((item for item in items if isinstance(item, ProvenEntry)), None)
        yield from dict.fromkeys(item for item in items if isinstance(item, Finding))
        if entry is not None and selection.holds(entry):
            yield entry


def chosen(
    directory: Directory, name: str, officer: str, agreement: str, period: tuple[int | None, int | None]
) -> Selection:
    """What a person typed.

    Args:
        directory: knows the agreements.
        name: of a party; officer; agreement: the first digits of its id; each may be empty.
        period: since and until, milliseconds.

    Raises:
        WrongUsageError: none of them, or one cannot be meant.
    """
    if not (name or officer or agreement):
        raise WrongUsageError("nothing says what the incident is about", "name --party, --officer or --agreement")
    return Selection(
        party(name, directory.origin, "--party") if name else None,
        officer,
        _agreement(directory, agreement) if agreement else None,
        *period,
    )


def _agreement(directory: Directory, text: str) -> AgreementTerms:
    prefix = text.lower()
    found = [terms for digest, terms in directory.terms.agreements.items() if digest.hex().startswith(prefix)]
    if len(prefix) < SHORTEST or len(found) != 1:
        known = [f"{terms.digest.hex()[:16]} {terms.grantee}" for terms in found[:3]]
        hint = f"give {SHORTEST} or more digits of one that the directory has; `exchange-audit show` names it"
        raise WrongUsageError(f"--agreement: {text} is none, or not one alone", "; ".join([hint, *known]))
    return found[0]


def about(directory: Directory, selection: Selection) -> str:
    """What an incident is about, in words."""
    parts = [f"party {selection.party}"] if selection.party is not None else []
    parts += [f"officer {selection.officer}"] if selection.officer else []
    if selection.agreement is not None:
        terms = directory.terms.datasets.get(selection.agreement.dataset)
        of = f" of {dataset_name(terms)}" if terms is not None else ""
        parts.append(f"agreement {selection.agreement.digest.hex()[:16]}{of} for {selection.agreement.grantee}")
    return ", ".join(parts)


def _covers(covering: Party, name: str) -> bool:
    return f"{name}/".startswith(f"{covering}/")


def _index(item: ProvenEntry | Finding) -> int:
    return item.index if item.index is not None else -1
