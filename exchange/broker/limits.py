"""How many requests a party may make: a token bucket for each (DESIGN section 6, check 1).

And how many of its refusals have an entry of their own: past that they are summed up (the same, "Refusals").
"""

from dataclasses import dataclass

from exchange.core.names import Party

REFUSALS_A_MINUTE = 60
REFUSALS_AT_ONCE = 100
"""Entries of their own that one party's refusals get: so many at once, and so many a minute from then on."""


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled: int


class TokenBuckets:
    """A bucket a party.

    Args:
        rate: tokens that flow in, a second.
        burst: tokens that a full bucket holds.
    """

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: dict[Party, _Bucket] = {}

    def take(self, party: Party, now: int) -> bool:
        """Take one token, if there is one.

        Args:
            party: whose bucket.
            now: milliseconds.
        """
        bucket = self._buckets.setdefault(party, _Bucket(self._burst, now))
        passed = max(0, now - bucket.filled)
        bucket.tokens = min(self._burst, bucket.tokens + passed * self._rate / 1000)
        bucket.filled = now
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True


def refusal_budget() -> TokenBuckets:
    """The budget of entries for refusals, full for every party."""
    return TokenBuckets(REFUSALS_A_MINUTE / 60, REFUSALS_AT_ONCE)
