"""How many requests a party may make: a token bucket for each (DESIGN section 6, check 1).

And how many of its refusals have an entry of their own: past that they are summed up (the same, "Refusals").
"""

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass
from urllib.parse import unquote

from exchange.core.names import Party

REFUSALS_A_MINUTE = 60
REFUSALS_AT_ONCE = 100
"""Entries of their own that one party's refusals get: so many at once, and so many a minute from then on."""

MOST_ADDRESSES = 10_000
ADDRESSES_TOGETHER = 20


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
        return _taken(self._buckets.setdefault(party, _Bucket(self._burst, now)), self._rate, self._burst, now)


class AddressBuckets:
    """A bucket for each network address, for calls of nobody that is known, and one for all of them together.

    The buckets used last are kept, so that no number of addresses fills the memory.

    Args:
        rate: tokens that flow in, a second, for one address; burst: tokens that its full bucket holds.
        together: how many times that all addresses have.
    """

    def __init__(self, rate: float, burst: float, together: float = ADDRESSES_TOGETHER) -> None:
        self._rate = rate
        self._burst = burst
        self._together = together
        self._all = _Bucket(burst * together, 0)
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, peer: str, now: int) -> bool:
        """Take one token, if there is one in both.

        Args:
            peer: as gRPC writes it: ipv4:127.0.0.1:50100, ipv6:%5B::1%5D:50100.
            now: milliseconds.
        """
        address = network_of(peer)
        bucket = self._buckets.setdefault(address, _Bucket(self._burst, now))
        self._buckets.move_to_end(address)
        while len(self._buckets) > MOST_ADDRESSES:
            self._buckets.popitem(last=False)
        if not _taken(bucket, self._rate, self._burst, now):
            return False
        return _taken(self._all, self._rate * self._together, self._burst * self._together, now)


def network_of(peer: str) -> str:
    """Whose calls count as one caller's: an IPv4 address, or the /64 that one customer has of IPv6.

    Args:
        peer: as gRPC writes it; what is no address is all one caller.
    """
    host = unquote(peer).partition(":")[2].rpartition(":")[0].strip("[]")
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))
    return str(address)


def _taken(bucket: _Bucket, rate: float, burst: float, now: int) -> bool:
    passed = max(0, now - bucket.filled)
    bucket.tokens = min(burst, bucket.tokens + passed * rate / 1000)
    bucket.filled = now
    if bucket.tokens < 1:
        return False
    bucket.tokens -= 1
    return True


def refusal_budget() -> TokenBuckets:
    """The budget of entries for refusals, full for every party."""
    return TokenBuckets(REFUSALS_A_MINUTE / 60, REFUSALS_AT_ONCE)
