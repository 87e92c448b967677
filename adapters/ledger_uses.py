"""How often each agreement was used, and by whom: indexes of the ledger that quotas are counted from (check 8).

One row for each answer, and one tally for each day of UTC: what an agreement was used in all is as many rows as it has
days, and what it was used within a minute is no more than its limit lets through. A ledger that an earlier version
wrote is counted when it is next opened for writing. What was lost, and counted by the access log, no chain binds: the
log has it still.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from adapters.ledger_rows import LedgerError, Stored
from exchange.v1.envelope_pb2 import Envelope
from exchange.v1.request_pb2 import RequestHeader, Sealed

DAY = 86_400_000
MINUTE = 60_000

SCHEMA = (
    """CREATE TABLE IF NOT EXISTS uses (number INTEGER PRIMARY KEY, agreement BLOB NOT NULL, department TEXT NOT NULL,
        time INTEGER NOT NULL) STRICT""",
    "CREATE INDEX IF NOT EXISTS uses_by_time ON uses (agreement, department, time)",
    """CREATE TABLE IF NOT EXISTS tallies (agreement BLOB, department TEXT, day INTEGER, count INTEGER NOT NULL,
        PRIMARY KEY (agreement, department, day)) STRICT, WITHOUT ROWID""",
)
EXISTS = "SELECT count(*) FROM sqlite_schema WHERE name = 'tallies'"
AGREEMENTS = "SELECT DISTINCT agreement FROM tallies"
COUNTED = "SELECT coalesce(max(number), 0) FROM uses"
USES = "SELECT number, agreement, department, time FROM uses WHERE "
# A time that lies ahead counts as well: the clock was set back since.
IN_MINUTE = """SELECT count(*) FROM (SELECT 1 FROM uses
    WHERE agreement = :agreement AND department = :department AND time > :since LIMIT :most)"""
IN_DAYS = """SELECT coalesce(sum(count) FILTER (WHERE day >= :today), 0), coalesce(sum(count), 0) FROM tallies
    WHERE agreement = :agreement AND department = :department"""
MISCOUNTED = """WITH
        found AS (SELECT agreement, department, time / 86400000, count(*) FROM uses GROUP BY 1, 2, 3),
        kept AS (SELECT agreement, department, day, count FROM tallies)
    SELECT (SELECT count(*) FROM (SELECT * FROM (SELECT * FROM found EXCEPT SELECT * FROM kept)
        UNION ALL SELECT * FROM (SELECT * FROM kept EXCEPT SELECT * FROM found)))
        + (SELECT count(*) FROM uses WHERE number NOT IN (SELECT number FROM answers) {})"""
# Answers that were declared lost are counted by what the access log had of them, and stand in no row.
COUNTED_LOST = "AND number > (SELECT coalesce(max(number), 0) FROM starts)"

_UNCOUNTED = """SELECT number, time, requester, request FROM answers
    WHERE number > (SELECT coalesce(max(number), 0) FROM uses) ORDER BY number LIMIT 1000"""


@dataclass(frozen=True, slots=True)
class Use:
    """One answer as it is counted.

    Args:
        agreement: its message digest, 32 bytes.
        department: of the requester.
        time: milliseconds.
    """

    number: int
    agreement: bytes
    department: str
    time: int

    @classmethod
    def of(cls, number: int, time: int, requester: str, request: bytes) -> "Use":
        """What is counted of an answer; `request` is the request's envelope.

        Raises:
            LedgerError: the request cannot be read.
        """
        try:
            sealed = Sealed.FromString(Envelope.FromString(request).payload)
            agreement = RequestHeader.FromString(sealed.header).agreement
        except DecodeError as error:
            raise LedgerError(f"row {number}: {error}") from error
        # Only systems ask, and each is named below its department.
        return cls(number, agreement, requester.rpartition("/")[0], time)


def prepare_uses(db: sqlite3.Connection) -> None:
    """Makes the tables, and counts the answers that are not counted yet, within the caller's transaction."""
    for statement in SCHEMA:
        db.execute(statement)
    while page := db.execute(_UNCOUNTED).fetchall():
        count_uses(db, [Use.of(*row) for row in page])


def count_uses(db: sqlite3.Connection, uses: Sequence[Use]) -> None:
    """Counts answers, within the caller's transaction."""
    db.executemany("INSERT INTO uses VALUES (?, ?, ?, ?)", (_columns(use) for use in uses))
    tally = """INSERT INTO tallies VALUES (?, ?, ?, 1)
        ON CONFLICT (agreement, department, day) DO UPDATE SET count = count + 1"""
    db.executemany(tally, ((use.agreement, use.department, use.time // DAY) for use in uses))


def check_use(stored: Stored, found: Iterable[Sequence[object]], counted: int) -> None:
    """Checks what is counted of one answer.

    Args:
        found: what the ledger counts for it.
        counted: the last row that is counted: an earlier version may have written those after it.

    Raises:
        LedgerError: it is not counted, or otherwise than it was.
    """
    use = Use.of(stored.number, stored.time, stored.requester, stored.request)
    wanted = [] if stored.number > counted else [_columns(use)[1:]]
    if [tuple(row) for row in found] != wanted:
        raise LedgerError(f"row {stored.number}: its use does not hold")


def _columns(use: Use) -> tuple[int, bytes, str, int]:
    return (use.number, use.agreement, use.department, use.time)
