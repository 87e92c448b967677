"""Finding datasets: words, facets, and an index that follows the directory."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.catalogue.index import FACETS, Index
from exchange.catalogue.words import indexed, match_terms, term_text
from exchange.core.entries import ObjectVersion
from exchange.v1.catalogue_pb2 import Level, Sharing, SharingClass
from exchange.v1.procedure_pb2 import Action
from tests.world import COORDINATOR, DAY, MARRIAGE, POPULATION, World

UNCONDITIONAL = SharingClass.SHARING_CLASS_UNCONDITIONAL


@pytest.fixture
def world() -> World:
    world = World.standard()
    world.publish(
        "household.registration",
        title="户籍登记",
        title_en="Household registration",
        abstract="何人登记在何处。",
        keywords=["户籍", "residence"],
        theme="population",
        level=Level.LEVEL_CITY,
        sharing=Sharing(sharing_class=UNCONDITIONAL, legal_basis="Decree 809"),
        subject_type="person",
        update_frequency="DAILY",
    )
    world.publish(
        "marriages",
        MARRIAGE,
        title="婚姻登记",
        title_en="Marriage records",
        abstract="含户籍所在地",
        theme="population",
        level=Level.LEVEL_COUNTY,
    )
    return world


@pytest.fixture
def index(tmp_path: Path, world: World) -> Iterator[Index]:
    with closing(Index(tmp_path / "catalogue.db")) as index:
        index.refresh(world.directory)
        yield index


def names(index: Index, query: str, **narrowed: str) -> list[str]:
    return [hit.name for hit in index.search(query, narrowed).hits]


HOUSEHOLD, MARRIAGES, RESIDENTS = "population/household.registration", "civil-affairs/marriages", "population/residents"


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("户籍", [HOUSEHOLD, MARRIAGES]),
        ("登记", [HOUSEHOLD, MARRIAGES]),
        ("籍登", [HOUSEHOLD]),
        ("婚", [MARRIAGES]),
        ("记", [HOUSEHOLD, MARRIAGES]),
        ("registration", [HOUSEHOLD]),
        ("REGISTR", [HOUSEHOLD]),
        ("ｒｅｇｉｓｔｒ", [HOUSEHOLD]),
        ("marriage 户籍", [MARRIAGES]),
        ("registration person", [HOUSEHOLD]),
        ("常住人口", [RESIDENTS]),
        ("marriages", [MARRIAGES]),
        ("civil-affairs", [MARRIAGES]),
        ("籍户", []),
    ],
)
def test_words_find_datasets_the_best_first(index: Index, query: str, found: list[str]) -> None:
    assert sorted(names(index, query)) == sorted(found)
    assert names(index, query)[:1] == found[:1] or query in {"登记", "记"}


def test_without_words_all_are_found_by_name(index: Index) -> None:
    assert names(index, "") == sorted([HOUSEHOLD, MARRIAGES, RESIDENTS])


def test_where_no_dataset_has_every_word_those_with_some_are_said_to_be_so(index: Index) -> None:
    found = index.search("婚姻 registration 没有的词")
    assert (found.every, found.total) == (False, 1)
    assert index.search("没有的词").total == 0
    assert index.search("婚姻 登记").every


def test_facets_count_what_was_found_and_narrow_it(index: Index) -> None:
    found = index.search("登记")
    assert found.total == 2
    assert found.facets["level"] == (("city", 1), ("county", 1))
    assert found.facets["theme"] == (("population", 2),)
    assert found.facets["owner"] == (("civil-affairs", 1), ("population", 1))
    assert found.facets["sharing"] == (("unconditional", 1),)
    assert names(index, "登记", level="county") == [MARRIAGES]
    assert names(index, "", owner="population", sharing="unconditional") == [HOUSEHOLD]
    with pytest.raises(KeyError):
        index.search("登记", {"id": "1"})


def test_the_index_follows_the_directory(index: Index, world: World) -> None:
    dataset = world.directory.dataset_named(str(POPULATION), "household.registration")
    assert dataset is not None
    world.publish(
        "household.registration", version=ObjectVersion(dataset.object_id, dataset.version.digest), title="住户"
    )
    assert names(index, "户籍登记") == [HOUSEHOLD]
    index.refresh(world.directory)
    assert (names(index, "户籍登记"), names(index, "住户")) == ([], [HOUSEHOLD])
    found = world.directory.dataset_named(str(POPULATION), "household.registration")
    assert found is not None
    world.revoke(found.version.digest, POPULATION)
    index.refresh(world.directory)
    assert names(index, "住户") == []
    assert index.size == world.directory.size


def test_what_is_not_published_or_retired_is_not_found(index: Index, world: World) -> None:
    world.adopt(review=True)
    waiting = world.publish("waiting", title="待审目录")
    index.refresh(world.directory)
    assert names(index, "待审") == []
    world.do(COORDINATOR, Action.ACTION_PUBLISH, waiting.object_id, digest=waiting.version.digest)
    index.refresh(world.directory)
    assert names(index, "待审") == ["population/waiting"]
    until = world.now + DAY
    digest = waiting.version.digest
    world.do(POPULATION, Action.ACTION_DEPRECATE, waiting.object_id, digest=digest, text="replaced", until=until)
    index.refresh(world.directory)
    assert index.search("待审", now=until - 1).total == 1
    assert index.search("待审", now=until).total == 0


def test_an_index_of_another_version_is_made_anew(tmp_path: Path, world: World) -> None:
    path = tmp_path / "catalogue.db"
    with closing(sqlite3.connect(path)) as other:
        other.executescript("CREATE TABLE other (a); PRAGMA user_version = 99;")
    with closing(Index(path)) as index:
        index.refresh(world.directory)
        assert names(index, "婚姻") == [MARRIAGES]


def test_a_refresh_that_fails_leaves_the_index_as_it_was(
    index: Index, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = index.size
    world.publish("new", title="新目录")
    monkeypatch.setattr("exchange.catalogue.index.indexed", lambda _text: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        index.refresh(world.directory)
    monkeypatch.undo()
    assert (index.size, names(index, "新目录"), names(index, "婚姻")) == (size, [], [MARRIAGES])
    index.refresh(world.directory)
    assert names(index, "新目录") == ["population/new"]


@given(st.text(max_size=60))
def test_no_query_is_a_syntax_error(query: str) -> None:
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute("CREATE VIRTUAL TABLE words USING fts5 (titles, keywords, abstracts, prefix = '1 2')")
        for terms in (match_terms(query), match_terms(query)[:1]):
            for tier in ("{titles} : ", "") if terms else ():
                expression = f"{tier}({' AND '.join(terms)})"
                db.execute("SELECT count(*) FROM words WHERE words MATCH ?", (expression,)).fetchone()


@given(st.text("户籍登记人口", min_size=1, max_size=12), st.data())
def test_every_part_of_chinese_text_is_found(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text) - 1))
    part = text[start : data.draw(st.integers(start + 1, len(text)))]
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute("CREATE VIRTUAL TABLE words USING fts5 (text, tokenize = 'unicode61', prefix = '1')")
        db.execute("INSERT INTO words VALUES (?)", (indexed(text),))
        found = db.execute("SELECT count(*) FROM words WHERE words MATCH ?", match_terms(part)).fetchone()
    assert found == (1,)


def test_a_term_looks_for_what_was_typed() -> None:
    assert [term_text(term) for term in match_terms("户籍登记 House 记 12345热线")] == [
        *("户籍登记", "house", "记", "12345", "热线")
    ]


def test_of_very_many_hits_those_with_the_words_in_their_titles_come_first(
    index: Index, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exchange.catalogue.index.RANKED", 1)
    assert names(index, "户籍") == [HOUSEHOLD, MARRIAGES]
    assert index.search("登记").total == 2
    assert names(index, "登记", level="county") == [MARRIAGES]


def test_facets_are_the_columns_that_results_carry(index: Index) -> None:
    [hit] = index.search("婚姻").hits
    assert tuple(hit.facets) == FACETS
    assert json.dumps(dict(hit.facets))
