"""Credit mode by the command line, each party in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from databases import Look
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


@dataclass
class Shop:
    """A broker and a provider that sells on credit, in processes of their own."""

    folder: Path
    url: str
    seller: dict[str, str]
    buyer: dict[str, str]

    async def sell(self) -> None:
        """Sell a job for 100 sats, and wait until they are owed."""
        owed = (await _balance(self.seller))["balance_msat"] + 100_000
        hire = ("hire", "shout", "--text", "hi", "--max", "200")
        code, job = await command(self.buyer, *hire, "--credit")
        assert code == 0
        assert job["result"] == "HI"

        async def is_owed() -> bool:
            return (await _balance(self.seller))["balance_msat"] == owed

        await until(is_owed, what="the price is owed")

    @property
    def taking(self) -> dict[str, str]:
        """The seller, with a wallet to take what it is owed."""
        return party(self.folder, "seller", broker=self.url, wallet="sellers")

    async def health(self) -> int:
        async with httpx2.AsyncClient(trust_env=False) as client:
            return (await client.get(f"{self.url}/v1/health")).status_code

    def forge(self, sql: str) -> None:
        look = Look(str(self.folder / "data" / "broker.sqlite"))
        look.unguard("escrow")
        look.change(sql)
        look.close()


@asynccontextmanager
async def open_shop(folder: Path) -> AsyncGenerator[Shop]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    agent = folder / "shouter.py"
    agent.write_text(AGENT)
    own = {"LIGHTWORK_BROKER_DATA_DIR": str(folder / "data"), "LIGHTWORK_BROKER_WATCHDOG_SECONDS": "1"}
    operator = party(folder, "operator", broker=url) | own
    seller = party(folder, "seller", broker=url)
    arguments = ["broker", "run", "--network", "simulated", "--port", str(port)]
    with child(arguments, operator, folder / "broker.log"):
        await until(lambda: _is_listed(url, at_least=0), what="the broker answers")
        with child(["run", "--credit", str(agent)], seller, folder / "agent.log"):
            await until(lambda: _is_listed(url, at_least=1), what="the task is listed")
            yield Shop(folder, url, seller, party(folder, "buyer", broker=url, wallet="buyer"))


async def test_a_provider_without_a_wallet_earns_and_takes_what_it_is_owed(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        code, refused = await command(shop.buyer, "hire", "shout", "--text", "hi", "--max", "200")
        assert code == 7
        assert refused["error"]["code"] == "mode_not_allowed"
        await shop.sell()
        seller, taking = shop.seller, shop.taking
        assert (await command(seller, "withdraw", "--amount", "10"))[0] == 2, "this profile has no wallet"
        code, withdrawal = await command(taking, "withdraw", "--amount", "90", "--max-fee", "5")
        assert code == 0
        assert (withdrawal["status"], withdrawal["amount_msat"]) == ("paid", 90_000)
        assert (await _balance(seller))["balance_msat"] == 10_000
        code, too_much = await command(taking, "withdraw", "--amount", "90")
        assert code == 7
        assert too_much["error"]["code"] == "balance_too_low"
        assert (await _balance(seller))["balance_msat"] == 10_000


async def test_who_withdraws_while_payouts_are_stopped_is_told_at_once_what_it_waits_for_and_is_paid_later(
    tmp_path: Path,
) -> None:
    async with open_shop(tmp_path) as shop:
        await shop.sell()
        await asyncio.to_thread(shop.forge, "UPDATE escrow SET accepted_msat = accepted_msat + 1")

        async def is_stopped() -> bool:
            return await shop.health() == 503

        await until(is_stopped, what="the watchdog has stopped payouts")
        code, waiting = await command(shop.taking, "withdraw", "--amount", "90", "--max-fee", "5")
        assert code == 4
        assert waiting["error"]["code"] == "withdrawal_unknown"
        assert "until its operator has looked at its books" in waiting["error"]["message"]
        assert (await _balance(shop.seller))["withdrawing_msat"] == 95_000
        await asyncio.to_thread(shop.forge, "UPDATE escrow SET accepted_msat = accepted_msat - 1")

        async def is_sound() -> bool:
            return not await is_stopped()

        await until(is_sound, what="payouts go on")
        show = waiting["error"]["hint"].split()[1:]
        code, paid = await command(shop.taking, *show)
        assert (code, paid["status"]) == (0, "paid")


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
