"""The making of a city: everything that its departments enter, over the broker's append path but without a broker."""

import secrets
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from exchange.broker.anchor import Anchor
from exchange.broker.append import AppendCommand
from exchange.broker.beginning import Beginning
from exchange.broker.config import load_config
from exchange.broker.genesis import found, load_authority, log_signers
from exchange.broker.logs import Logs
from exchange.client.session import wall_clock
from exchange.core import entries
from exchange.core.directory import Directory
from exchange.core.envelope import Draft, Envelope, sign
from exchange.core.lifetimes import SEALING_KEY
from exchange.core.names import Party
from exchange.home import Home
from exchange.store.sql import SqlLogStore
from exchange.v1.directory_pb2 import Agreement, Application, Dataset, Field, FieldType, Purpose, Role
from exchange.v1.people_pb2 import Mandate
from exchange.v1.request_pb2 import Operation

ORIGIN = "city.test"
PURPOSE = "housing.allocation"
RESIDENTS, MARRIAGES = "population/residents", "civil-affairs/marriages"
PEOPLE, COUPLES = 300, 100

BROKER, OPERATOR = "broker", "operator"
POPULATION, CIVIL_AFFAIRS, HOUSING = "population", "civil-affairs", "housing"
BUREAU, AUDITOR = "bureau", "auditor"
REGISTRY, CIVIL, APPLICATIONS = "registry", "civil", "applications"

NAMES = {
    POPULATION: (f"{POPULATION}", Role.ROLE_DEPARTMENT),
    CIVIL_AFFAIRS: (f"{CIVIL_AFFAIRS}", Role.ROLE_DEPARTMENT),
    HOUSING: (f"{HOUSING}", Role.ROLE_DEPARTMENT),
    BUREAU: ("data-bureau", Role.ROLE_COORDINATOR),
    AUDITOR: ("audit-office", Role.ROLE_AUDITOR),
    REGISTRY: (f"{POPULATION}/registry", Role.ROLE_SYSTEM),
    CIVIL: (f"{CIVIL_AFFAIRS}/records", Role.ROLE_SYSTEM),
    APPLICATIONS: (f"{HOUSING}/applications", Role.ROLE_SYSTEM),
}
PARENTS = {REGISTRY: POPULATION, CIVIL: CIVIL_AFFAIRS, APPLICATIONS: HOUSING}

DATASETS = {
    RESIDENTS: {
        "id_number": FieldType.FIELD_TYPE_TEXT,
        "name": FieldType.FIELD_TYPE_TEXT,
        "birth_date": FieldType.FIELD_TYPE_DATE,
        "household_id": FieldType.FIELD_TYPE_TEXT,
        "address": FieldType.FIELD_TYPE_TEXT,
    },
    MARRIAGES: {
        "id_number": FieldType.FIELD_TYPE_TEXT,
        "spouse_id_number": FieldType.FIELD_TYPE_TEXT,
        "status": FieldType.FIELD_TYPE_TEXT,
    },
}
FIELDS = {RESIDENTS: ("id_number", "name", "address"), MARRIAGES: ("id_number", "status")}
FILTERABLE = {RESIDENTS: ("household_id",), MARRIAGES: ()}
SYSTEMS = {RESIDENTS: REGISTRY, MARRIAGES: CIVIL}

TABLES = {
    RESIDENTS: """CREATE TABLE residents (id_number VARCHAR(18) PRIMARY KEY, name VARCHAR(40) NOT NULL,
        birth_date DATE NOT NULL, household_id VARCHAR(12) NOT NULL, address VARCHAR(120) NOT NULL)""",
    MARRIAGES: """CREATE TABLE marriages (id_number VARCHAR(18) NOT NULL, spouse_id_number VARCHAR(18) NOT NULL,
        status VARCHAR(10) NOT NULL)""",
}

HOSTS = ("127.0.0.1", "localhost")

DAY = 24 * 3600 * 1000
YEAR = 365 * DAY


def person(number: int) -> str:
    """The id number of a resident, 0 to 299; the first 100 of them are married."""
    return f"33970119{number:010d}"


