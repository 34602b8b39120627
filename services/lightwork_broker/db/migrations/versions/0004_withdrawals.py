"""Withdrawals, and the one purpose that each outgoing payment hash has.

Revision: 0004, after 0003.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from lightwork_broker.db.migrations.dialects import INTEGER, append_only

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

APPEND_ONLY = ("withdrawal_event", "payment_claim")


def upgrade() -> None:
    op.create_table(
        "withdrawal",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("agent", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("payment_hash", sa.String(), nullable=False),
        sa.Column("invoice", sa.String(), nullable=False),
        sa.Column("amount_msat", sa.BigInteger(), nullable=False),
        sa.Column("max_fee_msat", sa.BigInteger(), nullable=False),
        sa.Column("fee_paid_msat", sa.BigInteger(), nullable=True),
        sa.Column("preimage", sa.String(), nullable=True),
        sa.Column("failure", sa.String(), nullable=True),
        sa.Column("idempotency_key", sa.String(), nullable=True),
        sa.Column("called_at", sa.Float(), nullable=True),
        sa.Column("unseen_since", sa.Float(), nullable=True),
        sa.Column("unknown_since", INTEGER, nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.CheckConstraint("amount_msat > 0 AND max_fee_msat >= 0", name="withdrawal_amounts"),
        sa.CheckConstraint(
            "(status = 'paid') = (preimage IS NOT NULL) AND (status = 'paid') = (fee_paid_msat IS NOT NULL)",
            name="paid_means_proof",
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("payment_hash"),
        sa.UniqueConstraint("agent", "idempotency_key", name="one_withdrawal_per_key"),
    )
    op.create_index("ix_withdrawal_agent", "withdrawal", ["agent"])
    op.create_index("ix_withdrawal_status", "withdrawal", ["status"])
    op.create_table(
        "withdrawal_event",
        sa.Column("seq", INTEGER, nullable=False),
        sa.Column("withdrawal_id", sa.String(), nullable=False),
        sa.Column("event", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["withdrawal_id"], ["withdrawal.id"]),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index("ix_withdrawal_event_withdrawal_id", "withdrawal_event", ["withdrawal_id"])
    op.create_table(
        "payment_claim",
        sa.Column("payment_hash", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("payment_hash"),
    )
    op.execute(
        "INSERT INTO payment_claim (payment_hash, purpose) SELECT payment_hash, 'escrow:' || id FROM escrow "
        "WHERE credited_to IS NULL"
    )
    append_only(*APPEND_ONLY)


def downgrade() -> None:
    op.drop_table("payment_claim")
    op.drop_table("withdrawal_event")
    op.drop_table("withdrawal")
