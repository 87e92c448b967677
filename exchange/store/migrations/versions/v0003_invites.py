"""Version 3: invites, and what was handed in with them."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_TEXT = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the table, empty."""
    op.create_table(
        "invites",
        sa.Column("party", _TEXT, primary_key=True),
        sa.Column("parent", _TEXT, nullable=False),
        sa.Column("role", sa.SmallInteger, nullable=False),
        sa.Column("code_sha256", sa.LargeBinary, nullable=False),
        sa.Column("invited_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("joined_at", sa.BigInteger, nullable=False),
        sa.Column("statement", sa.LargeBinary, nullable=False),
        sa.Column("csr", sa.LargeBinary, nullable=False),
        sa.Column("rejected_at", sa.BigInteger, nullable=False),
        sa.Column("reason", _TEXT, nullable=False),
        sa.Column("certificate", sa.LargeBinary, nullable=False),
    )
    op.create_index("invites_parent", "invites", ["parent", "party"])
