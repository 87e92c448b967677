"""Version 2: the last checkpoint of each log that enough witnesses have cosigned."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_TEXT = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the table, with a row for each log that says of no checkpoint."""
    op.create_table(
        "cosigned",
        sa.Column("log", _TEXT, primary_key=True),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("note", sa.LargeBinary, nullable=False),
    )
    empty = "x''" if op.get_context().dialect.name == "sqlite" else "''"
    op.execute(f"INSERT INTO cosigned VALUES ('directory', 0, 0, {empty}), ('access', 0, 0, {empty})")  # noqa: S608 - no input
