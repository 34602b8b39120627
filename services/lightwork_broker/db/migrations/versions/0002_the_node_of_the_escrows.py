"""The node that holds the escrows.

Revision: 0002, after 0001.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from lightwork_broker.db.migrations.dialects import INTEGER

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "escrow_node",
        sa.Column("id", INTEGER, nullable=False),
        sa.Column("pubkey", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )


def downgrade() -> None:
    op.drop_table("escrow_node")
