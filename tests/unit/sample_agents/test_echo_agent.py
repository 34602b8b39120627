"""The six lines of the README."""

from __future__ import annotations

from datetime import UTC, datetime

from unit.sample_agents.loading import FOLDER, sample

from lightwork import JobContext, sats
from lightwork.publishing import advert
from lightwork_contracts.ids import JobId


async def test_echo_returns_the_text_unchanged_for_ten_satoshis() -> None:
    agent = sample("echo")
    task = agent.tasks["echo"]
    context = JobContext(job_id=JobId("job_" + "0" * 26), deadline=datetime(2030, 1, 1, tzinfo=UTC))
    assert await task.run({"text": " hi\n"}, context) == " hi\n"
    assert await task.quote({"text": ""}) == sats(10)
    assert advert(task, agent_name=agent.name).description == "Return the text unchanged."


def test_echo_is_seven_lines_of_code_at_most() -> None:
    lines = (FOLDER / "echo.py").read_text().splitlines()
    code = [line for line in lines if line.strip() and '"""' not in line]
    assert len(code) <= 7
