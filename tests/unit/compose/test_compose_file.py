"""docker-compose.yml agrees with lightwork_regtest, keeps to this machine, and holds no secret."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest
from compose_file import COMPLETED, COMPOSE_FILE, HEALTHY, REPOSITORY, document, in_order, plan, services

from lightwork.profile import DEFAULT_BROKER, Profile
from lightwork_broker.settings import BrokerSettings
from lightwork_regtest.binaries.core_release import VERSION as CORE_VERSION
from lightwork_regtest.topology import MARKET

NODES = {name: services()[node["host"]] for name, node in plan()["nodes"].items()}
ONCE = {name for name, service in services().items() if service.runs_once}
STAYING = sorted(services().keys() - ONCE)
AGENTS = sorted(path.stem for path in (REPOSITORY / "agents" / "sample-agents").glob("*.py"))


def test_the_nodes_are_those_of_the_market_topology() -> None:
    assert plan()["topology"] == "market"
    assert list(NODES) == list(MARKET.nodes)
    assert {f"lnd-{name}" for name in MARKET.nodes} == {service.name for service in NODES.values()}
    assert plan()["bitcoind"]["host"] in services()


def test_lnd_is_the_version_that_lightwork_regtest_builds() -> None:
    go_mod = files("lightwork_regtest").joinpath("lnd_build", "go.mod").read_text()
    found = re.search(r"github\.com/lightningnetwork/lnd (v\S+)", go_mod)
    assert found is not None
    assert {service.image for service in NODES.values()} == {f"lightninglabs/lnd:{found[1]}"}


def test_bitcoind_is_the_version_that_lightwork_regtest_fetches() -> None:
    assert services()["bitcoind"].image == f"bitcoin/bitcoin:{CORE_VERSION}"


@pytest.mark.parametrize("name", services())
def test_every_image_has_a_version_or_is_built_here(name: str) -> None:
    repository, _, tag = services()[name].image.rpartition(":")
    assert repository
    assert tag not in ("", "latest")


def test_one_service_builds_the_image_and_comes_before_all_others_that_use_it() -> None:
    order = list(in_order())
    assert [service.name for service in order if "build" in service.raw] == ["config"]
    assert order[0].name == "config"
    build = services()["config"].raw["build"]
    assert (REPOSITORY / build["context"] / build["dockerfile"]).is_file()


def test_each_node_gets_its_settings_from_the_volume_that_config_writes() -> None:
    written = {
        volume: target for volume, target in services()["config"].mounts.items() if volume != "network"
    }
    for name, service in NODES.items():
        ((volume, inside),) = service.mounts.items()
        assert written[volume] == plan()["nodes"][name]["folder"]
        assert service.command == [f"--lnddir={inside}"]
        assert f"--lnddir={inside}" in service.health
    bitcoind = services()["bitcoind"]
    ((volume, inside),) = bitcoind.mounts.items()
    assert written[volume] == plan()["bitcoind"]["folder"]
    assert bitcoind.environment["BITCOIN_DATA"] == inside
    assert f"-datadir={inside}" in bitcoind.health


@pytest.mark.parametrize("name", services())
def test_ports_are_published_on_this_machine_only(name: str) -> None:
    assert [port for port in services()[name].ports if not port.startswith("127.0.0.1:")] == []


def test_no_two_services_publish_one_port() -> None:
    published = [port.rpartition(":")[0] for service in services().values() for port in service.ports]
    assert len(published) == len(set(published))


def test_the_broker_is_published_where_the_sdk_and_its_own_settings_expect_it() -> None:
    broker = services()["broker"]
    port = BrokerSettings.model_fields["port"].default
    assert broker.ports == [f"127.0.0.1:{port}:{port}"]
    assert broker.environment["LIGHTWORK_BROKER_PORT"] == str(port)
    assert f"http://127.0.0.1:{port}" == DEFAULT_BROKER


def test_the_broker_answers_to_every_url_under_which_it_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = services()["broker"]
    for name, value in broker.environment.items():
        monkeypatch.setenv(name, value)
    origins = BrokerSettings().served_origins()
    called = {services()[name].environment["LIGHTWORK_BROKER"] for name in AGENTS} | {DEFAULT_BROKER}
    assert called <= set(origins)


def test_every_variable_of_the_broker_is_a_setting() -> None:
    names = {f"LIGHTWORK_BROKER_{name.upper()}" for name in BrokerSettings.model_fields}
    assert services()["broker"].environment.keys() <= names


def test_services_call_lnd_at_the_ports_of_the_plan() -> None:
    nodes = plan()["nodes"]
    broker, provider = nodes["broker"], nodes["provider"]
    address = services()["broker"].environment["LIGHTWORK_BROKER_LND_ADDRESS"]
    assert address == f"{broker['host']}:{broker['grpc_port']}"
    for name in AGENTS:
        rest = services()[name].environment["LIGHTWORK_LND_REST"]
        assert rest == f"https://{provider['host']}:{provider['rest_port']}"
    chain = plan()["bitcoind"]
    url = services()["chainwatch"].environment["CHAINWATCH_RPC_URL"]
    assert url == f"http://{chain['host']}:{chain['rpc_port']}"


@pytest.mark.parametrize(("profile", "node"), [("compose", "buyer"), ("compose-provider", "provider")])
def test_a_profile_for_the_host_leads_to_the_published_port_of_its_node(
    tmp_path: Path, profile: str, node: str
) -> None:
    folder = tmp_path / "lightwork"
    folder.mkdir()
    (folder / f"{profile}.toml").write_text((REPOSITORY / f"docker/host/{profile}.toml").read_text())
    loaded = Profile.load(name=profile, environ={"XDG_CONFIG_HOME": str(tmp_path)})
    (published,) = NODES[node].ports
    outside, _, inside = published.rpartition(":")
    assert int(inside) == plan()["nodes"][node]["rest_port"]
    assert loaded.broker == DEFAULT_BROKER
    assert loaded.lnd is not None
    assert loaded.lnd.url == f"https://{outside}"
    assert loaded.lnd.macaroon == folder / "compose" / f"{node}.macaroon"


def test_every_sample_agent_has_a_service_with_a_key_of_its_own() -> None:
    volumes: list[str] = []
    for name in AGENTS:
        service = services()[name]
        assert service.command == ["lightwork", "run", f"/opt/sample-agents/{name}.py"]
        key = Path(service.environment["LIGHTWORK_KEY_FILE"])
        volumes += [volume for volume, target in service.mounts.items() if Path(target) in key.parents]
    assert len(set(volumes)) == len(AGENTS)


def test_nobody_waits_for_what_cannot_come_true() -> None:
    for service in services().values():
        for name, condition in service.after.items():
            assert condition == (COMPLETED if name in ONCE else HEALTHY), (service.name, name)
            assert condition == COMPLETED or services()[name].health, (service.name, name)


@pytest.mark.parametrize("name", STAYING)
def test_everything_that_stays_is_given_time_to_stop(name: str) -> None:
    assert "stop_grace_period" in services()[name].raw


@pytest.mark.parametrize("name", ["broker", *AGENTS])
def test_what_serves_strangers_runs_as_nobody_in_particular(name: str) -> None:
    raw = services()[name].raw
    assert "user" not in raw  # the image's own, which is not root
    assert raw["read_only"] is True
    assert raw["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in raw["security_opt"]
    read_only = [text for text in services()[name].volumes if text.startswith("for-")]
    assert read_only
    assert all(text.endswith(":ro") for text in read_only)


def test_only_one_shots_see_the_nodes_own_folders() -> None:
    nodes = {volume for service in (*NODES.values(), services()["bitcoind"]) for volume in service.mounts}
    seers = {
        service.name
        for service in services().values()
        if nodes & service.mounts.keys() and not service.runs_once
    }
    assert seers == {"bitcoind", *(service.name for service in NODES.values())}


def test_every_volume_is_declared_and_used() -> None:
    used = {volume for service in services().values() for volume in service.mounts}
    assert used == set(document()["volumes"])


def test_no_secret_stands_in_the_file() -> None:
    text = COMPOSE_FILE.read_text().lower()
    assert re.findall(r"^[^#\n]*(?:passw|rpcauth|secret|seed|[0-9a-f]{32})[^\n]*$", text, re.MULTILINE) == []
