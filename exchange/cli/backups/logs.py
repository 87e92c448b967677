"""A broker's logs in a backup: copied from wherever they are, checked as fsck does, and put back."""

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from exchange.backup.checks import Check
from exchange.backup.manifest import HOME, BackupError
from exchange.backup.writing import Copy
from exchange.broker.anchor import Anchor, AnchorError
from exchange.broker.config import BrokerConfig, load_config
from exchange.broker.genesis import load_authority, log_signers, write_config
from exchange.cli.brokers.log import check_logs
from exchange.cli.frame.errors import ExitCode, WrongUsageError
from exchange.cli.frame.progress import bar
from exchange.core.errors import CoreError
from exchange.home import Home, HomeError
from exchange.store.copying import copy_store
from exchange.store.inspection import InspectedStore, Inspection
from exchange.store.ports import Log, StoreError
from exchange.store.sql import SqlLogStore

LOGS: Final = "logs/"
"""Before the place of logs that do not lie in the home, as those in PostgreSQL: a SQLite file, in the archive."""


def outside(home: Home) -> Mapping[str, Copy]:
    """The logs of a broker that do not lie in the home that is backed up.

    Args:
        home: a broker's, or one that a broker's lies in.

    Raises:
        BackupError: they cannot be read.
    """
    found = {}
    for path in sorted(home.path.rglob("party.toml")):
        broker = Home(path.parent)
        if broker.role == "broker":
            name = load_config(broker.path).store_name(broker.path)
            if not _lies_in(name, home.path):
                found[_member(home.path, broker.path)] = Copy(_size(name), partial(_copy, name))
    return found


def logs(home: Home, folder: Path) -> Iterator[Check]:
    """A broker's keys are those that the trust file names, its logs make their roots, its anchor fits them."""
    if home.role != "broker":
        return
    yield _found("log keys", lambda: _log_keys(home))
    name = stored_logs(home, folder)
    if name is None:
        yield Check("logs", "they are not in the backup")
        return
    yield _found("logs", lambda: _logs(home, name))
    config = load_config(home.path)
    if (home.path / config.anchor).is_relative_to(home.path):
        yield _found("anchor", lambda: _anchor(home, config, name))


def stored_logs(home: Home, folder: Path) -> Path | None:
    """Where the logs of a broker are in what was extracted."""
    database = load_config(home.path).database
    inside = home.path / database
    beside = folder / _member(folder / HOME, home.path)
    if "://" not in database and inside.is_file() and inside.is_relative_to(folder):
        return inside
    return beside if beside.is_file() else None


def put_logs(folder: Path, database: str) -> list[str]:
    """Put logs that do not lie in the home where they belong.

    Args:
        folder: what was extracted.
        database: where to, in place of what broker.toml says; empty for that.

    Returns:
        What to say of it.

    Raises:
        BackupError: something is there already, or it cannot be written.
    """
    lines = []
    for path in sorted((folder / HOME).rglob("party.toml")):
        home = Home(path.parent)
        beside = folder / _member(folder / HOME, home.path)
        if home.role == "broker" and beside.is_file():
            if database:
                _configure(home, database)
            name = load_config(home.path).store_name(home.path)
            _copy_back(beside, name)
            lines.append("the logs are in the database of broker.toml again")
    return lines


def drop_anchors(folder: Path, new: Path) -> list[str]:
    """Leave out the anchors of logs that were put back: others may have seen more of them than the backup holds.

    Without an anchor no broker starts; `exchange log recover` places it again.

    Args:
        folder: what was extracted.
        new: where the home is about to be.

    Returns:
        What to say of it.
    """
    lines = []
    for path in sorted((folder / HOME).rglob("party.toml")):
        home = Home(path.parent)
        if home.role == "broker":
            anchor = home.path / load_config(home.path).anchor
            if anchor.is_relative_to(home.path):
                shutil.rmtree(anchor, ignore_errors=True)
            place = new / home.path.relative_to(folder / HOME)
            lines.append("Others may have seen more of the logs than this: the broker does not start before")
            lines.append(f"  exchange log recover --from MIRROR --home {place}")
    return lines


