"""How far the books were compared with the node, so that a restart forgets no breach.

Revision: 0007, after 0006.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from lightwork_broker.db.migrations.dialects import INTEGER

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "watch_mark",
        sa.Column("id", INTEGER, nullable=False),
        sa.Column("compared_until", sa.Float(), nullable=False),
        sa.Column("breached_since", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )


def downgrade() -> None:
    op.drop_table("watch_mark")
