"""Answers from a Bitcoin node: the tip, fee rates, a transaction, an address's coins, the mempool.

Settings, from the environment only: CHAINWATCH_RPC_URL (as in http://127.0.0.1:18443), and either
CHAINWATCH_RPC_COOKIE_FILE or CHAINWATCH_RPC_USER and CHAINWATCH_RPC_PASSWORD.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from decimal import Decimal
from http.client import HTTPException
from pathlib import Path
from typing import Annotated, Protocol, TypeVar, cast
from urllib.parse import urlsplit

from bitcoin.rpc import InvalidAddressOrKeyError, InWarmupError, Proxy
from pydantic import BaseModel, ConfigDict, Field, RootModel, TypeAdapter, ValidationError

from lightwork import Agent, AgentInvalid, TaskFailed, TaskRefused, sats

SECONDS = 20
SCAN_SECONDS = 100
"""A scan of the whole UTXO set takes a minute on mainnet."""
FEE_TARGETS = (2, 6, 24, 144)
MOST_ENTRIES = 200
"""How many inputs, outputs or coins one answer lists; the counts are always of all."""
PROBED_OUTPUTS = 16
INCLUDE_MEMPOOL = False
SAT = Decimal(100_000_000)

Txid = Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$", description="64 hex characters")]
Address = Annotated[str, Field(pattern=r"^[0-9a-zA-Z]{14,100}$", description="any kind of this network's")]
T = TypeVar("T")

agent = Agent("chainwatch", description="Answers from a Bitcoin node.")


class ChainTip(BaseModel):
    """The best block that the node knows."""

    network: str
    height: int
    block_hash: str
    block_time: int = Field(description="Unix time in the block's header")
    syncing: bool = Field(description="true while the node still catches up")


class FeeRate(BaseModel):
    """What to pay to be confirmed within so many blocks; null when the node has seen too little traffic."""

    blocks: int
    sat_per_kvbyte: int | None


class FeeRates(BaseModel):
    """Fee estimates, and the least that the node's mempool takes now."""

    rates: list[FeeRate]
    minimum_sat_per_kvbyte: int


class TransactionInput(BaseModel):
    """The output that is spent; both null for a coinbase."""

    txid: str | None
    output: int | None


class TransactionOutput(BaseModel):
    """An amount and who can spend it."""

    index: int
    amount_sat: int
    kind: str
    address: str | None


class Transaction(BaseModel):
    """A transaction, in the chain or still waiting."""

    txid: str
    confirmations: int
    block_hash: str | None
    virtual_size: int
    locktime: int
    inputs_count: int
    outputs_count: int
    output_total_sat: int
    inputs: list[TransactionInput] = Field(max_length=MOST_ENTRIES)
    outputs: list[TransactionOutput] = Field(max_length=MOST_ENTRIES)


class Coin(BaseModel):
    """An unspent output."""

    txid: str
    output: int
    amount_sat: int
    height: int


class AddressCoins(BaseModel):
    """The confirmed, unspent outputs of an address, largest first."""

    address: str
    height: int
    total_sat: int
    coins_count: int
    coins: list[Coin] = Field(max_length=MOST_ENTRIES)


class Mempool(BaseModel):
    """What waits to be confirmed."""

    transactions: int
    virtual_bytes: int
    fees_sat: int
    minimum_sat_per_kvbyte: int


@agent.task(price=sats(1), tags=("bitcoin", "chain"))
def chain_tip() -> ChainTip:
    """Tell the height, hash and time of the best block."""
    info = ask(_ChainInfo, "getblockchaininfo")
    return ChainTip(
        network="mainnet" if info.chain == "main" else info.chain,
        height=info.blocks,
        block_hash=info.bestblockhash,
        block_time=info.time,
        syncing=info.initialblockdownload,
    )


