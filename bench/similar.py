"""`python -m bench.similar`: how long it takes to find what a catalogue of many datasets provides of a form.

The datasets are made up of words that government data is described in, in Chinese, English and pinyin, and of labels
that no lexicon knows. Timed are the first command, which reads all of them, the next one, which finds a few new ones,
and the searches.
"""

import argparse
import random
import resource
import sys
import time
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from exchange.catalogue.fields import FieldProfile, Profile
from exchange.catalogue.lexicon import CONCEPT, ROLE, TERM, lexicon
from exchange.catalogue.similar import Catalogue, Source, Version

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
NEW = 10


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
    versions = list(_versions(arguments.datasets + NEW, labels, chance))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "similar.db"
        first, catalogue = _refreshed(path, versions[:-NEW])
        catalogue.close()
        again, catalogue = _refreshed(path, versions)
        size = path.stat().st_size / 1024**2
        times = []
        provided = 0
        for _ in range(arguments.searches):
            form = _profile("form", labels, arguments.fields, chance)
            started = time.process_time()
            provided += catalogue.similar(form).provided
            times.append(time.process_time() - started)
        catalogue.close()
    times.sort()
    p95 = times[min(len(times) - 1, round(0.95 * len(times)))]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{arguments.datasets:,} datasets read in {first:.1f} s of processor time, ", end="")
    print(f"{size:,.0f} MiB of file, {memory:,.0f} MiB of memory")
    print(f"the next time, with {NEW} new ones: {again:.2f} s")
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


def _refreshed(path: Path, versions: list[Version]) -> tuple[float, Catalogue]:
    started = time.process_time()
    catalogue = Catalogue(path)
    catalogue.refresh(versions, _progress)
    return time.process_time() - started, catalogue


def _progress(done: int, total: int) -> None:
    if done % 1_000 == 0 or done == total:
        print(f"\r{done:,} of {total:,} datasets", end="" if done < total else "\r", file=sys.stderr)


def _versions(count: int, labels: list[str], chance: random.Random) -> Iterator[Version]:
    for number in range(count):
        profile = _profile(f"数据资源{number}", labels, chance.randint(4, 20), chance)
        source = Source(f"department-{number % 400}/dataset.{number}", profile)
        yield Version(source.name, number.to_bytes(32), partial(_same, source))


def _same(source: Source) -> Source:
    return source


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
