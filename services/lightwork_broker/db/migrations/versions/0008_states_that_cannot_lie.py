"""The database refuses what the tables of states refuse.

Written out here as they were when this migration was made: a later edge needs a later migration, and
tests/unit/broker/test_database_guards.py says so. A migration that rebuilds one of these tables on SQLite must make
its triggers anew.

Revision: 0008, after 0007.
"""

from __future__ import annotations

from alembic import op

from lightwork_broker.db.migrations.dialects import Guard, added_once, guard_states

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

ESCROW = (
    "escrow|accepted>canceling",
    "escrow|accepted>releasing",
    "escrow|accepted>returned",
    "escrow|canceling>canceled",
    "escrow|canceling>forwarded",
    "escrow|created>canceled",
    "escrow|created>canceling",
    "escrow|created>open",
    "escrow|exposed>lost",
    "escrow|exposed>returned",
    "escrow|forwarded>lost",
    "escrow|forwarded>settled",
    "escrow|forwarding>exposed",
    "escrow|forwarding>forwarded",
    "escrow|forwarding>releasing",
    "escrow|open>accepted",
    "escrow|open>canceled",
    "escrow|open>canceling",
    "escrow|releasing>canceling",
    "escrow|releasing>forwarded",
    "escrow|releasing>forwarding",
    "escrow|releasing>returned",
    "credit|accepted>canceling",
    "credit|accepted>returned",
    "credit|accepted>settling",
    "credit|canceling>canceled",
    "credit|canceling>settled",
    "credit|created>canceled",
    "credit|created>canceling",
    "credit|created>open",
    "credit|open>accepted",
    "credit|open>canceled",
    "credit|open>canceling",
    "credit|settling>returned",
    "credit|settling>settled",
)
JOB = (
    "|delivered>disputed",
    "|delivered>refunded",
    "|delivered>releasing",
    "|disputed>refunded",
    "|disputed>refunding",
    "|disputed>releasing",
    "|funded>refunded",
    "|funded>refunding",
    "|funded>working",
    "|open>expired",
    "|open>funded",
    "|open>settled",
    "|quoted>expired",
    "|quoted>open",
    "|quoted>settled",
    "|refunding>refunded",
    "|refunding>settled",
    "|releasing>refunded",
    "|releasing>refunding",
    "|releasing>settled",
    "|working>delivered",
    "|working>funded",
    "|working>refunded",
    "|working>refunding",
)
WITHDRAWAL = (
    "|paying>failed",
    "|paying>paid",
)
QUOTE = (
    "|requested>answered",
    "|requested>expired",
    "|requested>refused",
)

GUARDS = (
    Guard(
        table="escrow",
        column="state",
        edges=ESCROW,
        kind="CASE WHEN OLD.credited_to IS NULL THEN 'escrow' ELSE 'credit' END",
        fixed=(
            "id",
            "payment_hash",
            "price_msat",
            "fee_msat",
            "routing_msat",
            "total_msat",
            "provider_invoice",
            "credited_to",
            "credit_seed",
        ),
        first="created",
    ),
    Guard(
        table="job",
        column="status",
        edges=JOB,
        fixed=("id", "quote_id", "buyer", "provider", "price_msat", "payment_hash", "input"),
        first="quoted",
    ),
    Guard(
        table="withdrawal",
        column="status",
        edges=WITHDRAWAL,
        fixed=("id", "agent", "payment_hash", "invoice", "amount_msat", "max_fee_msat"),
        first="paying",
    ),
    Guard(table="quote", column="status", edges=QUOTE),
)
KEYS = {
    "ledger_transaction": (("id",), ("key",)),
    "ledger_entry": (("id",),),
    "escrow_event": (("seq",),),
    "job_event": (("seq",),),
    "listing_version": (("listing_id", "version"),),
    "withdrawal_event": (("seq",),),
    "payment_claim": (("payment_hash",),),
    "escrow": (("id",), ("payment_hash",)),
    "job": (("id",), ("quote_id",), ("payment_hash",)),
    "withdrawal": (("id",), ("payment_hash",), ("agent", "idempotency_key")),
}
"""Every way in which a row could stand in the way of another one."""


def upgrade() -> None:
    for guard in GUARDS:
        guard_states(guard)
    added_once(KEYS)


def downgrade() -> None:
    sqlite = op.get_bind().dialect.name == "sqlite"
    for table in KEYS if sqlite else ():
        op.execute(f"DROP TRIGGER {table}_added_once")
    for guard in GUARDS:
        whole = guard.first is not None
        if sqlite:
            for name in ("edges", "fixed", *(("first", "kept") if whole else ())):
                op.execute(f"DROP TRIGGER {guard.table}_{name}")
            continue
        op.execute(f"DROP TRIGGER {guard.table}_guard ON {guard.table}")
        op.execute(f"DROP FUNCTION guard_{guard.table}()")
        if whole:
            op.execute(f"DROP TRIGGER {guard.table}_no_truncate ON {guard.table}")
