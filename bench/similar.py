"""`python -m bench.similar`: how long it takes to find what a catalogue of many datasets provides of a form.

The datasets are made up of words that government data is described in, in Chinese, English and pinyin, and of labels
that no lexicon knows. Timed are the index, which a command builds once, and the searches in it.
"""

import argparse
import random
import resource
import sys
import time
import zlib
from collections.abc import Iterator

from exchange.catalogue.fields import FieldProfile, Profile
from exchange.catalogue.lexicon import CONCEPT, ROLE, TERM, lexicon
from exchange.catalogue.similar import Catalogue, Source

# Every fourth field is one that nearly every register has.
EVERYWHERE = (
    "姓名",
    "身份证号",
    "性别",
    "出生日期",
    "联系电话",
    "住址",
    "统一社会信用代码",
    "企业名称",
    "登记日期",
    "状态",
)
RARE = "河湖库渠闸泵站断面监测采样浊度流量水位雨量墒情地温风速林班样地树种郁闭度病虫害"
UNUSUAL, COMMON = 0.3, 0.25


def main() -> int:
    """Make datasets, index them, search, print. Returns 1 where the 95th percentile is over the limit, else 0."""
    parser = argparse.ArgumentParser(prog="python -m bench.similar", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--datasets", type=int, default=100_000, metavar="N", help="datasets of the catalogue")
    parser.add_argument("--searches", type=int, default=20, metavar="N", help="forms that are looked up")
    parser.add_argument("--fields", type=int, default=15, metavar="N", help="fields of a form")
    parser.add_argument("--limit", type=float, default=10.0, metavar="S", help="of the 95th percentile, seconds")
    parser.add_argument("--seed", type=int, default=20_260_809)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    labels = _labels()
    lexicon()
    started = time.process_time()
    catalogue = Catalogue(_sources(arguments.datasets, labels, chance))
    indexed = time.process_time() - started
    times = []
    provided = 0
    for _ in range(arguments.searches):
        form = _profile("form", labels, arguments.fields, chance)
        started = time.process_time()
        provided += catalogue.similar(form).provided
        times.append(time.process_time() - started)
    times.sort()
    p95 = times[min(len(times) - 1, round(0.95 * len(times)))]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{arguments.datasets:,} datasets indexed in {indexed:.1f} s of processor time, {memory:,.0f} MiB")
    print(f"a form of {arguments.fields} fields: p50 {times[len(times) // 2]:.2f} s, p95 {p95:.2f} s, ", end="")
    print(f"{provided / arguments.searches:.1f} fields provided")
    return int(p95 > arguments.limit)


def _labels() -> list[str]:
    """What a field may be called: a concept's words, alone and with a role or a term before them."""
    by_kind: dict[str, list[str]] = {}
    for parts, word in lexicon().phrases.items():
        text = " ".join(parts) if parts[0].isascii() else "".join(parts)
        by_kind.setdefault(word.kind, []).append(text)
    qualifiers = by_kind[ROLE] + by_kind[TERM]
    chinese = [text for text in by_kind[CONCEPT] if not text.isascii()]
    combined = [f"{first}{text}" for first in qualifiers if not first.isascii() for text in chinese[::7]]
    return by_kind[CONCEPT] + combined


def _sources(count: int, labels: list[str], chance: random.Random) -> Iterator[Source]:
    for number in range(count):
        profile = _profile(f"数据资源{number}", labels, chance.randint(4, 20), chance)
        yield Source(f"department-{number % 400}/dataset.{number}", profile)
        if number % 10_000 == 0:
            print(f"\r{number:,} datasets", end="", file=sys.stderr)
    print("\r", end="", file=sys.stderr)


def _profile(title: str, labels: list[str], count: int, chance: random.Random) -> Profile:
    fields = []
    for number in range(count):
        drawn = chance.random()
        if drawn < COMMON:
            label = chance.choice(EVERYWHERE)
        elif drawn < COMMON + UNUSUAL:
            label = "".join(chance.choices(RARE, k=chance.randint(3, 6)))
        else:
            label = chance.choice(labels)
        # A label is called alike in most systems, not in all.
        name = f"f{zlib.crc32(label.encode()):x}_{chance.choice('aaab')}"
        fields.append(FieldProfile(f"{name}_{number}", name, label, type=chance.choice(("text", "text", "date", ""))))
    return Profile(title, "dataset", tuple(fields))


if __name__ == "__main__":
    sys.exit(main())
