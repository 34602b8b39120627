"""What a broker says of itself."""

from __future__ import annotations

from pydantic import Field

from lightwork_contracts.ids import PubkeyField
from lightwork_contracts.modes import PaymentMode
from lightwork_contracts.money import AmountMsat, Msat, PriceMsat
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
    modes: tuple[PaymentMode, ...] = Field(
        default=(PaymentMode.ESCROW,), description="how jobs are paid at this broker"
    )
    credit_ceiling_msat: AmountMsat = Field(
        default=Msat(0), description="the most that this broker lets itself owe one agent"
    )
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
