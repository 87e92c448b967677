"""How long keys and certificates are valid, and how long before their end they are renewed: the one place for both.

All are milliseconds.
"""

from datetime import UTC, datetime

from exchange.v1.directory_pb2 import Role

SECOND = 1000
DAY = 24 * 3600 * SECOND
YEAR = 365 * DAY

HEAD_START = 5 * 60 * SECOND
"""How far a party's clock may be from the broker's where a key or a certificate is asked for."""

TLS_CERTIFICATE = 90 * DAY
TLS_AUTHORITY = 3650 * DAY
SYSTEM_KEY = YEAR
SEALING_KEY = 30 * DAY
DEPARTMENT_KEY = 5 * YEAR
BROKER_KEY = 5 * YEAR
OTHER_KEY = YEAR

TLS_RENEWAL = TLS_CERTIFICATE // 3
SYSTEM_RENEWAL = 60 * DAY
SEALING_RENEWAL = 7 * DAY

WARNINGS = (60 * DAY, 30 * DAY, 7 * DAY)
"""How long before an end people are warned, the earliest first."""

_OF_ROLES = {
    Role.ROLE_DEPARTMENT: DEPARTMENT_KEY,
    Role.ROLE_BROKER: BROKER_KEY,
    Role.ROLE_SYSTEM: SYSTEM_KEY,
}


def key_lifetime(role: "Role.ValueType") -> int:
    """How long a signing key of this role is valid, milliseconds."""
    return _OF_ROLES.get(role, OTHER_KEY)


def utc(moment: int) -> str:
    """A time in milliseconds, up to the year 9999, to the second."""
    return f"{datetime.fromtimestamp(moment // 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
