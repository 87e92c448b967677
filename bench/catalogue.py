"""Searching a catalogue of many datasets: `python -m bench.catalogue [DATASETS]`."""

import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import quantiles
from types import SimpleNamespace

from exchange.catalogue.index import FACETS, Index
from exchange.core.names import Party
from exchange.core.procedure_terms import ReviewEvent
from exchange.core.state import Version
from exchange.core.terms import DatasetTerms
from exchange.v1.catalogue_pb2 import Level, Sharing
from exchange.v1.directory_pb2 import Dataset, EntryKind, Field

DATASETS = 100_000
SEARCHES = 400
PARTS = (
    *("户籍", "人口", "婚姻", "出生", "死亡", "房屋", "不动产", "车辆", "驾驶证", "社会保险", "医疗", "学籍", "学历"),
    *("企业", "营业执照", "税务", "发票", "低保", "残疾", "养老", "公积金", "道路", "排污", "供水", "燃气", "消防"),
)
# What catalogues are full of: a few subjects very often, most of them rarely.
SUBJECTS = tuple(f"{first}{second}" for first in PARTS for second in PARTS if first != second)
RARITY = tuple(1 / (place + 5) for place in range(len(SUBJECTS)))
KINDS = ("登记", "信息", "证明", "名册", "统计", "许可", "档案", "变更", "缴纳", "年检")
WORDS = ("household", "population", "marriage", "birth", "housing", "vehicle", "licence", "insurance", "school", "tax")
FIELDS = ("姓名", "公民身份号码", "性别", "出生日期", "住址", "联系电话", "登记日期", "有效期至", "状态", "金额")
THEMES = ("population", "housing", "transport", "health", "education", "business")


def catalogue(count: int, draw: random.Random) -> Iterator[DatasetTerms]:
    """Datasets as offices would describe them: two or three Chinese words, an English title, five to nine fields."""
    owners = [Party("city.example", f"office-{number}") for number in range(200)]
    for number in range(count):
        owner, place = draw.choice(owners), draw.randrange(3_000)
        subjects = draw.choices(SUBJECTS, RARITY, k=3)
        title = f"{subjects[0]}{draw.choice(KINDS)}{place}号"
        fields = [
            Field(name=f"f{place}_{at}", label=draw.choice(FIELDS), type=1, sensitivity=2)
            for at in range(draw.randint(5, 9))
        ]
        said = Dataset(
            title=title,
            title_en=f"{draw.choice(WORDS)} {draw.choice(WORDS)} register {place}",
            abstract=f"{title}，按{subjects[1]}核对，每日更新。",
            keywords=sorted({*subjects}),
            theme=draw.choice(THEMES),
            subject_type=draw.choice(("person", "company")),
            level=draw.choice((Level.LEVEL_CITY, Level.LEVEL_COUNTY)),
            update_frequency=draw.choice(("DAILY", "MONTHLY")),
            sharing=Sharing(sharing_class=draw.choice((1, 2))),
            fields=fields,
        )
        object_id = number.to_bytes(16, "big")
        version = Version(object_id * 2, EntryKind.ENTRY_KIND_DATASET, object_id, owner, number, 0, bytes(32))
        yield DatasetTerms(version, f"d{number}", title, "", owner, {}, "f", frozenset(), frozenset(), said)


def queries(count: int, draw: random.Random) -> Iterator[tuple[str, dict[str, str]]]:
    """Searches as people type them: one to three words, some Chinese, some English, a third of them narrowed."""
    for number in range(count):
        words = draw.choices(SUBJECTS, RARITY, k=1) if number % 3 else [draw.choice(WORDS), str(draw.randrange(3_000))]
        if number % 4 == 0:
            words.append(draw.choice(FIELDS))
        yield " ".join(words), ({"theme": draw.choice(THEMES)} if number % 3 == 0 else {})


def main() -> None:
    """Measure, and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else DATASETS
    draw = random.Random(1)
    datasets = {terms.object_id: terms for terms in catalogue(count, draw)}
    reviews = {object_id: (ReviewEvent(terms.version),) for object_id, terms in datasets.items()}
    terms = SimpleNamespace(datasets=datasets, reviews=reviews)
    directory = SimpleNamespace(size=count, dataset=datasets.get, terms=terms)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "catalogue.db"
        index = Index(path)
        began = time.perf_counter()
        index.refresh(directory)  # type: ignore[arg-type]
        print(
            f"{count:,} datasets indexed in {time.perf_counter() - began:.1f} s, {path.stat().st_size / 2**20:.0f} MiB"
        )
        took, hits = [], 0
        for query, narrowed in queries(SEARCHES, draw):
            began = time.perf_counter()
            found = index.search(query, narrowed)
            took.append((time.perf_counter() - began) * 1000)
            hits += found.total
        index.close()
    cuts = quantiles(took, n=100)
    print(f"{SEARCHES} searches, {hits / SEARCHES:,.0f} hits each, {len(FACETS)} facets counted:")
    print(f"p50 {cuts[49]:.1f} ms, p95 {cuts[94]:.1f} ms, p99 {cuts[98]:.1f} ms")


if __name__ == "__main__":
    main()
