from exchange.broker.limits import TokenBuckets
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
