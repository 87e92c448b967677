"""No answer shows more than its agreement, and no questions tell apart what differs in withheld things alone.

The whole adapter answers, sealing and ledger included, over two tables of a real SQLite or PostgreSQL. Complete answers
are compared: rows byte by byte, their order, what is said of a limit, and refusals with their reasons.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, given, settings

from adapters.answering import Answerer, DenyError
from adapters.committing import Committer
from adapters.config import load_config
from adapters.connectors import sql_table
from adapters.connectors.rows import encode_rows
from adapters.connectors.sql_table import SqlTable
from adapters.ledger import Ledger
from adapters.mask_secret import mask_secret
from adapters.orders import Orders
from adapters.sources import Sources
from exchange.client.session import Session
from exchange.core import masking
from exchange.core.envelope import Envelope, decode_envelope
from exchange.core.filters import Scalar
from exchange.core.masking import hash_key, mask_value
from exchange.core.terms import AgreementTerms
from exchange.home import write_file
from exchange.v1.directory_pb2 import Field
from exchange.v1.terms_pb2 import Mask
from tests.component.adapters.test_answering import wait_for_no_disk
from tests.databases import Server
from tests.leaks import KEY, LOOKUP, QUERY, ROW_LIMIT, TYPES, Case, Question, Row, cases, expected
from tests.simulator import Simulator, make_home
from tests.world import REGISTRY, World

COLUMNS = "id VARCHAR(20), name VARCHAR(20), born DATE, rooms INTEGER, area NUMERIC, let BOOLEAN"
CONFIG = """
[adapter]
row_limit = {limit}

[sources.people]
url = {url}

