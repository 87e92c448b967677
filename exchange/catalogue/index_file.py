"""The file of an index: made where it is missing, made anew where it is of another version, never the truth."""

import sqlite3
from pathlib import Path


def open_index(path: Path | None, version: int, schema: str) -> sqlite3.Connection:
    """Open an index; what another version wrote, or what is no database, is thrown away.

    Args:
        path: of the file; None for one in memory.
        version: of what is in it, 1 to 2^31 - 1.
        schema: makes the tables of a new one, in one transaction of its own.
    """
    if path is not None and not _is_of(path, version):
        for file in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
            file.unlink(missing_ok=True)
    db = _connect(path)
    if _version(db) != version:
        db.executescript(schema.replace("COMMIT;", f"PRAGMA user_version = {version};\nCOMMIT;"))
    return db


def _is_of(path: Path, version: int) -> bool:
    db = _connect(path)
    try:
        return _version(db) == version
    except sqlite3.DatabaseError:
        return False
    finally:
        db.close()


def _connect(path: Path | None) -> sqlite3.Connection:
    return sqlite3.connect(":memory:" if path is None else path, isolation_level=None, timeout=30)


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])
