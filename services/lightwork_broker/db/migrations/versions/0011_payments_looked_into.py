"""Payments of the node that the database does not know, and which of them a person has looked into.

Revision: 0011, after 0010.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "unknown_payment",
        sa.Column("payment_hash", sa.String(), nullable=False),
        sa.Column("found_at", sa.Float(), nullable=False),
        sa.Column("acknowledged_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("payment_hash"),
    )


def downgrade() -> None:
    op.drop_table("unknown_payment")
