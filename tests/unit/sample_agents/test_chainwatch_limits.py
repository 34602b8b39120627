"""What chainwatch refuses without asking a node, and what it says when there is none."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from unit.sample_agents.loading import FOLDER, sample

from lightwork import Agent, JobContext, TaskFailed
from lightwork.errors import AgentNotLoaded, InputInvalid
from lightwork.plugins import load_agents
from lightwork.publishing import tasks_of
from lightwork_contracts.ids import JobId

CONTEXT = JobContext(job_id=JobId("job_" + "0" * 26), deadline=datetime(2030, 1, 1, tzinfo=UTC))


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of ours on which nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch, closed_port: int, tmp_path: Path) -> Agent:
    cookie = tmp_path / ".cookie"
    cookie.write_text("__cookie__:s3cret")
    monkeypatch.setenv("CHAINWATCH_RPC_URL", f"http://127.0.0.1:{closed_port}")
    monkeypatch.setenv("CHAINWATCH_RPC_COOKIE_FILE", str(cookie))
    return sample("chainwatch")


def test_its_five_tasks_can_be_listed(agent: Agent) -> None:
    assert [task.name for task, _ in tasks_of([agent])] == [
        "chain-tip",
        "fee-rates",
        "transaction",
        "address-coins",
        "mempool",
    ]


@pytest.mark.parametrize("task", ["chain-tip", "fee-rates", "mempool"])
async def test_a_node_that_is_down_is_told_without_its_address_or_password(agent: Agent, task: str) -> None:
    with pytest.raises(TaskFailed) as caught:
        await agent.tasks[task].run({}, CONTEXT)
    assert caught.value.message == "the Bitcoin node does not answer"


def test_a_cookie_that_is_gone_is_told_as_a_node_that_is_down(agent: Agent) -> None:
    Path(os.environ["CHAINWATCH_RPC_COOKIE_FILE"]).unlink()
    with pytest.raises(TaskFailed, match="does not answer"):
        agent.tasks["chain-tip"].function()


@pytest.mark.parametrize("txid", ["", "00" * 31, "zz" * 32, "00" * 33, "00" * 32 + "\n", "0x" + "00" * 31])
async def test_a_text_that_is_no_txid_never_reaches_the_node(agent: Agent, txid: str) -> None:
    with pytest.raises(InputInvalid):
        await agent.tasks["transaction"].run({"txid": txid}, CONTEXT)


@pytest.mark.parametrize(
    "address",
    ["", "short", "x" * 101, "bcrt1q)#a,raw(51", "addr(abc)defghijkl", "bcrt1qabc def ghi jkl", "é" * 20],
)
async def test_a_text_that_could_break_out_of_a_descriptor_never_reaches_the_node(
    agent: Agent, address: str
) -> None:
    with pytest.raises(InputInvalid):
        await agent.tasks["address-coins"].run({"address": address}, CONTEXT)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "CHAINWATCH_RPC_URL"),
        ({"CHAINWATCH_RPC_URL": "https://node"}, "CHAINWATCH_RPC_URL"),
        ({"CHAINWATCH_RPC_URL": "http://user:secret@node"}, "without user and password"),
        ({"CHAINWATCH_RPC_URL": "http://127.0.0.1:18443"}, "cannot log in"),
        ({"CHAINWATCH_RPC_URL": "http://127.0.0.1:18443", "CHAINWATCH_RPC_USER": "u"}, "cannot log in"),
    ],
)
def test_settings_that_cannot_work_stop_it_from_being_sold(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], said: str
) -> None:
    for name in [name for name in os.environ if name.startswith("CHAINWATCH_")]:
        monkeypatch.delenv(name)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(AgentNotLoaded, match=said) as caught:
        load_agents(FOLDER / "chainwatch.py")
    assert "secret" not in str(caught.value)
