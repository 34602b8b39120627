"""chainwatch on a real chain: what it sells is what the node says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import cast

import pytest
from pydantic import JsonValue
from unit.sample_agents.loading import sample

from lightwork import Agent, JobContext, TaskRefused
from lightwork_contracts.ids import JobId
from lightwork_regtest import Network

CONTEXT = JobContext(job_id=JobId("job_" + "0" * 26), deadline=datetime(2030, 1, 1, tzinfo=UTC))
Asks = Callable[..., Awaitable[dict[str, JsonValue]]]


@pytest.fixture
def agent(network: Network, monkeypatch: pytest.MonkeyPatch) -> Agent:
    monkeypatch.delenv("CHAINWATCH_RPC_COOKIE_FILE", raising=False)
    monkeypatch.setenv("CHAINWATCH_RPC_URL", network.bitcoind.rpc_url)
    monkeypatch.setenv("CHAINWATCH_RPC_USER", network.bitcoind.user)
    monkeypatch.setenv("CHAINWATCH_RPC_PASSWORD", network.bitcoind.password)
    return sample("chainwatch")


@pytest.fixture
def asks(agent: Agent) -> Asks:
    async def ask(task: str, **inputs: JsonValue) -> dict[str, JsonValue]:
        return cast("dict[str, JsonValue]", await agent.tasks[task].run(inputs, CONTEXT))

    return ask


async def node(network: Network, method: str, *arguments: JsonValue) -> JsonValue:
    return await asyncio.to_thread(network.bitcoind.rpc, method, *arguments)


async def test_the_tip_is_the_nodes_best_block(network: Network, asks: Asks) -> None:
    tip = await asks("chain-tip")
    assert tip["network"] == "regtest"
    assert tip["block_hash"] == await node(network, "getblockhash", tip["height"])


async def test_fee_rates_cover_every_target_and_a_quiet_chain_has_no_estimates(asks: Asks) -> None:
    rates = await asks("fee-rates")
    assert [cast("dict[str, int]", rate)["blocks"] for rate in cast("list[JsonValue]", rates["rates"])] == [
        2,
        6,
        24,
        144,
    ]
    assert cast("int", rates["minimum_sat_per_kvbyte"]) > 0


async def test_the_mempool_is_counted(asks: Asks) -> None:
    assert set(await asks("mempool")) == {
        "transactions",
        "virtual_bytes",
        "fees_sat",
        "minimum_sat_per_kvbyte",
    }


async def test_a_transaction_in_the_chain_is_found_without_an_index(network: Network, asks: Asks) -> None:
    height = cast("int", await node(network, "getblockcount"))
    block_hash = await node(network, "getblockhash", height)
    block = cast("dict[str, JsonValue]", await node(network, "getblock", block_hash, 2))
    coinbase = cast("list[dict[str, JsonValue]]", block["tx"])[0]
    found = await asks("transaction", txid=str(coinbase["txid"]).upper())
    assert (found["txid"], found["block_hash"]) == (coinbase["txid"], block_hash)
    assert cast("int", found["confirmations"]) >= 1
    assert found["inputs"] == [{"txid": None, "output": None}]
    outputs = cast("list[dict[str, JsonValue]]", coinbase["vout"])
    assert found["output_total_sat"] == sum(round(float(str(output["value"])) * 1e8) for output in outputs)


async def test_a_transaction_that_nobody_knows_is_refused(asks: Asks) -> None:
    with pytest.raises(TaskRefused, match="does not know"):
        await asks("transaction", txid="ab" * 32)


async def test_the_coins_of_an_address_add_up(network: Network, asks: Asks) -> None:
    block_hash = await node(network, "getblockhash", 1)
    block = cast("dict[str, JsonValue]", await node(network, "getblock", block_hash, 2))
    outputs = cast(
        "list[dict[str, dict[str, str]]]", cast("list[dict[str, JsonValue]]", block["tx"])[0]["vout"]
    )
    address = outputs[0]["scriptPubKey"]["address"]
    held = await asks("address-coins", address=address)
    coins = cast("list[dict[str, int]]", held["coins"])
    listed = sum(coin["amount_sat"] for coin in coins)
    if cast("int", held["coins_count"]) == len(coins):
        assert held["total_sat"] == listed
    else:
        assert cast("int", held["total_sat"]) > listed
    assert [coin["amount_sat"] for coin in coins] == sorted(
        (coin["amount_sat"] for coin in coins), reverse=True
    )


async def test_a_taproot_address_is_an_address(asks: Asks) -> None:
    held = await asks(
        "address-coins", address="bcrt1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqc8gma6"
    )
    assert held["address"] == "bcrt1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqc8gma6"


@pytest.mark.parametrize(
    "address",
    ["bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "1BoatSLRHtKNngkdXEeobR76b53LETtpyT", "abcdefghijklmnop"],
)
async def test_an_address_of_another_network_is_refused(asks: Asks, address: str) -> None:
    with pytest.raises(TaskRefused, match="no address"):
        await asks("address-coins", address=address)


async def test_two_scans_at_once_both_get_their_answer(asks: Asks) -> None:
    taproot = "bcrt1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqc8gma6"
    both = await asyncio.gather(
        asks("address-coins", address=taproot), asks("address-coins", address=taproot)
    )
    assert both[0] == both[1]
