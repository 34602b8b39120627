"""What brokers on one database share: their key, and the signed requests that one of them has taken.

Revision: 0005, after 0004.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from lightwork_broker.db.migrations.dialects import INTEGER

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "broker_key",
        sa.Column("id", INTEGER, nullable=False),
        sa.Column("pubkey", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "used_request",
        sa.Column("event_id", sa.String(), nullable=False),
        sa.Column("created_at", INTEGER, nullable=False),
        sa.PrimaryKeyConstraint("event_id"),
    )
    op.create_index("ix_used_request_created_at", "used_request", ["created_at"])


def downgrade() -> None:
    op.drop_table("used_request")
    op.drop_table("broker_key")
