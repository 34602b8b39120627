"""What the node's channels held when this database began: the books explain every change since.

Revision: 0009, after 0008.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("escrow_node", sa.Column("opening_msat", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("escrow_node", "opening_msat")
