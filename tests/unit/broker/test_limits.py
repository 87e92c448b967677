import pytest

from exchange.broker.limits import MOST_ADDRESSES, AddressBuckets, TokenBuckets, network_of
from tests.world import APPLICATIONS, MARRIAGE, START


def taken(buckets: TokenBuckets, now: int, most: int = 100) -> int:
    return next((count for count in range(most) if not buckets.take(APPLICATIONS, now)), most)


def test_a_burst_and_no_more() -> None:
    assert taken(TokenBuckets(rate=10, burst=5), START) == 5


def test_tokens_flow_in_with_time_up_to_the_burst() -> None:
    buckets = TokenBuckets(rate=10, burst=5)
    taken(buckets, START)
    assert taken(buckets, START + 99) == 0
    assert taken(buckets, START + 100) == 1
    assert taken(buckets, START + 400) == 3
    assert taken(buckets, START + 3_600_000) == 5


def test_slow_rates_add_up_over_many_tries() -> None:
    buckets = TokenBuckets(rate=1, burst=1)
    taken(buckets, START)
    assert sum(buckets.take(APPLICATIONS, START + step * 10) for step in range(1, 501)) == 5


def test_each_party_has_its_own() -> None:
    buckets = TokenBuckets(rate=1, burst=1)
    assert buckets.take(APPLICATIONS, START)
    assert not buckets.take(APPLICATIONS, START)
    assert buckets.take(MARRIAGE, START)


def test_a_clock_that_goes_back_locks_nobody_out() -> None:
    buckets = TokenBuckets(rate=1, burst=3)
    taken(buckets, START)
    assert taken(buckets, START - 3_600_000) == 0
    assert taken(buckets, START - 3_599_000) == 1


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        ("ipv4:192.0.2.7:40000", "192.0.2.7"),
        ("ipv4:192.0.2.7:40001", "192.0.2.7"),
        ("ipv6:[2001:db8::1]:40000", "2001:db8::/64"),
        ("ipv6:%5B2001:db8::ffff%5D:40000", "2001:db8::/64"),
        ("ipv6:[2001:db8:0:1::1]:40000", "2001:db8:0:1::/64"),
        ("ipv6:[::ffff:192.0.2.7]:40000", "192.0.2.7"),
        ("ipv6:[fe80::1%25eth0]:40000", "fe80::/64"),
        ("unix:/run/socket", ""),
        ("", ""),
    ],
)
def test_calls_of_one_network_are_one_callers(peer: str, network: str) -> None:
    assert network_of(peer) == network


def test_each_address_has_its_own() -> None:
    buckets = AddressBuckets(rate=1, burst=2)
    assert [buckets.take("ipv4:192.0.2.7:1", START) for _ in range(3)] == [True, True, False]
    assert buckets.take("ipv4:192.0.2.8:1", START)
    assert buckets.take("ipv4:192.0.2.7:1", START + 1000)


def test_all_addresses_together_have_a_limit() -> None:
    buckets = AddressBuckets(rate=1, burst=2, together=3)
    taken = [buckets.take(f"ipv4:192.0.2.{number}:1", START) for number in range(10)]
    assert taken == [True] * 6 + [False] * 4
    assert buckets.take("ipv4:192.0.2.99:1", START + 1000)


def test_no_number_of_addresses_fills_the_memory() -> None:
    buckets = AddressBuckets(rate=1, burst=1, together=10**6)
    assert buckets.take("ipv4:192.0.2.7:1", START)
    for number in range(MOST_ADDRESSES + 10):
        buckets.take(f"ipv6:[2001:db8:{number >> 8:x}:{number & 255:x}::1]:1", START)
    assert len(buckets._buckets) == MOST_ADDRESSES