@agent.task(price=sats(2), tags=("bitcoin", "fees"))
def fee_rates() -> FeeRates:
    """Estimate the fee rate to be confirmed within 2, 6, 24 and 144 blocks, in satoshis per 1000 vbytes."""
    estimates = [(blocks, ask(_Estimate, "estimatesmartfee", blocks).feerate) for blocks in FEE_TARGETS]
    return FeeRates(
        rates=[
            FeeRate(blocks=blocks, sat_per_kvbyte=None if rate is None else to_sat(rate))
            for blocks, rate in estimates
        ],
        minimum_sat_per_kvbyte=to_sat(ask(_MempoolInfo, "getmempoolinfo").mempoolminfee),
    )


@agent.task(price=sats(5), tags=("bitcoin", "transaction"))
def transaction(txid: Txid) -> Transaction:
    """Look a transaction up, in the mempool or in the chain."""
    found = find_transaction(txid.lower())
    outputs = [
        TransactionOutput(
            index=output.n,
            amount_sat=to_sat(output.value),
            kind=output.script_pub_key.type,
            address=output.script_pub_key.address,
        )
        for output in found.vout
    ]
    return Transaction(
        txid=found.txid,
        confirmations=found.confirmations,
        block_hash=found.blockhash,
        virtual_size=found.vsize,
        locktime=found.locktime,
        inputs_count=len(found.vin),
        outputs_count=len(outputs),
        output_total_sat=sum(output.amount_sat for output in outputs),
        inputs=[TransactionInput(txid=spent.txid, output=spent.vout) for spent in found.vin[:MOST_ENTRIES]],
        outputs=outputs[:MOST_ENTRIES],
    )


@agent.task(price=sats(20), work_seconds=SCAN_SECONDS + SECONDS, tags=("bitcoin", "address"))
def address_coins(address: Address) -> AddressCoins:
    """List the confirmed coins of an address, with their sum."""
    if not ask(_Validity, "validateaddress", address).isvalid:
        raise TaskRefused("that is no address of this network")
    # Letters and digits only, and valid: nothing of the buyer's can end the descriptor early.
    # The node runs one scan at a time and refuses a second one.
    if not _scanning.acquire(timeout=SCAN_SECONDS / 2):
        raise TaskFailed("other scans are waiting; ask again in a minute")
    try:
        scan = ask(_Scan, "scantxoutset", "start", [f"addr({address})"], seconds=SCAN_SECONDS)
    finally:
        _scanning.release()
    coins = [
        Coin(txid=coin.txid, output=coin.vout, amount_sat=to_sat(coin.amount), height=coin.height)
        for coin in sorted(scan.unspents, key=lambda coin: coin.amount, reverse=True)
    ]
    return AddressCoins(
        address=address,
        height=scan.height,
        total_sat=to_sat(scan.total_amount),
        coins_count=len(coins),
        coins=coins[:MOST_ENTRIES],
    )


@agent.task(price=sats(1), tags=("bitcoin", "mempool"))
def mempool() -> Mempool:
    """Tell how much waits in the node's mempool, and the least fee rate that gets in."""
    info = ask(_MempoolInfo, "getmempoolinfo")
    return Mempool(
        transactions=info.size,
        virtual_bytes=info.bytes,
        fees_sat=to_sat(info.total_fee),
        minimum_sat_per_kvbyte=to_sat(info.mempoolminfee),
    )


# --- the node: only the fields that are used, as it names them ---


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _ChainInfo(_Answer):
    chain: str
    blocks: int
    bestblockhash: str
    time: int
    initialblockdownload: bool


class _Estimate(_Answer):
    feerate: Decimal | None = None


class _MempoolInfo(_Answer):
    size: int
    bytes: int
    total_fee: Decimal
    mempoolminfee: Decimal


class _Validity(_Answer):
    isvalid: bool


class _Unspent(_Answer):
    txid: str
    vout: int
    amount: Decimal
    height: int


class _Scan(_Answer):
    height: int
    total_amount: Decimal
    unspents: list[_Unspent]


class _Spent(_Answer):
    txid: str | None = None
    vout: int | None = None


class _Script(_Answer):
    type: str
    address: str | None = None


