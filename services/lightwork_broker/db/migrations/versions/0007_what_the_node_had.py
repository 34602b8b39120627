"""What the node's channels held when this database began: the books explain every change since.

Revision: 0007, after 0006.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("escrow_node", sa.Column("opening_msat", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("escrow_node", "opening_msat")
