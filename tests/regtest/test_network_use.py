"""The running network as tests, the demo and people use it."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from pydantic import JsonValue

from lightwork_regtest import Network
from lightwork_regtest.errors import MineRefusedError
from lightwork_regtest.nodes.lnd import LightningNode
from lightwork_regtest.nodes.lnd_answers import Empty, Info, Invoice
from lightwork_regtest.nodes.lnd_rest import LndRefusedError
from lightwork_regtest.polling import until

HELD_MSAT = 2_000_000
CLTV_BLOCKS = 40


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def cli(network: Network, *args: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-c", "from lightwork_regtest.cli import main; main()", *args]
    return subprocess.run(argv, env=network.env, capture_output=True, text=True, check=False, timeout=120)


def test_a_second_up_finds_the_first(network: Network) -> None:
    before = [node.process() for node in network.nodes.values()]
    with Network.up(name=network.name, env=network.env) as again:
        assert again.started == ()
        assert [node.process() for node in again.nodes.values()] == before
        assert again.bitcoind.rpc_url == network.bitcoind.rpc_url


def test_a_payment_moves_exactly_its_msat(network: Network) -> None:
    names = ("buyer", "broker", "provider")
    before = {name: network.node(name).wealth_msat() for name in names}
    invoice = network.node("provider").add_invoice(12_345)
    assert network.node("buyer").pay(invoice, fee_limit_msat=10_000)

    def gains() -> dict[str, int]:
        return {name: network.node(name).wealth_msat() - before[name] for name in names}

    # LND's default forwarding fee: 1,000 msat and one millionth.
    expected = {"buyer": -13_345, "broker": 1_000, "provider": 12_345}
    until(lambda: gains() == expected, what=f"exact gains, last {gains()}", seconds=10)


def hold(node: LightningNode, payment_hash: bytes) -> str:
    body: dict[str, JsonValue] = {
        "hash": b64(payment_hash),
        "value_msat": str(HELD_MSAT),
        "cltv_expiry": str(CLTV_BLOCKS),
    }
    return node.rest.post("/v2/invoices/hodl", Invoice, body).payment_request


def test_mining_is_refused_while_a_held_payment_would_be_cancelled(network: Network) -> None:
    broker, buyer = network.node("broker"), network.node("buyer")
    payment_hash = hashlib.sha256(secrets.token_bytes(32)).digest()
    wealth = buyer.wealth_msat()
    with ThreadPoolExecutor(1) as pool:
        paid: Future[bool] = pool.submit(buyer.pay, hold(broker, payment_hash), fee_limit_msat=0, seconds=60)
        try:
            until(lambda: buyer.pending_htlcs() and broker.pending_htlcs(), what="a held HTLC", seconds=20)
            (htlc,) = broker.pending_htlcs()
            assert (htlc.payment_hash, htlc.incoming, htlc.amount_sat) == (payment_hash.hex(), True, 2_000)
            assert buyer.wealth_msat() == wealth
            height = network.bitcoind.height()
            safe = htlc.expiry_height - 18 - 1 - height
            assert 0 < safe < CLTV_BLOCKS
            with pytest.raises(MineRefusedError, match=f"at most {safe} are safe"):
                network.mine(safe + 1)
            refused = cli(network, "mine", str(safe + 1), "--name", network.name, "--json")
            assert refused.returncode == MineRefusedError.exit_code
            assert json.loads(refused.stdout)["error"]["code"] == "mine_refused"
            assert network.bitcoind.height() == height
            # The number in the message is true: LND still holds at that height, and lets go one block later.
            network.mine(safe)
            assert [held.payment_hash for held in broker.pending_htlcs()] == [payment_hash.hex()]
            network.mine(1, force=True)
            assert paid.result(timeout=30) is False
        finally:
            broker.rest.post("/v2/invoices/cancel", Empty, {"payment_hash": b64(payment_hash)})
    until(lambda: not buyer.pending_htlcs() and not broker.pending_htlcs(), what="HTLC gone", seconds=20)
    assert buyer.wealth_msat() == wealth


HASH = b64(bytes(32))
INVOICE: dict[str, JsonValue] = {"value_msat": "1000"}
HOLD: dict[str, JsonValue] = {"hash": HASH, "value_msat": "1000"}
SEND: dict[str, JsonValue] = {"payment_request": "lnbcrt1", "timeout_seconds": 1}
BAKE: dict[str, JsonValue] = {"permissions": [{"entity": "info", "action": "read"}]}


@pytest.mark.parametrize(
    ("role", "path", "body"),
    [
        ("broker", "/v1/macaroon", BAKE),
        ("broker", "/v1/transactions", {"addr": "x", "amount": "1"}),
        ("broker", "/v1/channels", {"node_pubkey": "", "local_funding_amount": "1"}),
        ("broker", "/v1/peers", {"addr": {"pubkey": "x", "host": "y"}}),
        ("broker", "/v2/router/route/estimatefee", {"payment_request": "lnbcrt1"}),
        ("broker", "/v1/invoices", INVOICE),
        ("provider", "/v2/invoices/cancel", {"payment_hash": HASH}),
        ("provider", "/v2/invoices/settle", {"preimage": HASH}),
        ("provider", "/v2/invoices/hodl", HOLD),
        ("provider", "/v2/router/send", SEND),
        ("provider", "/v1/transactions", {"addr": "x", "amount": "1"}),
        ("buyer", "/v1/invoices", INVOICE),
        ("buyer", "/v2/invoices/hodl", HOLD),
        ("buyer", "/v1/macaroon", BAKE),
        ("buyer", "/v1/transactions", {"addr": "x", "amount": "1"}),
    ],
)
def test_a_role_is_refused_what_is_not_its_own(
    network: Network, role: str, path: str, body: dict[str, JsonValue]
) -> None:
    node = network.node(role)
    rest = node.rest_as(node.role_macaroon)
    try:
        with pytest.raises(LndRefusedError) as caught:
            rest.post(path, Empty, body)
    finally:
        rest.close()
    assert caught.value.message == "permission denied"


@pytest.mark.parametrize(
    ("role", "path", "body"),
    [
        ("broker", "/v2/invoices/hodl", HOLD),
        ("broker", "/v2/invoices/cancel", {"payment_hash": HASH}),
        ("broker", "/v2/invoices/settle", {"preimage": HASH}),
        ("broker", "/v2/router/send", SEND),
        ("provider", "/v1/invoices", INVOICE),
        ("buyer", "/v2/router/send", SEND),
    ],
)
def test_a_role_may_do_what_is_its_own(
    network: Network, role: str, path: str, body: dict[str, JsonValue]
) -> None:
    node = network.node(role)
    rest = node.rest_as(node.role_macaroon)
    try:
        assert rest.get("/v1/getinfo", Info).identity_pubkey == node.pubkey
        try:
            rest.post(path, Empty, body)
        except LndRefusedError as refused:
            # The nonsense in the body is refused; the macaroon is not.
            assert "permission denied" not in refused.message  # noqa: PT017
    finally:
        rest.close()


def test_macaroons_and_the_description_are_private(network: Network) -> None:
    files = [network.node(name).role_macaroon for name in ("broker", "buyer", "provider")]
    for file in [*files, network.folder / "network.json", network.folder / "broker" / "lnd.conf"]:
        assert file.stat().st_mode & 0o077 == 0


def test_a_killed_node_is_healed_by_up(network: Network) -> None:
    pid = network.node("broker").process()
    network.kill_node("broker")
    assert pid is not None
    assert not pid.is_alive()
    down = cli(network, "status", "--name", network.name, "--json")
    assert down.returncode == 4
    assert [node["running"] for node in json.loads(down.stdout)["nodes"]] == [False, True, True]
    with Network.up(name=network.name, env=network.env) as healed:
        assert healed.started == ("broker",)
        invoice = healed.node("provider").add_invoice(1_000_000)
        assert healed.node("buyer").pay(invoice, fee_limit_msat=10_000)


def test_a_node_that_was_stopped_starts_again_where_it_was(network: Network) -> None:
    provider = network.node("provider")
    # What an earlier payment has moved counts only when its HTLC has left both ends of the channel.
    until(
        lambda: not any(network.node(name).pending_htlcs() for name in ("buyer", "broker", "provider")),
        what="no HTLC is left",
        seconds=30,
    )
    key, wealth = provider.pubkey, provider.wealth_msat()
    network.stop_node("provider")
    assert provider.process() is None
    network.start_node("provider")
    assert provider.info().identity_pubkey == key
    assert provider.wealth_msat() == wealth


def test_the_faucet_gives_what_was_asked(network: Network) -> None:
    before = network.node("buyer").wallet_balance_sat()
    answer = cli(network, "faucet", "buyer", "123456", "--name", network.name, "--json")
    assert json.loads(answer.stdout) == {"node": "buyer", "confirmed_sat": before + 123_456}


def test_doctor_finds_a_running_network_well_and_lncli_reaches_it(network: Network) -> None:
    doctor = cli(network, "doctor", "--name", network.name, "--json")
    assert [finding for finding in json.loads(doctor.stdout) if not finding["ok"]] == []
    assert doctor.returncode == 0
    lncli = cli(network, "lncli", "--name", network.name, "buyer", "getinfo")
    assert json.loads(lncli.stdout)["identity_pubkey"] == network.node("buyer").pubkey
