"""What was used adds up: within a minute, within a day of UTC, and in all (DESIGN section 6, check 8)."""

from hypothesis import given
from hypothesis import strategies as st

from exchange.core.decision import Usage
from exchange.core.usage import DAY, MINUTE, Tally, day_of, usage_of

NOON = 1_800_014_400_000  # 2027-01-15T12:00:00Z


def test_a_minute_is_the_60_seconds_before() -> None:
    assert usage_of([NOON - MINUTE, NOON - MINUTE + 1, NOON], NOON) == Usage(2, 3, 3)


def test_a_day_begins_at_midnight_utc() -> None:
    assert day_of(NOON) == NOON - DAY // 2
    assert (day_of(day_of(NOON)), day_of(day_of(NOON) - 1)) == (day_of(NOON), day_of(NOON) - DAY)
    assert usage_of([day_of(NOON) - 1, day_of(NOON)], NOON) == Usage(0, 1, 2)


def test_what_lies_ahead_counts_as_well() -> None:
    assert usage_of([NOON + 1], NOON) == Usage(1, 1, 1)


STEPS = st.lists(st.sampled_from([0, 1, 999, MINUTE - 1, MINUTE, MINUTE + 1, DAY // 2, DAY]), max_size=30)


@given(steps=STEPS, wait=st.sampled_from([0, 1, MINUTE - 1, MINUTE, DAY - 1, DAY, 3 * DAY]))
def test_a_tally_says_what_all_the_times_add_up_to(steps: list[int], wait: int) -> None:
    tally, now, times = Tally(), NOON, []
    for step in steps:
        now += step
        tally = tally.counted(now)
        times.append(now)
    assert tally.usage(now + wait) == usage_of(times, now + wait)
    assert len(tally.recent) <= sum(time > now - MINUTE for time in times)