[datasets.residents]
source = "people"
table = "{table}"
"""

# What an answer says: its rows and whether they are all, or the check, code and reason of the refusal.
Outcome = tuple[object, ...]


class Side:
    """One of two adapters that differ in their tables alone."""

    def __init__(self, session: Session, path: Path, url: str, table: str, clock: Callable[[], int]) -> None:
        config = path / f"{table}.toml"
        config.write_text(CONFIG.format(limit=ROW_LIMIT, url=json.dumps(url), table=table), encoding="utf-8")
        self.table = table
        self.ledger, self.orders = Ledger.open(path / f"{table}.db"), Orders.open(path / f"{table}-orders.db")
        self.sources = Sources(load_config(config))
        self.committer = Committer(session, self.ledger, clock)
        self.answerer = Answerer(session, self.sources, self.ledger, self.committer, self.orders, clock)

    async def close(self) -> None:
        await self.committer.close()
        await self.sources.close()
        self.orders.close()
        self.ledger.close()


class Adapters:
    """The registry's adapter, twice, with a loop of its own; both share the home, and so the secret of hashes."""

    def __init__(self, path: Path, url: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.world = World.founded()
        self.world.register("housing.allocation")
        fields = [Field(name=name, label=name, type=kind) for name, kind in TYPES.items()]
        self.dataset = self.world.publish(fields=fields, key=KEY, filterable=list(TYPES))
        self.engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
        self._make_tables()
        self._stack = AsyncExitStack()
        self.loop.run_until_complete(self._open(path, url))

    async def _open(self, path: Path, url: str) -> None:
        simulator = Simulator(self.world)
        home = make_home(path / "home", self.world, REGISTRY)
        write_file(home.keys / f"sealing-{self.world.sealing_key().hex()}.key", self.world.sealing[REGISTRY], 0o600)
        self.secret = mask_secret(home)
        session = await self._stack.enter_async_context(Session(home, simulator, simulator.clock))
        await session.sync()
        self.sides = [Side(session, path, url, table, simulator.clock) for table in ("one", "two")]
        for side in self.sides:
            self._stack.push_async_callback(side.close)

    def close(self) -> None:
        self.loop.run_until_complete(self._stack.aclose())
        self.loop.close()
        self.engine.dispose()

    def forget_statements(self) -> None:
        """New connectors: each remembers the shapes of its statements."""
        for side in self.sides:
            self.loop.run_until_complete(side.sources.close())

    def _make_tables(self) -> None:
        with self.engine.begin() as connection:
            for table in ("one", "two"):
                connection.exec_driver_sql(f"CREATE TABLE {table} ({COLUMNS})")
                for name in TYPES:
                    # An index is an order that rows may be read in, and so may show.
                    connection.exec_driver_sql(f"CREATE INDEX {table}_{name} ON {table} ({name})")

    def fill(self, case: Case) -> None:
        names = ", ".join(f":{name}" for name in TYPES)
        with self.engine.begin() as connection:
            for table, rows in (("one", case.rows), ("two", case.others)):
                connection.execute(sa.text(f"DELETE FROM {table}"))
                if rows:
                    connection.execute(sa.text(f"INSERT INTO {table} VALUES ({names})"), [*map(self._stored, rows)])

    def _stored(self, row: Row) -> dict[str, Any]:
        is_sqlite = self.engine.dialect.name == "sqlite"
        return {
            name: float(value) if is_sqlite and isinstance(value, Decimal) else str(value) if name == "born" else value
            for name, value in row.items()
        } | ({"born": None} if row["born"] is None else {})

    def grant(self, case: Case) -> AgreementTerms:
        application = self.world.apply_for(
            self.dataset, fields=list(TYPES), filterable=list(TYPES), operations=[LOOKUP, QUERY]
        )
        terms = case.agreement
        changes: dict[str, Any] = {"row_filter": terms.row_filter} if terms.HasField("row_filter") else {}
        return self.world.grant(
            application,
            fields=list(terms.fields),
            filterable=list(terms.filterable),
            operations=list(terms.operations),
            masks=list(terms.masks),
            limits=terms.limits,
            **changes,
        )

    def request(self, agreement: AgreementTerms, asked: Question) -> Envelope:
        return self.world.request(
            asked.query,
            dataset=self.dataset.object_id,
            agreement=agreement.digest,
            operation=asked.operation,
            fields=asked.fields,
        )

    def outcome(self, side: Side, request: Envelope) -> Outcome:
        """All that a requester learns, but for when, and under which salt and number."""
        try:
            _, frame = self.loop.run_until_complete(side.answerer.answer(request.encode()))
        except DenyError as error:
            return (error.deny.check, error.deny.code, error.deny.reason)
        answer = self.world.answer(request, decode_envelope(frame))
        return (answer.rows, answer.truncated)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def adapters(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adapters]:
    path = tmp_path_factory.mktemp("leaks")
    url = f"sqlite:///{path / 'people.db'}"
    if request.param == "postgresql":
        server: Server = request.getfixturevalue("postgres_server")
        url = server.new_database()
    with pytest.MonkeyPatch.context() as patched:
        wait_for_no_disk(patched)
        opened = Adapters(path, url)
        try:
            yield opened
        finally:
            opened.close()


def behind_the_same_hashes(case: Case) -> Callable[[Mask, Scalar | None, bytes], Scalar | None]:
    """Masks of the other database: a hash says which values are equal, so that other values may stand behind it."""

    def masked(mask: Mask, value: Scalar | None, key: bytes) -> Scalar | None:
        if value is not None and mask.HasField("hash"):
            value = case.hashes.get((mask.field, value), value)
        return mask_value(mask, value, key)

    return masked


def check(adapters: Adapters, case: Case) -> None:
    """Asks both adapters the same: each answer is within the agreement, and the same from both."""
    adapters.fill(case)
    agreement = adapters.grant(case)
    key = hash_key(adapters.secret, agreement.object_id)
    for asked in case.questions:
        request = adapters.request(agreement, asked)
        one = adapters.outcome(adapters.sides[0], request)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(masking, "mask_value", behind_the_same_hashes(case))
            two = adapters.outcome(adapters.sides[1], request)
        assert one == two
        if isinstance(one[0], bytes):
            check_within(case, asked, key, one[0], bool(one[1]))


def check_within(case: Case, asked: Question, key: bytes, body: bytes, truncated: bool) -> None:
    """The answer is what the agreement lets through of what was asked, or the first rows of it."""
    limits = (ROW_LIMIT, case.agreement.limits.rows, asked.query.selection.limit)
    limit = min(number for number in limits if number)
    wanted = [comparable(row) for row in json.loads(encode_rows(expected(case, asked, key)))]
    found = [comparable(row) for row in json.loads(body)]
    assert truncated == (len(wanted) > limit)
    assert len(found) == min(len(wanted), limit)
    assert not Counter(found) - Counter(wanted)


def comparable(row: Mapping[str, Any]) -> str:
    numbers = {"area": str(Decimal(row["area"]).normalize())} if _is_number(row.get("area")) else {}
    return json.dumps(dict(row) | numbers)


def _is_number(text: object) -> bool:
    return isinstance(text, str) and len(text) < 64


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(case=cases())
def test_no_questions_tell_apart_what_differs_in_withheld_things_alone(adapters: Adapters, case: Case) -> None:
    check(adapters, case)


# --- the test can fail: connectors that leak, each in its own way -------------------------------------------


def filters_by_what_stands_behind(patched: pytest.MonkeyPatch) -> None:
    """A filter on a masked text reads the text."""
    patched.setattr(sql_table, "masked_column", lambda column, mask, _dialect: _raw(column, mask))


def _raw(column: Any, mask: Mask) -> Any:
    return column if mask.WhichOneof("rule") in {"first", "last"} else None


def orders_by_the_key(patched: pytest.MonkeyPatch) -> None:
    """Rows are ordered by a key that nobody may see."""
    order = SqlTable._order
    patched.setattr(
        SqlTable,
        "_order",
        lambda table, fields, masks, _shown: [table._columns[KEY], *order(table, fields, masks, False)],
    )


def leaves_ties_to_the_database(patched: pytest.MonkeyPatch) -> None:
    """A limit cuts rows off in the order in which they lie there."""
    patched.setattr(SqlTable, "_order", lambda *_: ())


def forgets_the_row_filter(patched: pytest.MonkeyPatch) -> None:
    """Rows that the agreement keeps back are counted."""
    build = SqlTable._build_shape
    patched.setattr(
        SqlTable, "_build_shape", lambda table, fields, masks, _rows, *rest: build(table, fields, masks, None, *rest)
    )


def hands_out_hashed_values(patched: pytest.MonkeyPatch) -> None:
    """The host does not mask what is hashed."""
    whole = mask_value
    patched.setattr(
        masking, "mask_value", lambda mask, value, key: value if mask.HasField("hash") else whole(mask, value, key)
    )


LEAKS = [
    filters_by_what_stands_behind,
    orders_by_the_key,
    leaves_ties_to_the_database,
    forgets_the_row_filter,
    hands_out_hashed_values,
]


@pytest.mark.parametrize("adapters", ["sqlite"], indirect=True)
@pytest.mark.parametrize("leak", LEAKS, ids=lambda leak: leak.__name__)
def test_a_leak_is_found(adapters: Adapters, leak: Callable[[pytest.MonkeyPatch], None]) -> None:
    @settings(
        max_examples=300,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases())
    def search(case: Case) -> None:
        check(adapters, case)

    with pytest.MonkeyPatch.context() as patched:
        leak(patched)
        adapters.forget_statements()
        with pytest.raises(AssertionError):
            search()
    adapters.forget_statements()
