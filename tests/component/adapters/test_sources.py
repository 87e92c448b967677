"""Which table answers for a dataset: the one that is configured, and only while it fits what is published."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from adapters import sources as module
from adapters.config import AdapterConfig, ConfigError, load_config
from adapters.connectors import ConnectorError, Finding, Question, Rows
from adapters.sources import Sources
from exchange.core.terms import DatasetTerms
from exchange.v1.directory_pb2 import Field, FieldType
from tests.world import ID_NUMBER, World, lookup

COLUMNS = "id_number TEXT, name TEXT, birth_date DATE, address TEXT, household_id TEXT, area_m2 DECIMAL"
CONFIG = """
[adapter]
row_limit = 50

[sources.people]
url = "sqlite:///people.db"

[datasets.residents]
source = "people"
table = "residents"
row_limit = 7

[datasets.vehicles]
source = "people"
table = "vehicles"
"""


@pytest.fixture
def world() -> World:
    return World.standard()


@pytest.fixture
def dataset(world: World) -> DatasetTerms:
    return world.dataset


def fill(path: Path, table: str = "residents", columns: str = COLUMNS) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(f"CREATE TABLE {table} ({columns})")
        if columns == COLUMNS:
            database.execute(
                f"INSERT INTO {table} VALUES (?, '王芳', '1990-03-07', '和平路 1 号', 'h1', 58.4)", (ID_NUMBER,)
            )


@pytest.fixture
def config(tmp_path: Path) -> AdapterConfig:
    (tmp_path / "adapter.toml").write_text(CONFIG)
    return load_config(tmp_path / "adapter.toml")


@pytest.fixture
async def sources(config: AdapterConfig) -> AsyncIterator[Sources]:
    sources = Sources(config)
    yield sources
    await sources.close()


def question(code: str = "residents", fields: tuple[str, ...] = ("name",)) -> Question:
    return Question(code, fields, tuple(lookup(ID_NUMBER).lookup.keys), None, None, 10)


async def test_a_question_is_answered_from_its_datasets_table(
    tmp_path: Path, sources: Sources, dataset: DatasetTerms
) -> None:
    fill(tmp_path / "people.db")
    rows = await sources.answer(dataset, question())
    assert (rows.rows, rows.subjects) == (({"name": "王芳"},), (ID_NUMBER,))


async def test_a_table_that_does_not_fit_its_dataset_is_not_served(
    tmp_path: Path, sources: Sources, dataset: DatasetTerms
) -> None:
    """A comparison with a column of another type may select other rows than the filter says."""
    fill(tmp_path / "people.db", columns=COLUMNS.replace("birth_date DATE", "birth_date BLOB"))
    assert [finding.field for finding in sources.check(dataset)] == ["birth_date"]
    for _ in range(2):
        with pytest.raises(ConnectorError, match="does not fit"):
            await sources.answer(dataset, question())


async def test_a_table_is_served_as_soon_as_it_fits(tmp_path: Path, sources: Sources, dataset: DatasetTerms) -> None:
    fill(tmp_path / "people.db", columns="id_number TEXT, name TEXT")
    with pytest.raises(ConnectorError):
        await sources.answer(dataset, question())
    (tmp_path / "people.db").unlink()
    fill(tmp_path / "people.db")
    assert (await sources.answer(dataset, question())).rows == ({"name": "王芳"},)


async def test_a_new_description_is_checked_anew(
    tmp_path: Path, sources: Sources, dataset: DatasetTerms, world: World
) -> None:
    fill(tmp_path / "people.db")
    await sources.answer(dataset, question())
    terms = dataset.fields["name"]
    fields = dict(dataset.fields) | {"name": replace(terms, type=FieldType.FIELD_TYPE_INTEGER)}
    changed = replace(dataset, fields=fields, version=replace(dataset.version, digest=world.fresh(32)))
    with pytest.raises(ConnectorError, match="does not fit"):
        await sources.answer(changed, question())
    # The one before still fits.
    assert (await sources.answer(dataset, question())).rows == ({"name": "王芳"},)


async def test_a_dataset_that_is_not_configured_is_not_served(sources: Sources, world: World) -> None:
    other = world.publish("births")
    with pytest.raises(ConnectorError, match="not configured"):
        await sources.answer(other, question("births"))
    with pytest.raises(ConfigError, match="births is not configured"):
        sources.check(other)
    assert sources.row_limit("births") == 50


def test_a_dataset_may_have_a_limit_of_its_own(sources: Sources) -> None:
    assert (sources.row_limit("residents"), sources.row_limit("vehicles")) == (7, 50)


# --- connectors: how many, and when they are given up -------------------------------------------------


class FakeConnector:
    """A connector that counts, and fails or waits when it is told to."""

    made: ClassVar[list["FakeConnector"]] = []
    checking: ClassVar[threading.Event]
    findings: tuple[Finding, ...] = ()
    error: ConnectorError | None = None
    hangs: threading.Event | None = None

    def __init__(self, url: str, tables: dict[str, Any], **settings: Any) -> None:
        self.code = next(iter(tables))
        self.closed = False
        self.checks = 0
        FakeConnector.made.append(self)

    def check(self) -> tuple[Finding, ...]:
        self.checks += 1
        if self.hangs is not None and self.code == "vehicles":
            self.checking.set()
            self.hangs.wait(5)
        if self.error is not None:
            raise self.error
        return self.findings

    async def answer(self, question: Question) -> Rows:
        assert not self.closed
        return Rows((), (), False)

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def connectors(monkeypatch: pytest.MonkeyPatch) -> type[FakeConnector]:
    monkeypatch.setattr(module, "SqlConnector", FakeConnector)
    for name, value in (("made", []), ("findings", ()), ("error", None), ("hangs", None)):
        monkeypatch.setattr(FakeConnector, name, value)
    monkeypatch.setattr(FakeConnector, "checking", threading.Event(), raising=False)
    return FakeConnector


async def test_one_connector_serves_all_questions_and_is_checked_once(
    connectors: type[FakeConnector], sources: Sources, dataset: DatasetTerms
) -> None:
    await asyncio.gather(*(sources.answer(dataset, question()) for _ in range(10)))
    await sources.answer(dataset, question())
    [connector] = connectors.made
    assert connector.checks == 1


async def test_the_connector_of_an_earlier_description_is_closed(
    connectors: type[FakeConnector], sources: Sources, dataset: DatasetTerms, world: World
) -> None:
    await sources.answer(dataset, question())
    newer = replace(dataset, version=replace(dataset.version, digest=world.fresh(32)))
    await sources.answer(newer, question())
    assert [connector.closed for connector in connectors.made] == [True, False]
    await sources.close()
    assert [connector.closed for connector in connectors.made] == [True, True]


@pytest.mark.parametrize("case", ["a finding", "no connection"])
async def test_a_connector_that_does_not_serve_is_closed(
    connectors: type[FakeConnector], sources: Sources, dataset: DatasetTerms, case: str
) -> None:
    if case == "a finding":
        connectors.findings = (Finding("residents", "name", "it is missing"),)
    else:
        connectors.error = ConnectorError("the source cannot be reached")
    for _ in range(3):
        with pytest.raises(ConnectorError):
            await sources.answer(dataset, question())
    assert [connector.closed for connector in connectors.made] == [True] * 3


async def test_a_database_that_hangs_keeps_no_other_dataset_waiting(
    connectors: type[FakeConnector], sources: Sources, dataset: DatasetTerms, world: World
) -> None:
    fields = [Field(name="id_number", label="id", type=FieldType.FIELD_TYPE_TEXT)]
    other = world.publish("vehicles", fields=fields, filterable=[])
    connectors.hangs = threading.Event()
    waiting = asyncio.create_task(sources.answer(other, question("vehicles", ("id_number",))))
    assert await asyncio.to_thread(connectors.checking.wait, 5)
    async with asyncio.timeout(2):
        await sources.answer(dataset, question())
    assert not waiting.done()
    connectors.hangs.set()
    await waiting