def _member(top: Path, home: Path) -> str:
    place = home.relative_to(top).as_posix().replace("/", "-")
    return f"{LOGS}{'home' if place == '.' else place}.db"


def _lies_in(name: Path | str, home: Path) -> bool:
    return isinstance(name, Path) and name.resolve().is_relative_to(home.resolve())


def _size(name: Path | str) -> int:
    try:
        with Inspection.watched(name) as stored:
            return stored.size()
    except StoreError as error:
        raise BackupError(f"the broker's logs cannot be read: {error}", "", ExitCode.UNCHECKED) from error


def _copy(name: Path | str, target: Path) -> None:
    try:
        with bar("copying the logs") as advance:
            copy_store(name, target, advance)
    except StoreError as error:
        text = f"the broker's logs cannot be copied: {error}"
        raise BackupError(text, "nothing was written", ExitCode.UNCHECKED) from error


def _copy_back(source: Path, name: Path | str) -> None:
    if isinstance(name, Path):
        if name.exists():
            raise BackupError(f"{name} is there already", "name another file with --database", ExitCode.USAGE)
        shutil.copyfile(source, name)
        name.chmod(0o600)
        return
    try:
        with bar("writing the logs") as advance:
            copy_store(source, name, advance)
    except StoreError as error:
        text = f"the logs cannot be written to the database: {error}"
        hint = "name an empty database with --database; where the old one is whole, --keep-database leaves it as it is"
        raise BackupError(text, hint, ExitCode.UNCHECKED) from error


_DATABASE: Final = re.compile(r"^database\s*=.*$", re.MULTILINE)


def _configure(home: Home, database: str) -> None:
    """Name another database in broker.toml, and leave everything else in it as it is."""
    config = load_config(home.path)
    path = home.path / "broker.toml"
    if config.database_file is not None:
        text = f"the broker's database is named in {config.database_file}, and not in broker.toml"
        raise BackupError(text, "write the new one there, and leave --database out", ExitCode.USAGE)
    text = path.read_text(encoding="utf-8-sig")
    replaced, count = _DATABASE.subn(lambda _: f"database = {json.dumps(database)}", text)
    if count == 1:
        path.write_text(replaced, encoding="utf-8")
        load_config(home.path)
    else:
        write_config(home, config.model_copy(update={"database": database}))


def check_database_option(database: str) -> None:
    """Check what --database says.

    Raises:
        WrongUsageError: a file that is not named by its whole path: it would be taken for one in the home.
    """
    if database and "://" not in database and not Path(database).is_absolute():
        raise WrongUsageError(f"--database: {database}", "an absolute path, or postgresql://USER@HOST/DATABASE")


def _log_keys(home: Home) -> str:
    trust, signers = home.trust, log_signers(home)
    wanted = {Log.DIRECTORY: trust.directory_log, Log.ACCESS: trust.access_log}
    for log, signer in signers.items():
        if signer.verifier != wanted[log]:
            raise HomeError(f"the {log} log's key is not the one in trust.toml")
    authority = load_authority(home)
    if authority.private_key.public_key() != authority.certificate.public_key():
        raise HomeError("the TLS authority's certificate is for another key")
    return "both logs' keys are those in trust.toml; the TLS authority's fits its certificate"


def _logs(home: Home, name: Path) -> str:
    with InspectedStore.opened(name) as store, store.snapshot() as stored:
        sizes, found = check_logs(stored, home.path)
    if found.count:
        raise HomeError("; ".join(str(problem) for problem in found.first[:3]))
    return ", ".join(f"{size} entries of {log}" for log, size in sizes.items())


def _anchor(home: Home, config: BrokerConfig, name: Path) -> str:
    signers = log_signers(home)
    store = SqlLogStore.open(name)
    try:
        verifiers = {log: signer.verifier for log, signer in signers.items()}
        Anchor(home.path / config.anchor, store, verifiers).check()
    finally:
        store.close()
    return "the logs continue it"


def _found(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, "", look())
    except (HomeError, CoreError, StoreError, AnchorError, OSError) as error:
        return Check(name, str(error))
