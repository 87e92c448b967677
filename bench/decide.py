"""`python -m bench.decide`: what a decision costs where there are many agreements, and where there are few.

Timed is `examine`, checks 4 to 8, on a request whose signature was verified: one call at a time, of agreements drawn at
random, over the directory's own maps. Each agreement names officers, hours and limits; the exchange has guardrails and
suspensions, none of which is about the request. Both sizes take turns in one run, so that their ratio holds on a
machine that others use as well; for the same reason a decision's cost is the least of its rounds, and the percentiles
are over the decisions. A P-256 verification is timed beside them: the limit is for a core on which it takes 65 us.
"""

import argparse
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

from exchange.core.bars import Bars, StandingSuspension, officer_target
from exchange.core.decision import Allow, Asked, Usage, authenticate, examine
from exchange.core.directory import Directory
from exchange.core.envelope import Envelope
from exchange.core.keys import is_signed
from exchange.core.names import Party
from exchange.core.terms import AgreementTerms
from exchange.v1.guardrail_pb2 import Guardrail, Suspension, Test, Tests
from exchange.v1.terms_pb2 import Hours, Limits
from tests.world import APPLICATIONS, COORDINATOR, HOUSING, World

VERIFICATION = 65.0
"""Microseconds, on the core that other figures of the project are of."""

GUARDRAILS, SUSPENSIONS, BATCH, OFFICERS = 10, 1000, 500, 20


def main() -> int:
    """Measure and print. Returns the exit code: 1 where many agreements take longer than allowed."""
    parser = argparse.ArgumentParser(prog="python -m bench.decide", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--few", type=int, default=100, metavar="N", help="agreements")
    parser.add_argument("--many", type=int, default=100_000, metavar="N", help="agreements")
    parser.add_argument("--rounds", type=int, default=40, metavar="N", help=f"of {BATCH} decisions at each size")
    parser.add_argument("--limit", type=float, default=20.0, metavar="US", help="of the 99th percentile, scaled")
    parser.add_argument("--ratio", type=float, default=1.5, metavar="N", help="the most that many may take to few")
    parser.add_argument("--seed", type=int, default=20_260_809)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    world, agreement = _world()
    sizes = (arguments.few, arguments.many)
    stages = {size: _Stage(world, agreement, size, chance) for size in sizes}
    verified = float("inf")
    for _ in range(arguments.rounds):
        verified = min(verified, _verification(world))
        for size in sizes:
            stages[size].run()
    head = f"{'agreements':>12} {'p50':>8} {'p99':>8} {'most':>8}"
    print(f"{head}  (us; {BATCH:,} decisions each, the least of {arguments.rounds} rounds)")
    for size in sizes:
        taken = sorted(stages[size].times)
        print(f"{size:12,} {_share(taken, 50):8.1f} {_share(taken, 99):8.1f} {taken[-1]:8.1f}")
    few, many = (sorted(stages[size].times) for size in sizes)
    ratio = _share(many, 50) / _share(few, 50)
    print(f"many to few: {ratio:.2f} (p50), {_share(many, 99) / _share(few, 99):.2f} (p99)")
    scaled = _share(many, 99) * VERIFICATION / verified
    print(f"a P-256 verification: {verified:.1f} us; p99 of many where it takes {VERIFICATION:.0f} us: {scaled:.1f} us")
    return int(scaled > arguments.limit or ratio > arguments.ratio)


class _Stage:
    """A directory of so many agreements, and requests under some of them."""

    def __init__(self, world: World, agreement: AgreementTerms, size: int, chance: random.Random) -> None:
        self.times = [float("inf")] * BATCH
        self._now = world.now
        self._directory, agreements = _directory(world, agreement, size, chance)
        signed = authenticate(world.directory, _request(world, agreement), world.now, APPLICATIONS)
        assert isinstance(signed, Asked), signed
        self._asked = [_under(signed, chance.choice(agreements)) for _ in range(BATCH)]

    def run(self) -> None:
        """One round."""
        clock, directory, now = time.perf_counter_ns, self._directory, self._now
        for number, asked in enumerate(self._asked):
            began = clock()
            decided = examine(directory, asked, now, _free, _unused)
            self.times[number] = min(self.times[number], (clock() - began) / 1000)
            assert isinstance(decided, Allow), decided


def _world() -> tuple[World, AgreementTerms]:
    world = World.standard()
    terms = {
        "officers": [f"officer-{number}" for number in range(OFFICERS)],
        "hours": Hours(zone="Asia/Shanghai", weekdays=[1, 2, 3, 4, 5, 6, 7], opens=0, closes=1440),
        "limits": Limits(per_minute=60, per_day=2000, in_total=100_000),
        "review_at": world.now + 86_400_000,
    }
    return world, world.grant(world.apply_for(world.dataset), **terms)


def _verification(world: World) -> float:
    """Microseconds that it takes to verify one signature."""
    key, data = world.keys[APPLICATIONS], b"so fast is this core"
    signature = key.sign(data)
    is_signed.cache_clear()
    began = time.perf_counter_ns()
    assert is_signed(key.public_key, data, signature)
    return (time.perf_counter_ns() - began) / 1000


def _request(world: World, agreement: AgreementTerms) -> Envelope:
    return world.request(agreement=agreement.digest)


def _directory(
    world: World, agreement: AgreementTerms, size: int, chance: random.Random
) -> tuple[Directory, list[AgreementTerms]]:
    """The world's directory with copies of one agreement that was signed, each under a digest of its own."""
    state, terms = world.directory.state, world.directory.terms
    versions, agreements, made = state.versions, terms.agreements, []
    for number in range(size):
        digest = chance.randbytes(32)
        version = replace(agreement.version, digest=digest, object_id=chance.randbytes(16), index=state.size + number)
        made.append(replace(agreement, version=version))
        versions, agreements = versions.set(digest, version), agreements.set(digest, made[-1])
    grown = replace(state, versions=versions, bars=_bars())
    return Directory(grown, replace(terms, agreements=agreements)), made


def _bars() -> Bars:
    bars = Bars()
    for number in range(GUARDRAILS):
        tests = [Test(requester=f"{COORDINATOR}-{number}"), Test(sensitivity=3), Test(purpose="tax.audit")]
        said = Guardrail(format=1, code=f"rule-{number}", label="rule", test=Test(all_of=Tests(tests=tests)))
        bars = bars.with_guardrail(number.to_bytes(32), said)
    for number in range(SUSPENSIONS):
        held = StandingSuspension(number.to_bytes(32), COORDINATOR, Suspension(reason="misuse"))
        bars = bars.with_suspension(officer_target(HOUSING, f"suspended-{number}"), held)
    return bars


def _under(asked: Asked, agreement: AgreementTerms) -> Asked:
    """The same request under another agreement."""
    header = type(asked.header)()
    header.CopyFrom(asked.header)
    header.agreement = agreement.digest
    return replace(asked, header=header)


def _free(_requester: str, _request_id: bytes) -> None:
    """Nobody holds an id."""


def _unused(_agreement: AgreementTerms, _department: Party, _now: int) -> Usage:
    return Usage(1, 2, 3)


def _share(taken: Sequence[float], share: int) -> float:
    return taken[min(len(taken) - 1, len(taken) * share // 100)]


if __name__ == "__main__":
    sys.exit(main())
