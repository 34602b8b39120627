"""Jobs in credit mode: whom an escrow credits, and how a listing is paid.

Revision: 0003, after 0002. (Withdrawals are 0004.)
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("escrow", sa.Column("credited_to", sa.String(), nullable=True))
    op.add_column("escrow", sa.Column("credit_seed", sa.String(), nullable=True))
    op.create_index("ix_escrow_credited_to", "escrow", ["credited_to"])
    op.add_column("listing", sa.Column("mode", sa.String(), nullable=False, server_default="escrow"))


def downgrade() -> None:
    op.drop_column("listing", "mode")
    op.drop_index("ix_escrow_credited_to", "escrow")
    op.drop_column("escrow", "credit_seed")
    op.drop_column("escrow", "credited_to")
