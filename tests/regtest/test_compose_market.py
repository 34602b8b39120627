"""What docker-compose.yml starts becomes a market: its services run here as processes on real nodes."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from compose_processes import ComposeProcesses

pytestmark = [pytest.mark.regtest, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposeProcesses]:
    with ComposeProcesses(tmp_path_factory.mktemp("compose")) as processes:
        processes.up()
        processes.take_profiles()
        yield processes


def hire(compose: ComposeProcesses, *words: str) -> dict:
    """Hire from the host and return the job as it is once the broker has closed its books on it."""
    job = asked(compose, "hire", *words)
    for _ in range(200):
        # The buyer has its result when the payment goes through, a moment before the broker writes that down.
        if job["status"] != "releasing":
            return job
        job = asked(compose, "jobs", "show", job["id"])
    raise AssertionError(f"{job['job_id']} is not settled\n{compose.logs()}")


def asked(compose: ComposeProcesses, *words: str) -> dict:
    done = compose.host("lightwork", *words, "--profile", "compose", "--json")
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{compose.logs()}"
    return json.loads(done.stdout.splitlines()[-1])


def wait_for_sale(compose: ComposeProcesses, *tasks: str) -> None:
    for _ in range(200):
        found = compose.host("lightwork", "search", "--profile", "compose", "--json").stdout
        if all(f'"{task}"' in found for task in tasks):
            return
    raise AssertionError(f"{tasks} are not for sale\n{compose.logs()}")


def test_a_hire_from_the_host_is_paid_for(compose: ComposeProcesses) -> None:
    wait_for_sale(compose, "echo")
    job = hire(compose, "echo", "--text", "hi", "--max", "20")
    assert (job["status"], job["result"]) == ("settled", "hi")


def test_chainwatch_reaches_the_chain_with_the_password_that_was_drawn(compose: ComposeProcesses) -> None:
    wait_for_sale(compose, "chain-tip")
    job = hire(compose, "chain-tip", "--max", "5")
    assert job["status"] == "settled"
    assert job["result"]["network"] == "regtest"


def test_a_second_up_leaves_the_network_and_its_password_as_they_were(compose: ComposeProcesses) -> None:
    nodes = compose.folder / "root" / "nodes"
    conf = Path(compose.nodes["broker"]["folder"].replace("/nodes", str(nodes)))
    before = (conf / "lnd.conf").read_text()
    wait_for_sale(compose, "echo")
    key = hire(compose, "echo", "--text", "1", "--max", "20")
    compose.up()
    assert (conf / "lnd.conf").read_text() == before
    assert hire(compose, "echo", "--text", "2", "--max", "20")["result"] == "2" != key["result"]


def test_each_party_gets_only_its_own_node_and_no_admin_macaroon(compose: ComposeProcesses) -> None:
    root = compose.folder / "root" / "for"
    found = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    assert found == [
        "broker/broker.macaroon",
        "broker/tls.cert",
        "chainwatch/cookie",
        "host/compose-provider.toml",
        "host/compose.toml",
        "host/compose/buyer.cert",
        "host/compose/buyer.macaroon",
        "host/compose/provider.cert",
        "host/compose/provider.macaroon",
        "provider/provider.macaroon",
        "provider/tls.cert",
    ]
    modes = {stat.S_IMODE((root / name).stat().st_mode) for name in found}
    assert modes == {0o600}
    admin = {path.read_bytes() for path in (compose.folder / "root").rglob("admin.macaroon")}
    assert len(admin) == 3
    assert admin.isdisjoint((root / name).read_bytes() for name in found)
