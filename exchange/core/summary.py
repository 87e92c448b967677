"""Summaries: many refusals of one party within a minute, in one entry (DESIGN section 6, "Refusals")."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from immutables import Map

from exchange.core.envelope import DIGEST
from exchange.core.errors import DecodeError
from exchange.core.merkle import Frontier
from exchange.core.names import Party
from exchange.v1.access_pb2 import AccessKind, AccessLeaf, Code, RefusalCount

MINUTE = 60_000
"""Milliseconds that one summary covers at the most."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What one broker refused one party within a minute.

    Args:
        refuser: the broker.
        since, until: when the first and the last were refused, milliseconds.
        counts: how many with each code.
        refusals: the tree whose leaf hashes are the refusals' message digests, in the order of their places.
    """

    refuser: str
    since: int
    until: int
    counts: Mapping["Code.ValueType", int] = Map()
    refusals: Frontier = Frontier()  # noqa: RUF009

    @property
    def size(self) -> int:
        """How many refusals it sums up: the place of the last one."""
        return self.refusals.size

    def takes(self, now: int) -> bool:
        """Whether a refusal of this moment, milliseconds, still belongs to its minute."""
        return self.until <= now <= self.since + MINUTE

    def add(self, code: "Code.ValueType", digest: bytes, now: int) -> "Summary":
        """The summary with one refusal more.

        Args:
            code: why it was refused.
            digest: the refusal's message digest.
            now: milliseconds, a moment that it takes.
        """
        counts = Map(self.counts).set(code, self.counts.get(code, 0) + 1)
        refusals, _ = self.refusals.extend((digest,))
        return replace(self, until=now, counts=counts, refusals=refusals)

    def fields(self) -> AccessLeaf:
        """The fields of a leaf that a summary alone has."""
        counts = [RefusalCount(code=code, count=self.counts[code]) for code in sorted(self.counts)]
        return AccessLeaf(
            counts=counts,
            since=self.since,
            until=self.until,
            refusals_root=self.refusals.root(),
            refuser=self.refuser,
        )


def refusals_in(leaf: AccessLeaf) -> int:
    """How many refusals a leaf stands for."""
    return sum(item.count for item in leaf.counts) or int(leaf.kind == AccessKind.ACCESS_KIND_REFUSED)


def check_summary(leaf: AccessLeaf) -> None:
    """Check that a leaf has the fields of a summary exactly where it is one, and in their form.

    Raises:
        DecodeError: it has not.
    """
    if leaf.kind != AccessKind.ACCESS_KIND_REFUSALS:
        if leaf.counts or leaf.since or leaf.until or leaf.refusals_root or leaf.refuser:
            raise DecodeError("only a summary of refusals counts them")
        return
    if leaf.provider or leaf.request_id or leaf.request_digest or leaf.response_digest:
        raise DecodeError("a summary of refusals names no request, provider or response")
    if not all(len(digest) == DIGEST for digest in (leaf.refusals_root, leaf.refusal_digest)):
        raise DecodeError("a summary of refusals has their root, and the digest of the last one")
    codes = [item.code for item in leaf.counts]
    if not codes or codes != sorted(set(codes)) or not codes[0] or not all(item.count for item in leaf.counts):
        raise DecodeError("a summary of refusals counts each code once, in ascending order")
    if not leaf.since <= leaf.until <= leaf.since + MINUTE:
        raise DecodeError("a summary of refusals covers a minute at the most")
    Party.parse(leaf.requester)
    Party.parse(leaf.refuser)
