"""From nodes that answer to channels that pay: coins, peers, channels, announcement, proof."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pydantic import JsonValue

from lightwork_regtest.errors import NodeFailedError, RpcError
from lightwork_regtest.fleet import Fleet, each
from lightwork_regtest.nodes.lnd import LightningNode
from lightwork_regtest.nodes.lnd_rest import LndRefusedError
from lightwork_regtest.polling import until
from lightwork_regtest.topology import COIN, ChannelPlan, Topology

CONFIRMATIONS = 6
"""BOLT 7: a channel is announced once its funding transaction is six blocks deep."""

_PURSE_SAT = COIN // 2
_PROOF_MSAT = 1_000_000
_PROOF_FEE_MSAT = 100_000
_SECONDS = 60.0
_COINS_SECONDS = 15.0
_NOT_YET = ("is not online", "synchronizing blockchain", "still syncing")


def missing_channels(fleet: Fleet, plans: Sequence[ChannelPlan]) -> list[ChannelPlan]:
    """Return the planned channels that are neither open nor being opened."""
    have: Counter[tuple[str, str]] = Counter()
    for funder, peer in {(plan.funder, plan.peer) for plan in plans}:
        node, other = fleet.nodes[funder], fleet.nodes[peer]
        opened = sum(
            channel.initiator and channel.remote_pubkey == other.pubkey for channel in node.channels()
        )
        have[funder, peer] = opened + node.pending_opens(other)
    missing: list[ChannelPlan] = []
    for plan in plans:
        if have[plan.funder, plan.peer] > 0:
            have[plan.funder, plan.peer] -= 1
        else:
            missing.append(plan)
    return missing


def give_coins(fleet: Fleet, outputs: Sequence[tuple[LightningNode, int]]) -> None:
    """Pay each node its satoshis on chain, one output per entry, mine them in and wait until they show.

    An LND that has only just started can overlook a payment to an address that it made a moment ago; those whose
    coins do not show are paid again, at a fresh address.
    """
    for last in (False, False, True):
        if not outputs:
            return
        gains: Counter[str] = Counter()
        amounts: dict[str, JsonValue] = {}
        before = {node.name: node.wallet_balance_sat() for node, _ in outputs}
        for node, amount_sat in outputs:
            amounts[node.new_address()] = f"{amount_sat // COIN}.{amount_sat % COIN:08d}"
            gains[node.name] += amount_sat
        fleet.bitcoind.rpc("sendmany", "", amounts)
        fleet.mine(1)
        unseen: set[str] = set()
        for name, gain in gains.items():
            node = fleet.nodes[name]
            try:
                until(
                    lambda node=node, least=before[name] + gain: node.wallet_balance_sat() >= least,
                    what=f"coins of {name}",
                    seconds=_SECONDS if last else _COINS_SECONDS,
                    every=0.05,
                )
            except NodeFailedError:
                if last:
                    raise
                unseen.add(name)
        outputs = [(node, amount_sat) for node, amount_sat in outputs if node.name in unseen]


def coins_needed(
    fleet: Fleet, topology: Topology, missing: Sequence[ChannelPlan]
) -> list[tuple[LightningNode, int]]:
    """Return the outputs that the nodes lack: one per channel to fund, and a purse for those with nothing."""
    outputs: list[tuple[LightningNode, int]] = []
    for name in topology.nodes:
        node = fleet.nodes[name]
        plans = [plan for plan in missing if plan.funder == name]
        balance = node.wallet_balance_sat()
        if plans and balance < sum(plan.capacity_sat for plan in plans) + _PURSE_SAT // 10:
            outputs += [(node, plan.capacity_sat + _PURSE_SAT) for plan in plans]
        elif not plans and balance == 0:
            outputs.append((node, _PURSE_SAT))
    return outputs


def connect(fleet: Fleet, plans: Sequence[ChannelPlan]) -> None:
    """Connect each planned pair whose nodes run."""
    running = {node.name for node in fleet.alive()}
    pairs = {(plan.funder, plan.peer) for plan in plans}
    for funder, peer in sorted(pairs):
        if funder in running and peer in running:
            node, other = fleet.nodes[funder], fleet.nodes[peer]

            def connected(node: LightningNode = node, other: LightningNode = other) -> bool:
                try:
                    node.connect(other)
                except RpcError:
                    return False
                return True

            until(connected, what=f"{funder} connected to {peer}", seconds=_SECONDS)


def open_channels(fleet: Fleet, plans: Sequence[ChannelPlan]) -> None:
    """Open the channels and bury them six blocks deep; also those that an earlier run left half open."""
    for plan in plans:
        node, peer = fleet.nodes[plan.funder], fleet.nodes[plan.peer]

        def opened(plan: ChannelPlan = plan, node: LightningNode = node, peer: LightningNode = peer) -> bool:
            try:
                node.open_channel(peer, capacity_sat=plan.capacity_sat, push_sat=plan.push_sat)
            except LndRefusedError as refused:
                # Only answers that LND gives before it has done anything; all others are final.
                if any(words in refused.message.lower() for words in _NOT_YET):
                    return False
                raise
            return True

        until(opened, what=f"a channel {plan.funder}-{plan.peer}", seconds=_SECONDS, every=0.05)
    fleet.mine(CONFIRMATIONS)


def wait_usable(fleet: Fleet) -> None:
    """Wait until every channel of the running nodes is active and in the graph of each of them.

    A channel whose other end is stopped cannot be active and is not waited for.

    Raises:
        NodeFailedError: that does not come true in time.
    """
    nodes = fleet.alive()
    keys = {node.pubkey for node in nodes}

    def points(node: LightningNode) -> set[str] | None:
        channels = [channel for channel in node.channels() if channel.remote_pubkey in keys]
        return {channel.channel_point for channel in channels} if all(c.active for c in channels) else None

    def usable() -> bool:
        wanted: set[str] = set()
        for found in each(nodes, points):
            if found is None:
                return False
            wanted |= found
        return all(wanted <= known for known in each(nodes, LightningNode.announced_channels))

    until(usable, what="channels active and announced", seconds=_SECONDS)


def prove(fleet: Fleet, proof: tuple[str, str]) -> None:
    """Send one real payment of 1,000 sat; a node may need some tries until its router knows the way.

    Raises:
        NodeFailedError: none has gone through in time.
    """
    payer, payee = (fleet.nodes[name] for name in proof)

    def paid() -> bool:
        return payer.pay(payee.add_invoice(_PROOF_MSAT), fee_limit_msat=_PROOF_FEE_MSAT)

    until(paid, what=f"a payment from {payer.name} to {payee.name}", seconds=_SECONDS)


def wait_count(fleet: Fleet, plan: ChannelPlan, count: int) -> None:
    """Wait until the funder lists at least `count` open channels with the peer."""
    node, other = fleet.nodes[plan.funder], fleet.nodes[plan.peer]

    def enough() -> bool:
        return sum(channel.remote_pubkey == other.pubkey for channel in node.channels()) >= count

    until(enough, what=f"{count} channels {plan.funder}-{plan.peer}", seconds=_SECONDS)
    if node.pending_opens(other):
        raise NodeFailedError(f"{plan.funder}-{plan.peer}: a channel is still pending")
