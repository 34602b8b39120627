"""What a broker says of itself."""

from __future__ import annotations

from pydantic import Field

from lightwork_contracts.ids import PubkeyField
from lightwork_contracts.money import AmountMsat, PriceMsat
from lightwork_contracts.wire.base import Answer, UnixTime


class BrokerInfo(Answer):
    """The broker's keys, network, prices and limits. A buyer pins `pubkey` and `node`."""

    name: str
    version: str
    pubkey: PubkeyField
    network: str = Field(description="mainnet, testnet, signet or regtest")
    node: str = Field(description="the broker's Lightning node, 33-byte compressed key in hex")
    fee_base_msat: AmountMsat
    fee_ppm: int
    min_price_msat: PriceMsat
    max_price_msat: PriceMsat
    max_body_bytes: int
    max_final_cltv: int
    now: UnixTime


class Health(Answer):
    """`ok` only when the database answers and the node is synced to its chain."""

    ok: bool
    database: bool
    node_synced: bool
    block_height: int | None
    open_escrows: int
    unknown_payments: int = Field(description="payouts whose outcome is not known; funds stay reserved")
    detail: str | None = None
