"""The index that keeps what was read of datasets: it changes how long a search takes, and nothing else."""

import random
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from exchange.catalogue.context import read_context
from exchange.catalogue.described import keys, read_seen, write_seen
from exchange.catalogue.fields import FieldProfile, Profile
from exchange.catalogue.similar import Catalogue, Similar, Source, Version
from tests.similarity.quality import pairs, profile

PERSON = ("公民身份号码", "姓名", "出生日期")
TABLES = ("datasets", "described", "postings", "places")


class Published:
    """Datasets by name, each a few labels; counts what is read of them."""

    def __init__(self) -> None:
        self.labels: dict[str, tuple[str, ...]] = {}
        self.read: list[str] = []

    def versions(self) -> Iterator[Version]:
        for name, labels in self.labels.items():
            yield Version(name, repr(labels).encode(), lambda name=name, labels=labels: self._read(name, labels))

    def _read(self, name: str, labels: Sequence[str]) -> Source:
        self.read.append(name)
        return Source(name, described(labels))


def described(labels: Sequence[str]) -> Profile:
    fields = (FieldProfile(f"{number}", label=label) for number, label in enumerate(labels))
    return Profile("资源", "dataset", tuple(fields))


def search(path: Path | None, published: Published, labels: Sequence[str] = PERSON, apart_from: str = "") -> Similar:
    with closing(Catalogue(path)) as catalogue:
        catalogue.refresh(published.versions())
        return catalogue.similar(described(labels), limit=None, apart_from=apart_from)


def found(similar: Similar) -> list[str]:
    return [item.source.name for item in similar.datasets]


def rows(path: Path) -> list[int]:
    with closing(sqlite3.connect(path)) as db:
        return [db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "similar.db"


@pytest.fixture
def published() -> Published:
    published = Published()
    published.labels = {"a/people": PERSON, "b/pupils": ("学生姓名", "学号"), "c/rivers": ("河道断面编号",)}
    return published


def test_only_new_versions_are_read(path: Path, published: Published) -> None:
    assert found(search(path, published, ("河道断面编码",))) == ["c/rivers"]
    published.read.clear()
    assert found(search(path, published, ("河道断面编码",))) == ["c/rivers"]
    # What is told is read again; nothing else is.
    assert published.read == ["c/rivers"]
    published.read.clear()
    published.labels["b/pupils"] = ("溶解氧",)
    assert found(search(path, published, ("溶解氧",))) == ["b/pupils"]
    assert set(published.read) == {"b/pupils"}


def test_what_is_no_longer_published_leaves_nothing_behind(path: Path, published: Published) -> None:
    search(path, published)
    assert all(rows(path))
    published.labels = {}
    assert found(search(path, published)) == []
    assert rows(path) == [0, 0, 0, 0]


def test_many_changes_lead_where_reading_all_at_once_does(path: Path) -> None:
    chance, published = random.Random(809), Published()
    labels = sorted({field.label for pair in pairs() for field in profile(pair.dataset).fields if field.label})
    wanted = chance.sample(labels, 12)
    provided = 0
    for _ in range(25):
        for name in chance.sample([f"d{number}/x" for number in range(8)], 3):
            published.labels.pop(name, None)
            if chance.random() < 0.8:
                published.labels[name] = tuple(chance.sample(labels, 8) + chance.sample(wanted, 2))
        kept, anew = search(path, published, wanted), search(None, published, wanted)
        assert kept == anew
        provided += kept.provided
    assert provided > 25


def test_what_was_read_otherwise_is_read_anew(
    path: Path, published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    search(path, published)
    published.read.clear()
    monkeypatch.setattr("exchange.catalogue.shelf._reader", lambda: 7)
    assert found(search(path, published)) == ["a/people", "b/pupils"]
    assert set(published.read) == set(published.labels)


@pytest.mark.parametrize("content", [b"", b"no database at all, but long enough to have a header" * 3])
def test_a_file_that_is_no_index_is_made_anew(path: Path, published: Published, content: bytes) -> None:
    path.write_bytes(content)
    assert found(search(path, published)) == ["a/people", "b/pupils"]


def test_a_refresh_that_fails_leaves_the_index_as_it_was(
    path: Path, published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    search(path, published)
    before = rows(path)
    published.labels = {"d/new": ("姓名",)}
    monkeypatch.setitem(published.labels, "e/new", (1,))
    with pytest.raises(AttributeError):
        search(path, published)
    assert rows(path) == before


def test_what_another_process_has_added_or_taken_away_meanwhile_is_passed_over(
    path: Path, published: Published
) -> None:
    later = Published()
    later.labels = published.labels | {"a/people": ("姓名",), "d/more": PERSON}
    with closing(Catalogue(path)) as catalogue:
        catalogue.refresh(published.versions())
        search(path, later)
        assert found(catalogue.similar(described(PERSON))) == ["b/pupils"]


def test_a_departments_own_datasets_can_be_left_out(path: Path, published: Published) -> None:
    published.labels["ab/people"] = PERSON
    assert found(search(path, published, apart_from="a")) == ["ab/people", "b/pupils"]
    assert found(search(path, published)) == ["a/people", "ab/people", "b/pupils"]


def test_a_field_that_was_kept_is_the_same_to_every_comparison() -> None:
    names = sorted({pair.dataset for pair in pairs()})
    fields = [seen for name in names for seen in read_context(profile(name)).fields]
    assert len(fields) > 100
    for seen in fields:
        written = write_seen(seen)
        kept = read_seen(written)
        assert write_seen(kept) == written
        assert set(keys(kept)) == set(keys(seen))
        assert kept.meanings == seen.meanings