class _Output(_Answer):
    n: int
    value: Decimal
    script_pub_key: _Script = Field(alias="scriptPubKey")


class _Transaction(_Answer):
    txid: str
    vsize: int
    locktime: int
    confirmations: int = 0
    blockhash: str | None = None
    vin: list[_Spent]
    vout: list[_Output]


class _UnspentOutput(_Answer):
    bestblock: str
    confirmations: int


class _MaybeUnspent(RootModel[_UnspentOutput | None]):
    """Null stands for an output that is spent, or that never was."""


class _Header(_Answer):
    height: int


class _Rpc(Protocol):
    def call(self, service_name: str, *args: object) -> object: ...
    def close(self) -> None: ...


def ask(shape: type[T], method: str, *arguments: object, seconds: int = SECONDS) -> T:
    """Call the node over a connection of this call's own, so that threads share nothing.

    Raises:
        TaskFailed: the node does not answer, or not as expected. Its address and password stay here.
        JSONRPCError: the node refused.
    """
    try:
        with closing(open_rpc(seconds)) as rpc:
            answer = rpc.call(method, *arguments)
    except InWarmupError:
        raise TaskFailed("the Bitcoin node is starting; ask again in a minute") from None
    except (OSError, HTTPException):
        raise TaskFailed("the Bitcoin node does not answer") from None
    try:
        return TypeAdapter(shape).validate_python(answer)
    except ValidationError:
        raise TaskFailed("the Bitcoin node answered with something unexpected") from None


def find_transaction(txid: str) -> _Transaction:
    """Find a transaction. Without an index the node needs to be told its block, and an unspent output tells.

    Raises:
        TaskRefused: the node does not know it.
    """
    try:
        return ask(_Transaction, "getrawtransaction", txid, 1)
    except InvalidAddressOrKeyError:
        pass
    for index in range(PROBED_OUTPUTS):
        output = ask(_MaybeUnspent, "gettxout", txid, index, INCLUDE_MEMPOOL).root
        if output is not None and output.confirmations > 0:
            top = ask(_Header, "getblockheader", output.bestblock).height
            block = ask(str, "getblockhash", top - output.confirmations + 1)
            return ask(_Transaction, "getrawtransaction", txid, 1, block)
    raise TaskRefused("this node does not know that transaction (an old one, spent whole, needs its index)")


def to_sat(bitcoins: Decimal) -> int:
    """Turn the node's decimal bitcoins into whole satoshis."""
    return int((bitcoins * SAT).to_integral_value())


def rpc_settings(environ: Mapping[str, str]) -> Callable[[int], _Rpc]:
    """Read the settings and return what opens a connection with a time-out in seconds.

    Raises:
        AgentInvalid: a setting is missing or cannot be used.
    """
    url = environ.get("CHAINWATCH_RPC_URL", "")
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname or parts.username is not None:
        raise AgentInvalid(
            "CHAINWATCH_RPC_URL must be the URL of bitcoind's RPC, without user and password",
            hint="export CHAINWATCH_RPC_URL=http://127.0.0.1:18443",
        )
    cookie = environ.get("CHAINWATCH_RPC_COOKIE_FILE")
    user, password = environ.get("CHAINWATCH_RPC_USER"), environ.get("CHAINWATCH_RPC_PASSWORD")
    if cookie is None and (user is None or password is None):
        raise AgentInvalid(
            "chainwatch cannot log in to bitcoind",
            hint="export CHAINWATCH_RPC_COOKIE_FILE, or CHAINWATCH_RPC_USER and CHAINWATCH_RPC_PASSWORD",
        )
    host, port = parts.hostname, parts.port or 8332

    def open_connection(seconds: int) -> _Rpc:
        # The cookie is new after each start of the node, so it is read for each connection.
        login = Path(cookie).read_text().strip() if cookie is not None else f"{user}:{password}"
        return cast("_Rpc", Proxy(service_url=f"http://{login}@{host}:{port}", timeout=seconds))

    return open_connection


_scanning = threading.Lock()
open_rpc = rpc_settings(os.environ)