class Founding:
    """Makes the homes of a template, and enters all that it needs; nothing runs.

    Args:
        path: its folder.
        address: HOST:PORT that its broker is to have.
        database: a file of the broker's, or the URL of a PostgreSQL database.
        sealing: how long sealing keys are valid, milliseconds.
    """

    def __init__(self, path: Path, address: str, database: str = "exchange.db", *, sealing: int = SEALING_KEY) -> None:
        self._path = path
        self._sealing = sealing
        self._now = wall_clock()
        found(path / OPERATOR, ORIGIN, address, HOSTS, self._now, database)
        (path / OPERATOR / "broker").rename(path / BROKER)
        home = self._home(BROKER)
        self._store = SqlLogStore.open(load_config(home.path).store_name(home.path))
        self._signers = log_signers(home)
        self._logs = Logs(
            self._store, self._signers, Beginning(Directory.genesis(ORIGIN, home.trust.root_key)), wall_clock
        )
        self._append = AppendCommand(self._logs, load_authority(home), wall_clock)
        self._trust = home.read("trust.toml")

    async def build(self) -> None:
        """Enter everything, and place the anchor."""
        try:
            await self._enter_all()
            await self._logs.close()
            anchor = self._home(BROKER).path / "anchor"
            Anchor(anchor, self._store, {log: signer.verifier for log, signer in self._signers.items()}).place()
        finally:
            self._store.close()

    async def _enter_all(self) -> None:
        for name, (party, role) in NAMES.items():
            await self._admit(name, Party.parse(f"exchange://{ORIGIN}/{party}"), role)
        purpose = Purpose(code=PURPOSE, label="住房分配", label_en="Housing allocation", legal_basis="Housing Act")
        await self._enter(BUREAU, entries.purpose_entry(self._party(BUREAU), _new(), purpose))
        mandate = Mandate(auditor=str(self._party(AUDITOR)), not_after=self._now + YEAR)
        await self._enter(BUREAU, entries.mandate_entry(self._party(BUREAU), secrets.token_bytes(16), mandate))
        for dataset in DATASETS:
            await self._share(dataset)

    async def _admit(self, name: str, party: Party, role: Role.ValueType) -> None:
        home = Home.create(self._path / name, party, Role.Name(role).removeprefix("ROLE_").lower())
        home.write("trust.toml", self._trust)
        home.new_private_key("signing")
        csr = home.new_tls_request()
        validity = (self._now, self._now + YEAR)
        statement = entries.signing_key_statement(ORIGIN, party, role, home.signer(), validity, csr=csr)
        parent = PARENTS.get(name, OPERATOR)
        draft = entries.key_entry(self._party(parent), secrets.token_bytes(16), statement, csr)
        home.write("tls.pem", (await self._append(self._party(parent), self._sign(parent, draft).encode())).certificate)

    async def _share(self, name: str) -> None:
        """A dataset with its table and adapter, the application of housing, and its agreement."""
        owner, code = name.split("/")
        fields = [Field(name=field, label=field, type=kind) for field, kind in DATASETS[name].items()]
        operations = [Operation.OPERATION_LOOKUP, Operation.OPERATION_QUERY]
        dataset = Dataset(
            format=1,
            code=code,
            title=code,
            abstract=f"Everybody's {code}",
            system=str(self._party(SYSTEMS[name])),
            fields=fields,
            key="id_number",
            operations=operations,
            filterable=FILTERABLE[name],
        )
        version = _new()
        await self._enter(owner, entries.body_entry(self._party(owner), version, dataset, secrets.token_bytes(32)))
        terms: dict[str, Any] = {
            "format": 1,
            "dataset": version.object_id,
            "grantee": str(self._party(APPLICATIONS)),
            "operations": operations,
            "fields": FIELDS[name],
            "filterable": FILTERABLE[name],
            "purposes": [PURPOSE],
            "not_after": self._now + YEAR,
        }
        application = Application(**terms, legal_basis="Housing Act", scenario="queue for public housing")
        applied = await self._body(HOUSING, application)
        await self._body(owner, Agreement(**terms, application=applied.digest, not_before=self._now))
        await self._provide(name, code)

    async def _provide(self, name: str, code: str) -> None:
        """The system's sealing key, its table and its adapter's configuration."""
        home = self._home(SYSTEMS[name])
        validity = (wall_clock(), wall_clock() + self._sealing)
        statement = entries.sealing_key_statement(home.party, home.new_sealing_key(), validity)
        await self._enter(SYSTEMS[name], entries.key_entry(home.party, secrets.token_bytes(16), statement))
        config = f'[sources.main]\nurl = "sqlite:///data.db"\n\n[datasets.{code}]\nsource = "main"\ntable = "{code}"\n'
        home.write("adapter.toml", config.encode())
        with closing(sqlite3.connect(home.path / "data.db")) as db, db:
            db.execute(TABLES[name])
            db.executemany(f"INSERT INTO {code} VALUES ({', '.join('?' * len(DATASETS[name]))})", _rows(name))

    async def _body(self, owner: str, body: entries.Body) -> Envelope:
        return await self._enter(owner, entries.body_entry(self._party(owner), _new(), body, secrets.token_bytes(32)))

    async def _enter(self, name: str, draft: Draft) -> Envelope:
        envelope = self._sign(name, draft)
        await self._append(self._party(name), envelope.encode())
        return envelope

    def _sign(self, name: str, draft: Draft) -> Envelope:
        return sign(self._home(name).signer(), ORIGIN, draft)

    def _party(self, name: str) -> Party:
        return self._home(name).party

    def _home(self, name: str) -> Home:
        return Home(self._path / name)


def _new() -> entries.ObjectVersion:
    return entries.ObjectVersion(secrets.token_bytes(16))


def _rows(name: str) -> list[tuple[str, ...]]:
    if name == MARRIAGES:
        return [(person(number), person(number ^ 1), "married") for number in range(COUPLES)]
    return [
        (person(number), f"Resident {number}", "1990-03-07", f"H{number // 3:06d}", f"{number} Lake Road")
        for number in range(PEOPLE)
    ]
