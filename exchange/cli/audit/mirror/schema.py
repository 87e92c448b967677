"""The tables of HOME/access-mirror.db, and how an older file becomes one of today's.

Every column that a search asks for has an index in the order of the log, so that a search reads what it shows and no
more (`postings.py`).
"""

import sqlite3
from typing import Final

VERSION: Final = 3

COLUMNS: Final = (
    "time",
    "kind",
    "code",
    "requester",
    "provider",
    "request_id",
    "request_digest",
    "dataset",
    "officer",
    "purpose",
    "case_id",
)
SUMMED_UP: Final = -1
"""What `code` says of an entry that sums up refusals with several codes."""

INDEXES: Final = {name: f"entries_{name}" for name in COLUMNS}
"""The index of each column; a rowid ends every entry of an index, so those of one value stand in the log's order."""

PAIR: Final = ("requester", "purpose")
"""Two columns that are asked for together, each of them with long lists: they have an index together, too."""
PAIR_INDEX: Final = "entries_requester_purpose"

_INDEX: Final = "".join(
    [f"CREATE INDEX {index} ON entries ({name});\n" for name, index in INDEXES.items()]
    + [f"CREATE INDEX {PAIR_INDEX} ON entries ({', '.join(PAIR)});\n"]
)
# Where an entry's time lies before that of one before it: no broker that is honest makes such a log.
_DISORDER: Final = "CREATE TABLE disorder (idx INTEGER PRIMARY KEY);\n"
# Which entries have no body here, and under which mandates they were last asked for.
_BODIES: Final = """CREATE INDEX entries_without_body ON entries (idx) WHERE length(body) = 0;
CREATE TABLE asked (mandates BLOB NOT NULL);
"""
_SCHEMA: Final = f"""
BEGIN IMMEDIATE;
CREATE TABLE entries (
    idx INTEGER PRIMARY KEY, time INTEGER, kind INTEGER, code INTEGER, requester TEXT, provider TEXT, request_id BLOB,
    request_digest BLOB, dataset BLOB, officer TEXT, purpose TEXT, case_id TEXT, leaf BLOB NOT NULL, body BLOB NOT NULL
);
{_INDEX}{_DISORDER}{_BODIES}
CREATE TABLE nodes (place INTEGER PRIMARY KEY, hash BLOB NOT NULL);
CREATE TABLE checkpoints (size INTEGER PRIMARY KEY, note BLOB NOT NULL, verified INTEGER NOT NULL);
CREATE TABLE failures (kind TEXT NOT NULL, message TEXT NOT NULL, earlier BLOB NOT NULL, later BLOB NOT NULL);
PRAGMA user_version = {VERSION};
COMMIT;
"""
_OLD_INDEXES: Final = ("time", "request_id", "request_digest", "requester", "officer", "case")
_FROM_1: Final = f"""
BEGIN IMMEDIATE;
{"".join(f"DROP INDEX entries_{name};" for name in _OLD_INDEXES)}
{_INDEX}{_DISORDER}
INSERT INTO disorder SELECT idx FROM (
    SELECT idx, time, max(time) OVER (ORDER BY idx ROWS UNBOUNDED PRECEDING) AS latest FROM entries
) WHERE time < latest;
PRAGMA user_version = 2;
COMMIT;
"""  # noqa: S608 - names of ours
_FROM_2: Final = f"""
BEGIN IMMEDIATE;
{_BODIES}PRAGMA user_version = {VERSION};
COMMIT;
"""


def prepare(connection: sqlite3.Connection, *, create: bool) -> bool:
    """Make the tables, or bring them up to date.

    Args:
        connection: to the file.
        create: whether a new file is meant.

    Returns:
        Whether the file is a mirror of this version now.
    """
    # What WAL would save, a sync does not need; EXTRA keeps a power cut from taking back what was verified.
    connection.execute("PRAGMA synchronous = EXTRA")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == 0 and create:
        connection.executescript(_SCHEMA)
    elif version in (1, 2):
        connection.executescript(_FROM_1 * (version == 1) + _FROM_2)
    else:
        return bool(version == VERSION)
    return True
