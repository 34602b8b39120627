"""What the node has said of the HTLCs of each job that is over.

Revision: 0012, after 0011.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from lightwork_broker.db.migrations.dialects import added_once, append_only

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "htlc_check",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("lost_msat", sa.BigInteger(), nullable=False),
        sa.Column("checked_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["escrow.id"]),
        sa.PrimaryKeyConstraint("job_id"),
    )
    append_only("htlc_check")
    added_once({"htlc_check": (("job_id",),)})
    op.create_index("ix_htlc_check_lost_msat", "htlc_check", ["lost_msat"])
    op.create_index("ix_escrow_min_expiry_height", "escrow", ["min_expiry_height"])


def downgrade() -> None:
    op.drop_index("ix_escrow_min_expiry_height", table_name="escrow")
    op.drop_table("htlc_check")
