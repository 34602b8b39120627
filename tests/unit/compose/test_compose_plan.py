"""`lightwork-regtest adopt` writes for a container engine's nodes what lightwork_regtest writes for its own."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from compose_file import PLAN_FILE, plan

from lightwork_regtest.adoption import adopt
from lightwork_regtest.description import BitcoindDescription, NetworkDescription, NodeDescription
from lightwork_regtest.errors import UsageError
from lightwork_regtest.nodes import bitcoind, lnd

ADDRESSES = {
    "rpcbind", "rpcallowip", "rpcport", "rpcpassword", "zmqpubrawblock", "zmqpubrawtx",
    "rpclisten", "restlisten", "listen", "externalip", "tlsextradomain",
    "bitcoind.rpchost", "bitcoind.rpcpass", "bitcoind.zmqpubrawblock", "bitcoind.zmqpubrawtx",
}  # fmt: skip


def settings(path: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)


def adopted(folder: Path) -> NetworkDescription:
    file = folder / "network.toml"
    file.write_text(PLAN_FILE.read_text().replace('"/nodes', f'"{folder}/nodes'))
    return adopt(file, "default", env={"LIGHTWORK_STATE": str(folder / "state")})


def test_the_settings_are_those_of_a_network_of_our_own_but_for_addresses(tmp_path: Path) -> None:
    theirs = adopted(tmp_path)
    local = {"log": tmp_path / "log", "pid_file": tmp_path / "pid"}
    chain = BitcoindDescription(
        **local,
        folder=tmp_path / "own",
        rpc_port=1,
        zmq_block_port=2,
        zmq_tx_port=3,
        rpc_user="lightwork",
        rpc_password="x",
    )
    bitcoind.write_config(chain)
    pairs = [(theirs.bitcoind.folder / "bitcoin.conf", chain.folder / "bitcoin.conf")]
    for name, node in theirs.nodes.items():
        own = NodeDescription(
            **local,
            name=name,
            folder=tmp_path / "own" / name,
            grpc_port=1,
            rest_port=2,
            p2p_port=3,
            tls_cert=node.tls_cert,
            admin_macaroon=node.admin_macaroon,
        )
        lnd.write_config(own, chain)
        pairs.append((node.folder / "lnd.conf", own.folder / "lnd.conf"))
    for given, own_file in pairs:
        differing = dict(settings(given).items() ^ settings(own_file).items()).keys()
        assert differing <= ADDRESSES
        assert len(settings(own_file).keys() - ADDRESSES) >= 8


def test_nodes_listen_for_each_other_under_the_names_of_their_services(tmp_path: Path) -> None:
    network = adopted(tmp_path)
    broker = settings(network.nodes["broker"].folder / "lnd.conf")
    assert broker["externalip"] == "lnd-broker:9735"
    assert broker["rpclisten"] == "0.0.0.0:10009"
    assert broker["tlsextradomain"] == "lnd-broker"
    assert broker["bitcoind.rpchost"] == "bitcoind:18443"
    assert broker["bitcoind.zmqpubrawtx"] == f"tcp://bitcoind:{plan()['bitcoind']['zmq_tx_port']}"
    assert settings(network.bitcoind.folder / "bitcoin.conf")["rpcbind"] == plan()["listen"]


def test_the_password_is_drawn_once_and_kept_from_others(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    first, again, other = adopted(here), adopted(here), adopted(there)
    assert first.bitcoind.rpc_password == again.bitcoind.rpc_password != other.bitcoind.rpc_password
    assert len(first.bitcoind.rpc_password) >= 32
    written = [first.bitcoind.folder / "bitcoin.conf", first.nodes["buyer"].folder / "lnd.conf"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in written} == {0o600}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("[nodes.buyer]", "[nodes.stranger]"),
        ('topology = "market"', 'topology = "moon"'),
        ("rpc_port = 18443", 'rpc_port = "many"'),
        ('topology = "market"', "topology ="),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(tmp_path: Path, before: str, after: str) -> None:
    assert before in PLAN_FILE.read_text()
    file = tmp_path / "network.toml"
    file.write_text(PLAN_FILE.read_text().replace(before, after))
    with pytest.raises(UsageError):
        adopt(file, "default", env={"LIGHTWORK_STATE": str(tmp_path)})
    assert not (tmp_path / "regtest").exists()
