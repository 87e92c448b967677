"""The city's exchange, set up with nothing but the commands that real departments type."""

import json
import os
import secrets
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from examples.city import databases, postgres
from examples.city.processes import Processes
from examples.city.records import City

NAME = "city.example"
BIN = Path(sys.executable).parent
DATASETS = Path(__file__).parent / "datasets"
PURPOSE = "housing.allocation"
OTHER_PURPOSE = "tax.assessment"
UNTIL = "2030-12-31"


class CommandFailedError(Exception):
    """A command of the set-up failed; the message ends with what it said."""


@dataclass(frozen=True, slots=True)
class Department:
    """One department on the stage: its system, its table, its dataset's code, and its engine."""

    name: str
    system: str
    code: str
    table: str
    engine: str

    @property
    def dataset(self) -> str:
        """How others name what it shares."""
        return f"{self.name}/{self.code}"


POPULATION = Department("population", "registry", "residents", "residents", "SQLite")
CIVIL_AFFAIRS = Department("civil-affairs", "marriage", "marriages", "marriage_records", "PostgreSQL")
HOUSING = Department("housing", "applications", "ownerships", "ownerships", "SQLite")
DEPARTMENTS = (POPULATION, CIVIL_AFFAIRS, HOUSING)


@dataclass(frozen=True, slots=True)
class Agreements:
    """Ids of the agreements that housing holds."""

    residents: str
    marriages: str


