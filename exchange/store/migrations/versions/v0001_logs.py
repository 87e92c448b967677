"""Version 1: entries, nodes and heads of both logs."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_TEXT = sa.String().with_variant(sa.String(collation="C"), "postgresql")
_RELEASED, _SETTLES = sa.text("kind = 1"), sa.text("kind IN (1, 2)")


def upgrade() -> None:
    """Make the tables of an empty store."""
    op.create_table(
        "entries",
        sa.Column("log", _TEXT, primary_key=True),
        sa.Column("idx", sa.BigInteger, primary_key=True),
        sa.Column("time", sa.BigInteger),
        sa.Column("kind", sa.SmallInteger),
        sa.Column("code", sa.SmallInteger),
        sa.Column("requester", _TEXT),
        sa.Column("provider", _TEXT),
        sa.Column("request_id", sa.LargeBinary),
        sa.Column("request_digest", sa.LargeBinary),
        sa.Column("response_digest", sa.LargeBinary),
        sa.Column("leaf", sa.LargeBinary, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    _partial_index("entries_released", ["request_id", "requester"], _RELEASED, unique=True)
    _partial_index("entries_settled", ["response_digest"], _SETTLES)
    _partial_index("entries_taken", ["time", "idx"], _SETTLES)
    op.create_index("entries_requester", "entries", ["requester", "idx"])
    op.create_index("entries_provider", "entries", ["provider", "idx"])
    op.create_table(
        "nodes",
        sa.Column("log", _TEXT, primary_key=True),
        sa.Column("place", sa.BigInteger, primary_key=True),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "heads",
        sa.Column("log", _TEXT, primary_key=True),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("checkpoint", sa.LargeBinary, nullable=False),
        sa.Column("time", sa.BigInteger, nullable=False),
    )
    empty = "x''" if op.get_context().dialect.name == "sqlite" else "''"
    op.execute(f"INSERT INTO heads VALUES ('directory', 0, {empty}, 0), ('access', 0, {empty}, 0)")  # noqa: S608 - no input


def _partial_index(name: str, columns: list[str], where: sa.TextClause, *, unique: bool = False) -> None:
    op.create_index(name, "entries", columns, unique=unique, sqlite_where=where, postgresql_where=where)
