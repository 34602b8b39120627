"""Every table in one place, for migrations and the test that compares them with the models."""

from __future__ import annotations

import sqlalchemy as sa
from sqlmodel import SQLModel

from lightwork_broker.accounts import store as accounts
from lightwork_broker.escrow import htlc_store as htlcs
from lightwork_broker.escrow import store as escrow
from lightwork_broker.identity import store as identity
from lightwork_broker.jobs import store as jobs
from lightwork_broker.ledger import store as ledger
from lightwork_broker.market import quote_store as quotes
from lightwork_broker.market import store as market
from lightwork_broker.webhooks import store as webhooks

AREAS = (ledger, accounts, market, quotes, escrow, htlcs, jobs, identity, webhooks)


def metadata() -> sa.MetaData:
    """Return the metadata of all tables."""
    return SQLModel.metadata
