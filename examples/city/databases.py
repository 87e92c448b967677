"""The three departments' databases: their tables, filled from a city, on SQLite or PostgreSQL."""

import secrets
from collections.abc import Callable, Mapping, Sequence

from sqlalchemy import (
    URL,
    Boolean,
    Column,
    Date,
    Engine,
    Integer,
    MetaData,
    Numeric,
    String,
    Table,
    delete,
    insert,
    text,
)

from examples.city.records import City, Ownership, Resident
from examples.city.registrar import Marriage, Person

Row = dict[str, object]

population_metadata = MetaData()
civil_affairs_metadata = MetaData()
housing_metadata = MetaData()

residents = Table(
    "residents",
    population_metadata,
    Column("id_number", String(18), primary_key=True),
    Column("name", String(40), nullable=False),
    Column("sex", String(6), nullable=False),
    Column("birth_date", Date, nullable=False),
    Column("household_id", String(12), nullable=False, index=True),
    Column("household_role", String(10), nullable=False),
    Column("address", String(120), nullable=False),
    Column("registered_on", Date, nullable=False),
    Column("phone", String(11)),
    Column("status", String(10), nullable=False),
)

# One row for each person in each marriage, so that one indexed lookup finds all of a person's marriages.
marriage_records = Table(
    "marriage_records",
    civil_affairs_metadata,
    Column("record_id", Integer, primary_key=True, autoincrement=False),
    Column("id_number", String(18), nullable=False, index=True),
    Column("name", String(40), nullable=False),
    Column("spouse_id_number", String(18), nullable=False),
    Column("spouse_name", String(40), nullable=False),
    Column("status", String(10), nullable=False),
    Column("registered_on", Date, nullable=False),
    Column("ended_on", Date),
    Column("certificate_number", String(24), nullable=False, index=True),
)

# One row for each owner of each dwelling, for the same reason.
ownerships = Table(
    "ownerships",
    housing_metadata,
    Column("ownership_id", Integer, primary_key=True, autoincrement=False),
    Column("owner_id_number", String(18), nullable=False, index=True),
    Column("owner_name", String(40), nullable=False),
    Column("certificate_number", String(40), nullable=False, index=True),
    Column("address", String(120), nullable=False),
    Column("area_m2", Numeric(10, 2), nullable=False),
    Column("use", String(12), nullable=False),
    Column("share", Numeric(5, 2), nullable=False),
    Column("registered_on", Date, nullable=False),
    Column("mortgaged", Boolean, nullable=False),
)


def fill_population(engine: Engine, city: City) -> None:
    """Write the population registry's table, replacing the rows that are there."""
    _replace(engine, residents, [_resident_row(resident) for resident in city.residents])


def fill_civil_affairs(engine: Engine, city: City) -> None:
    """Write the civil affairs department's table, replacing the rows that are there."""
    sides = [(marriage, *pair) for marriage in city.marriages for pair in _both_ways(marriage)]
    rows = [_marriage_row(number, *side) for number, side in enumerate(sides, start=1)]
    _replace(engine, marriage_records, rows)


def fill_housing(engine: Engine, city: City) -> None:
    """Write the housing department's table, replacing the rows that are there."""
    _replace(engine, ownerships, [_ownership_row(ownership) for ownership in city.ownerships])


FILL: Mapping[str, Callable[[Engine, City], None]] = {
    "population": fill_population,
    "civil-affairs": fill_civil_affairs,
    "housing": fill_housing,
}
"""The function that fills each department's database."""


def create_reader(engine: Engine, role: str = "exchange_reader") -> URL:
    """Create a PostgreSQL role that can log in and SELECT from the tables there are, and nothing else.

    Called again, it gives the role a new password and the tables made since.

    Args:
        engine: connected as a superuser.
        role: lower-case letters, digits and underscores.

    Returns:
        The URL of the same database for that role, with its password.
    """
    password = secrets.token_urlsafe(24)
    with engine.begin() as connection:
        quoted = connection.dialect.identifier_preparer.quote_identifier
        name, database = quoted(role), quoted(str(engine.url.database))
        known = text("SELECT 1 FROM pg_roles WHERE rolname = :role")
        if connection.scalar(known, {"role": role}) is None:
            connection.exec_driver_sql(f"CREATE ROLE {name}")
        for statement in _reader_statements(name, database, password):
            connection.exec_driver_sql(statement)
    return engine.url.set(username=role, password=password)


def _reader_statements(role: str, database: str, password: str) -> tuple[str, ...]:
    """What the role may do is held by its grants; the read-only default only makes refusals come sooner."""
    return (
        f"ALTER ROLE {role} WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION",
        f"ALTER ROLE {role} WITH PASSWORD '{password}'",
        f"ALTER ROLE {role} SET default_transaction_read_only = on",
        f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC",
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        f"GRANT CONNECT ON DATABASE {database} TO {role}",
        f"GRANT USAGE ON SCHEMA public TO {role}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}",
    )


def _replace(engine: Engine, table: Table, rows: Sequence[Row]) -> None:
    with engine.begin() as connection:
        # Emptied rather than dropped: a table made anew would have lost the readers' grants.
        table.create(connection, checkfirst=True)
        connection.execute(delete(table))
        connection.execute(insert(table), rows)


def _resident_row(resident: Resident) -> Row:
    return {
        "id_number": resident.id_number,
        "name": resident.name,
        "sex": resident.sex,
        "birth_date": resident.birth_date,
        "household_id": resident.household_id,
        "household_role": resident.household_role,
        "address": resident.address,
        "registered_on": resident.registered_on,
        "phone": resident.phone,
        "status": resident.status,
    }


def _both_ways(marriage: Marriage) -> tuple[tuple[Person, Person], tuple[Person, Person]]:
    return (marriage.husband, marriage.wife), (marriage.wife, marriage.husband)


def _marriage_row(number: int, marriage: Marriage, person: Person, spouse: Person) -> Row:
    return {
        "record_id": number,
        "id_number": person.id_number,
        "name": person.name,
        "spouse_id_number": spouse.id_number,
        "spouse_name": spouse.name,
        "status": marriage.status,
        "registered_on": marriage.registered_on,
        "ended_on": marriage.ended_on,
        "certificate_number": marriage.certificate_number,
    }


def _ownership_row(ownership: Ownership) -> Row:
    dwelling = ownership.dwelling
    return {
        "ownership_id": ownership.ownership_id,
        "owner_id_number": ownership.owner.id_number,
        "owner_name": ownership.owner.name,
        "certificate_number": dwelling.certificate_number,
        "address": dwelling.address,
        "area_m2": dwelling.area_m2,
        "use": dwelling.use,
        "share": ownership.share,
        "registered_on": dwelling.registered_on,
        "mortgaged": dwelling.mortgaged,
    }