class Stage:
    """One city in one folder.

    Args:
        folder: everything lies below it: homes, databases, output of processes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes = Processes(folder / "run")

    def home(self, *names: str) -> Path:
        """The home of a party, by the segments of its name."""
        return self.folder.joinpath("homes", *names)

    def steward(self, department: Department) -> Path:
        """The home of a department's steward."""
        return self.home(department.name, "steward")

    def system(self, department: Department) -> Path:
        """The home of a department's system."""
        return self.home(department.name, department.system)

    @property
    def operator(self) -> Path:
        """The operator's home."""
        return self.home("operator")

    @property
    def auditor(self) -> Path:
        """The auditor's home."""
        return self.home("audit-office")

    @property
    def log_database(self) -> Path:
        """The broker's database."""
        return self.operator / "broker" / "exchange.db"

    def run(self, program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run one of the project's commands, whatever its exit code."""
        command = [str(BIN / program), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def must(self, *arguments: str | Path) -> str:
        """Run `exchange`; returns what it prints.

        Raises:
            CommandFailedError: its exit code is not 0.
        """
        done = self.run("exchange", *arguments)
        if done.returncode:
            raise CommandFailedError(f"exchange {' '.join(map(str, arguments))}\n{done.stderr}")
        return done.stdout

    def build(self, city: City) -> Agreements:
        """Fill the databases, found the exchange, admit everybody, publish, agree, and start the adapters."""
        with ThreadPoolExecutor(3) as pool:
            urls = {item: pool.submit(self.fill, item, city) for item in DEPARTMENTS}
            self.found()
            self._admit(pool)
            # What overlaps with the residents says so, and names them: they come first.
            first, *others = DEPARTMENTS
            self.publish(first)
            list(pool.map(self.publish, others))
            agreements = self._agree(pool)
            list(pool.map(lambda item: self.attach(item, urls[item].result()), DEPARTMENTS))
        self._write_environment(city)
        return agreements

    def stop(self) -> list[str]:
        """End every process of this city; returns their names."""
        stopped = self.processes.stop()
        cluster = self.folder / CIVIL_AFFAIRS.name
        if cluster.exists() and postgres.running(cluster) is not None:
            postgres.stop(cluster)
            stopped.append("postgresql")
        return stopped

    def fill(self, department: Department, city: City) -> str:
        """Fill a department's database; returns the URL that its adapter reads it by."""
        folder = self.folder / department.name
        folder.mkdir(parents=True, exist_ok=True)
        on_postgres = department is CIVIL_AFFAIRS
        url = postgres.start(folder) if on_postgres else sa.URL.create("sqlite", database=str(folder / "data.db"))
        engine = sa.create_engine(url)
        try:
            databases.FILL[department.name](engine, city)
            # The adapter gets a role that can only read.
            reader = databases.create_reader(engine) if on_postgres else url
            return reader.render_as_string(hide_password=False)
        finally:
            engine.dispose()

    def found(self) -> None:
        """Found the exchange, and start its broker."""
        self.must("init", NAME, "--home", self.operator, "--listen", f"127.0.0.1:{_free_port()}")
        self.start_broker()

    def start_broker(self) -> None:
        """Start the broker, which was founded before."""
        broker = self.operator / "broker"
        self.processes.start("broker", [BIN / "exchange", "broker", "run", "--home", broker], "is ready", {})

    def _admit(self, pool: ThreadPoolExecutor) -> None:
        offices = (("data-bureau", "coordinator"), ("audit-office", "auditor"))
        stewards = [
            pool.submit(self.join, self.steward(item), item.name, "department", self.operator) for item in DEPARTMENTS
        ]
        others = [pool.submit(self.join, self.home(name), name, role, self.operator) for name, role in offices]
        for future in (*stewards, *others):
            future.result()
        systems = [
            pool.submit(self.join, self.system(item), f"{item.name}/{item.system}", "system", self.steward(item))
            for item in DEPARTMENTS
        ]
        purposes = ((PURPOSE, "保障性住房分配", "Housing allocation"), (OTHER_PURPOSE, "房产税核定", "Property tax"))
        for code, label, label_en in purposes:
            texts = ("--label", label, "--label-en", label_en, "--legal-basis", "Decree 809, article 20")
            self.must("purpose", "register", code, *texts, "--home", self.home("data-bureau"))
        self.must("mandate", "give", "audit-office", "--until", UNTIL, "--home", self.home("data-bureau"))
        for future in systems:
            future.result()

    def join(self, home: Path, name: str, role: str, parent: Path) -> None:
        """Make keys in the party's own home, have its parent admit it, install what comes back."""
        trust = self.operator / "trust.toml"
        party = f"exchange://{NAME}/{name}"
        made = json.loads(self.must("key", "new", party, "--role", role, "--trust", trust, "--home", home, "--json"))
        admission = home / "admission.json"
        group = ("system", "add") if role == "system" else ("department", "admit")
        compared = ("--fingerprint", made["fingerprint"])
        self.must(*group, home / "request.json", *compared, "--home", parent, "--out", admission)
        self.must("key", "install", admission, "--home", home)

    def publish(self, department: Department) -> None:
        """Publish what a department shares."""
        self.must("dataset", "publish", DATASETS / f"{department.code}.toml", "--home", self.steward(department))

    def _agree(self, pool: ThreadPoolExecutor) -> Agreements:
        wanted = (
            (POPULATION, "LOOKUP,QUERY", "id_number,name,birth_date,household_id,address", "household_id"),
            (CIVIL_AFFAIRS, "LOOKUP", "id_number,name,status,registered_on,spouse_name", ""),
        )
        residents, marriages = pool.map(lambda item: self.apply_and_sign(*item), wanted)
        return Agreements(residents, marriages)

    def apply_and_sign(self, owner: Department, operations: str, fields: str, filterable: str) -> str:
        """Housing applies for what a department shares, which signs; returns the agreement's id."""
        terms = ["--dataset", owner.dataset, "--grantee", f"exchange://{NAME}/{HOUSING.name}"]
        terms += ["--operations", operations, "--fields", fields, "--purposes", PURPOSE, "--until", UNTIL]
        terms += ["--filterable", filterable] if filterable else []
        why = ("--legal-basis", "Decree 809, article 20", "--scenario", "An application for a flat is checked")
        applied = self.must("agreement", "apply", *terms, *why, "--home", self.steward(HOUSING), "--json")
        application = json.loads(applied)["id"]
        signed = self.must("agreement", "sign", application, "--home", self.steward(owner), "--json")
        return str(json.loads(signed)["id"])

    def attach(self, department: Department, url: str) -> None:
        """Configure and start a department's adapter."""
        home = self.system(department)
        (home / "adapter.toml").write_text(
            "# Which table holds what the department publishes; the URL may hold a password, so it stays outside.\n"
            '[sources.main]\nurl = "env:DATABASE_URL"\n\n'
            f'[datasets.{department.code}]\nsource = "main"\ntable = "{department.table}"\n'
        )
        command: list[str | Path] = [BIN / "exchange-adapter", "run", "--home", home]
        self.processes.start(department.name, command, "is attached", {"DATABASE_URL": url})

    def _write_environment(self, city: City) -> None:
        """.demo/env: what the commands to copy need."""
        person = json.dumps(someone(city))
        variables = {
            "PATH": f'"{BIN}:$PATH"',
            "EXCHANGE_HOME": f'"{self.system(HOUSING)}"',
            "POPULATION": f'"{self.system(POPULATION)}"',
            "AUDITOR": f'"{self.auditor}"',
            "RESIDENT": person,
        }
        lines = "".join(f"export {name}={value}\n" for name, value in variables.items())
        (self.folder / "env").write_text(f"# What the commands to copy need: `. .demo/env`\n{lines}")


def someone(city: City) -> str:
    """The identity number of the resident whose application is checked: married, with a household of some size."""
    married = {marriage.husband.id_number for marriage in city.marriages if marriage.status == "married"}
    sizes: dict[str, int] = {}
    for resident in city.residents:
        sizes[resident.household_id] = sizes.get(resident.household_id, 0) + 1
    return next(
        resident.id_number
        for resident in city.residents
        if resident.id_number in married and sizes[resident.household_id] >= 3 and resident.status == "registered"
    )


def new_seed() -> int:
    """The seed that SEED sets, or a random one."""
    text = os.environ.get("SEED", "")
    return int(text) if text.isdigit() else secrets.randbelow(10**8)


def _free_port() -> int:
    """A port that is free, and so is the next one, where the broker takes invites."""
    while True:
        with socket.socket() as probe, socket.socket() as following:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            try:
                following.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port
