"""What PostgreSQL's errors mean to a store, by SQLSTATE: their texts may hold SQL and values, and go no further."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from exchange.store.ports import (
    ReleasedTwiceError,
    StoreBusyError,
    StoreError,
    StoreFatalError,
    StoreLostError,
    StoreOpenError,
)

# lock_not_available, query_canceled, deadlock_detected, serialization_failure: nothing was written.
_BUSY: Final = frozenset({"55P03", "57014", "40P01", "40001"})
# Class 08, and: the server or an administrator ends the session, it starts or stops, it has no room for a session, or
# the session was idle for too long in a transaction.
_LOST: Final = frozenset({"57P01", "57P02", "57P03", "57P05", "53300", "25P03"})
_UNIQUE: Final = "23505"
_ONE_RELEASE: Final = "entries_released"

# By the first that an SQLSTATE begins with (PostgreSQL's documentation, appendix A).
_REASONS: Final = (
    ("53100", "the disk is full"),
    ("53", "the server has no memory or room left"),
    ("58", "the server's disk failed to read or write"),
    ("25006", "the database is read-only: a standby?"),
    ("XX00", "the database is corrupt, or the server failed"),
    ("23", "the database holds what its heads deny"),
    ("42501", "the role may not do this: it must own the database's tables"),
    ("42P01", "a table is missing"),
    ("28", "the server refuses the user or the password"),
    ("3D000", "there is no such database"),
)
_NO_LOGIN: Final = ("28", "3D000", "42501")


@contextmanager
def store_errors() -> Iterator[None]:
    """Turns the database's errors into the store's, chained to none of them."""
    try:
        yield
    except DBAPIError as error:
        raise store_error(error.orig) from None
    except psycopg.Error as error:
        raise store_error(error) from None
    except PoolTimeoutError:
        raise StoreBusyError("no connection to the database was free in time") from None


def store_error(error: BaseException | None) -> StoreError:
    """The store's error for one of the driver's."""
    state = _state(error)
    if state in _BUSY:
        return StoreBusyError("the database was not free in time")
    if state == _UNIQUE and isinstance(error, psycopg.Error) and error.diag.constraint_name == _ONE_RELEASE:
        return ReleasedTwiceError("the request already has its released entry")
    if state in _LOST or state.startswith("08"):
        return StoreLostError(f"the database server ended the session (SQLSTATE {state})")
    if state.startswith(_NO_LOGIN):
        return StoreOpenError(reason(error))
    # What the client library finds out by itself has no SQLSTATE: no server there, or not any more.
    if not state and isinstance(error, psycopg.OperationalError):
        return StoreLostError(_unreachable(str(error)))
    return StoreFatalError(reason(error))


# What libpq says before there is a session, in English; in another language, the last of them all fits.
_UNREACHABLE: Final = (
    ("no password supplied", "the server asks for a password: see ~/.pgpass, passfile= in the URL, or PGPASSWORD"),
    ("password authentication failed", "the server refuses the user or the password"),
    ("does not exist", "there is no such database or role"),
    ("resolve host", "the host has no address"),
    ("translate host", "the host has no address"),
    ("refused", "no server listens there"),
    ("No such file", "no server listens there"),
    ("certificate", "the server's certificate cannot be checked: see sslmode and sslrootcert"),
    ("SSL", "TLS cannot be agreed on: see sslmode and sslrootcert"),
    ("timeout", "the server does not answer in time"),
    ("closed the connection", "the server closed the connection"),
)


def _unreachable(text: str) -> str:
    # Only what is known is passed on: the rest may repeat a value.
    known = (words for sign, words in _UNREACHABLE if sign in text)
    return f"the database cannot be reached: {next(known, 'no connection, or none any more')}"


def reason(error: BaseException | None) -> str:
    """Says what is wrong with the database, from the driver's own error, in words for an operator."""
    state = _state(error)
    if not state:
        return f"the connection to the database server failed ({type(error).__name__})"
    words = next((words for begins, words in _REASONS if state.startswith(begins)), "the database failed")
    return f"{words} (SQLSTATE {state})"


def _state(error: BaseException | None) -> str:
    return (error.sqlstate or "") if isinstance(error, psycopg.Error) else ""
