"""Credit mode by the command line, each party in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
from e2e_broker import free_port
from e2e_waiting import until

COMMAND = str(Path(sys.executable).with_name("lightwork"))
AGENT = """
from lightwork import Agent, sats

agent = Agent("shouter")


@agent.task(price=sats(100))
async def shout(text: str) -> str:
    \"\"\"Return the text in capitals.\"\"\"
    return text.upper()
"""


@contextmanager
def child(arguments: list[str], env: dict[str, str], log: Path) -> Generator[subprocess.Popen[bytes]]:
    with log.open("ab") as out:
        process = subprocess.Popen([COMMAND, *arguments], env=env, stdout=out, stderr=out)
    try:
        yield process
        process.terminate()
        assert process.wait(30) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


def party(folder: Path, name: str, *, broker: str, wallet: str | None = None) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("LIGHTWORK_")}
    own = {"XDG_CONFIG_HOME": str(folder / name), "LIGHTWORK_BROKER": broker, "TMPDIR": str(folder)}
    return kept | own | ({"LIGHTWORK_SIMULATED_WALLET": wallet} if wallet else {})


async def command(env: dict[str, str], *arguments: str) -> tuple[int, Any]:
    done = await asyncio.to_thread(
        subprocess.run,
        [COMMAND, *arguments, "--json"],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, json.loads(done.stdout)


async def test_a_provider_without_a_wallet_earns_and_takes_what_it_is_owed(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    agent = tmp_path / "shouter.py"
    agent.write_text(AGENT)
    operator = party(tmp_path, "operator", broker=url)
    seller = party(tmp_path, "seller", broker=url)
    buyer = party(tmp_path, "buyer", broker=url, wallet="buyer")
    arguments = ["broker", "run", "--network", "simulated", "--port", str(port)]
    with child(arguments, operator, tmp_path / "broker.log"):
        await until(lambda: _is_listed(url, at_least=0), what="the broker answers", seconds=60)
        with child(["run", "--credit", str(agent)], seller, tmp_path / "agent.log"):
            await until(lambda: _is_listed(url, at_least=1), what="the task is listed", seconds=60)
            hire = ("hire", "shout", "--text", "hi", "--max", "200")
            code, refused = await command(buyer, *hire)
            assert code == 7
            assert refused["error"]["code"] == "mode_not_allowed"
            code, job = await command(buyer, *hire, "--credit")
            assert code == 0
            assert job["result"] == "HI"

        async def owed() -> bool:
            return (await _balance(seller))["balance_msat"] == 100_000

        await until(owed, what="the price is owed")
        assert (await command(seller, "withdraw", "--amount", "10"))[0] == 2, "this profile has no wallet"
        taking = party(tmp_path, "seller", broker=url, wallet="sellers")
        code, withdrawal = await command(taking, "withdraw", "--amount", "90", "--max-fee", "5")
        assert code == 0
        assert (withdrawal["status"], withdrawal["amount_msat"]) == ("paid", 90_000)
        assert (await _balance(seller))["balance_msat"] == 10_000
        code, too_much = await command(taking, "withdraw", "--amount", "90")
        assert code == 7
        assert too_much["error"]["code"] == "balance_too_low"
        assert (await _balance(seller))["balance_msat"] == 10_000


async def _balance(env: dict[str, str]) -> dict[str, Any]:
    code, view = await command(env, "balance")
    assert code == 0
    return view


async def _is_listed(url: str, *, at_least: int) -> bool:
    try:
        async with httpx2.AsyncClient(trust_env=False) as client:
            found = (await client.get(f"{url}/v1/listings", params={"online": "true"})).json()
    except httpx2.TransportError:
        return False
    return len(found["listings"]) >= at_least
