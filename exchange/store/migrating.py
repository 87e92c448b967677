"""Bringing a log store of an earlier version to the one that this program needs: one transaction, all of it or nothing.

A store's version is one number, in the database itself: `user_version` of a SQLite file, a row of PostgreSQL's
exchange_log_store. The revisions of `exchange.store.migrations` are Alembic's, and write no second one.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Final

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import Dialect

from exchange.store import postgres, schema, sqlite
from exchange.store.engine import Upgrade, version_error
from exchange.store.ports import StoreError

_REVISIONS: Final = Path(__file__).with_name("migrations")


@dataclass(frozen=True, slots=True)
class Step:
    """From one version to the next.

    Args:
        version: that the store is of afterwards.
        title: what it brings.
        statements: its SQL, in order.
    """

    version: int
    title: str
    statements: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Migration:
    """What was done, or would be.

    Args:
        where: the database, for people.
        found: the version that the store was of.
        steps: none where that is the one needed.
    """

    where: str
    found: int
    steps: tuple[Step, ...]


def migrate(name: Path | str, *, dry_run: bool = False) -> Migration:
    """Bring a store to this program's version, in one transaction under a lock that only one program can have.

    Args:
        name: of a SQLite file that no broker has open; or of a PostgreSQL database that no broker is connected to.
        dry_run: find out what would be done, and change nothing.

    Raises:
        StoreMissingError: there is none.
        StoreOpenError: it is in use, or of a later version than this program knows.
        StoreBusyError, StoreLostError: another migration is at work, or the server cannot be reached.
        StoreFatalError: a statement failed, or was interrupted; the store is as it was.
    """
    with _upgrading(name) as upgrade:
        if not 0 < upgrade.version <= schema.VERSION:
            raise version_error(upgrade.where, upgrade.version)
        steps = tuple(steps_from(upgrade.version, upgrade.connection.dialect))
        if not dry_run:
            for step in steps:
                _take(upgrade, step)
    return Migration(upgrade.where, upgrade.version, steps)


def steps_from(version: int, dialect: Dialect) -> Iterator[Step]:
    """The steps that lead from a version to this program's.

    Args:
        version: 0 is an empty database.
        dialect: the engine's, in whose SQL they are.

    Raises:
        StoreError: a revision is missing: this program is not whole.
    """
    scripts = ScriptDirectory(str(_REVISIONS), version_locations=[str(_REVISIONS / "versions")])
    revisions = {int(script.revision): script for script in scripts.walk_revisions()}
    for number in range(version + 1, schema.VERSION + 1):
        if number not in revisions:
            raise StoreError(f"the revision that leads to version {number} is missing: install this program again")
        statements = _Statements()
        options = {"as_sql": True, "output_buffer": statements}
        with Operations.context(MigrationContext.configure(dialect=dialect, opts=options)):
            revisions[number].module.upgrade()
        yield Step(number, revisions[number].doc.rstrip("."), tuple(statements.texts))


class _Statements(StringIO):
    """Takes what Alembic writes in place of executing it: one statement a call."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def write(self, text: str) -> int:
        self.texts.append(text.strip().removesuffix(";"))
        return len(text)


def _upgrading(name: Path | str) -> AbstractContextManager[Upgrade]:
    return sqlite.upgrading(name) if isinstance(name, Path) else postgres.upgrading(name)


def _take(upgrade: Upgrade, step: Step) -> None:
    for statement in step.statements:
        upgrade.connection.exec_driver_sql(statement)
    upgrade.mark(step.version)
