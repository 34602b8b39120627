"""Small rules of a regtest network: ports, names, safe mining, locks, descriptions."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from lightwork_regtest.description import BitcoindDescription, NetworkDescription, load_description
from lightwork_regtest.errors import NetworkNotFoundError, NodeFailedError, UsageError
from lightwork_regtest.lock import file_lock
from lightwork_regtest.mining import highest_safe_blocks
from lightwork_regtest.network import Network
from lightwork_regtest.nodes.lnd_answers import Channel, Constraints, HtlcAnswer
from lightwork_regtest.places import cache_folder, network_folder, networks_folder
from lightwork_regtest.polling import until
from lightwork_regtest.ports import free_ports, is_free


def test_chosen_ports_are_free_and_all_different() -> None:
    ports = free_ports(50)
    assert len(set(ports)) == 50
    for port in ports:
        with socket.create_server(("127.0.0.1", port)):
            assert not is_free(port)


@pytest.mark.parametrize(
    ("height", "expiries", "safe"),
    [
        (100, [], None),
        (100, [180], 61),  # at 162, LND would cancel: 162 + 18 = 180
        (100, [244], 125),
        (100, [300, 180, 244], 61),
        (161, [180], 0),
        (170, [180], 0),
        (190, [180], 0),
    ],
)
def test_mining_stops_one_block_before_lnd_cancels_a_hold(
    height: int, expiries: list[int], safe: int | None
) -> None:
    assert highest_safe_blocks(height, expiries) == safe


def test_only_htlcs_above_dust_cost_the_opener_a_fee() -> None:
    channel = Channel(remote_pubkey="", channel_point="", fee_per_kw=2_500, initiator=True)
    assert channel.initiator_costs_sat() == 2_810 + 660
    held = [HtlcAnswer(amount=353), HtlcAnswer(amount=354), HtlcAnswer(amount=1_000)]
    busy = channel.model_copy(
        update={"pending_htlcs": held, "local_constraints": Constraints(dust_limit_sat=354)}
    )
    assert busy.initiator_costs_sat() == 2_500 * (1_124 + 2 * 172) // 1_000 + 660


@pytest.mark.parametrize("name", ["", "A", "../x", "a/b", "-a", "a" * 33, "a b"])
def test_a_network_name_that_is_no_plain_word_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        network_folder(name, {"HOME": "/nowhere"})


def test_folders_follow_the_environment() -> None:
    assert networks_folder({"HOME": "/h"}) == Path("/h/.local/state/lightwork/regtest")
    assert networks_folder({"HOME": "/h", "XDG_STATE_HOME": "/s"}) == Path("/s/lightwork/regtest")
    assert networks_folder({"HOME": "/h", "LIGHTWORK_STATE": "/l"}) == Path("/l/regtest")
    assert cache_folder({"HOME": "/h"}) == Path("/h/.cache/lightwork")
    assert cache_folder({"HOME": "/h", "XDG_CACHE_HOME": "/c"}) == Path("/c/lightwork")
    assert cache_folder({"HOME": "/h", "LIGHTWORK_CACHE": "/l"}) == Path("/l")


def test_a_lock_lets_one_in_and_tells_the_other_that_it_waits(tmp_path: Path) -> None:
    waiting, inside = threading.Event(), threading.Event()

    def other() -> None:
        with file_lock(tmp_path / "lock", waiting.set):
            inside.set()

    thread = threading.Thread(target=other)
    with file_lock(tmp_path / "lock"):
        thread.start()
        assert waiting.wait(10)
        assert not inside.is_set()
    assert inside.wait(10)
    thread.join()


def test_waiting_has_a_bound() -> None:
    with pytest.raises(NodeFailedError, match="the moon: not within"):
        until(lambda: False, what="the moon", seconds=0.05, every=0.01)


def described(folder: Path) -> NetworkDescription:
    folder.mkdir()
    return NetworkDescription(
        name=folder.name,
        folder=folder,
        topology="chain",
        programs={},
        nodes={},
        bitcoind=BitcoindDescription(
            folder=folder,
            log=folder / "log",
            pid_file=folder / "pid",
            rpc_port=1,
            zmq_block_port=2,
            zmq_tx_port=3,
            rpc_user="u",
            rpc_password="hunter2hunter2",
        ),
    )


def test_a_description_is_private_comes_back_whole_and_hides_its_password(tmp_path: Path) -> None:
    written = described(tmp_path / "n")
    written.save()
    assert (written.folder / "network.json").stat().st_mode & 0o777 == 0o600
    assert load_description(written.folder) == written
    assert "hunter2" not in repr(written)


def test_a_missing_or_torn_description_says_what_to_do(tmp_path: Path) -> None:
    env = {"LIGHTWORK_STATE": str(tmp_path)}
    with pytest.raises(NetworkNotFoundError, match="up --name lost"):
        Network.attach(name="lost", env=env)
    folder = network_folder("torn", env)
    folder.mkdir(parents=True)
    (folder / "network.json").write_text('{"version": 1')
    with pytest.raises(NetworkNotFoundError, match="down --name torn --delete"):
        Network.attach(name="torn", env=env)
