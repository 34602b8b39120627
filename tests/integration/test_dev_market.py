"""`lightwork dev --simulated` and `lightwork doctor`, as an author uses them from two terminals."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from e2e_broker import free_port
from e2e_waiting import until

from lightwork.diagnosis import Level, examine

COMMAND = str(Path(sys.executable).with_name("lightwork"))
SHOUTER = """
from lightwork import Agent, sats

agent = Agent("shouter")


@agent.task(price=sats(10))
async def shout(text: str) -> str:
    \"\"\"Return the text in capitals.\"\"\"
    return text.upper()
"""


class Terminal:
    """One `lightwork dev` in a home of its own."""

    def __init__(self, home: Path, *arguments: str) -> None:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("LIGHTWORK_", "XDG_"))
        }
        self.env = kept | {"HOME": str(home), "XDG_CACHE_HOME": os.path.expanduser("~/.cache")}
        self.folder = home / ".local" / "state" / "lightwork" / "dev" / "default"
        self.log = home / "dev.log"
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [COMMAND, "dev", "--port", str(free_port()), "--json", *arguments],
                env=self.env,
                stdout=out,
                stderr=out,
            )

    async def facts(self) -> dict[str, Any]:
        """Wait until it is ready, and return what it says."""
        await until(self._is_ready, what="dev is ready", seconds=90)
        return json.loads(self.log.read_text().splitlines()[0])

    async def _is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return '"ready": true' in self.log.read_text()

    async def end(self) -> int:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)
        return await self.ended()

    async def ended(self) -> int:
        return await asyncio.to_thread(self.process.wait, 60)

    async def run(self, *words: str, who: str = "buyer", **more: str) -> tuple[int, str]:
        """Run a command in the buyer's or provider's shell."""
        line = f". {self.folder}/{who}.sh && exec " + " ".join(words)
        done = await asyncio.to_thread(
            subprocess.run,
            ["bash", "-c", line],
            env=self.env | more,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.returncode, done.stdout + done.stderr

    def pids(self) -> dict[str, int]:
        found = json.loads((self.folder / "pids.json").read_text())
        return {name: int(pid) for pid, name in found.items()}


@asynccontextmanager
async def dev(home: Path, *arguments: str) -> AsyncGenerator[Terminal]:
    terminal = Terminal(home, "--simulated", *arguments)
    try:
        yield terminal
    finally:
        if terminal.process.poll() is None:
            await terminal.end()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_market_is_up_a_hire_works_from_another_terminal_and_ctrl_c_leaves_nothing(
    tmp_path: Path,
) -> None:
    async with dev(tmp_path) as terminal:
        facts = await terminal.facts()
        assert facts["simulated"] is True
        code, said = await terminal.run("lightwork", "hire", "echo", "--text", "hi", "--max", "20")
        assert (code, said.splitlines()[-1]) == (0, "hi")
        pids = terminal.pids()
        assert sorted(pids) == ["agents", "broker"]
        assert await terminal.end() == 0
        assert [name for name, pid in pids.items() if _is_alive(pid)] == []
        assert (terminal.folder / "buyer.sh").stat().st_mode & 0o077 == 0


async def test_the_faucet_pays_a_providers_invoice(tmp_path: Path) -> None:
    async with dev(tmp_path) as terminal:
        await terminal.facts()
        program = (
            "import asyncio; from lightwork import Profile, sats\n"
            "async def main():\n"
            "    wallet = Profile.load().wallet()\n"
            "    made = await wallet.create_invoice(\n"
            "        amount_msat=sats(1000), expiry_seconds=600, memo='', final_cltv=80)\n"
            "    print(made.invoice); await wallet.close()\n"
            "asyncio.run(main())\n"
        )
        (tmp_path / "invoice.py").write_text(program)
        code, invoice = await terminal.run(sys.executable, str(tmp_path / "invoice.py"), who="provider")
        assert code == 0, invoice
        code, said = await terminal.run("lightwork", "pay", invoice.strip())
        assert (code, "1,000 sat paid" in said) == (0, True), said
        code, said = await terminal.run("lightwork", "pay", "lnbcrt1nonsense")
        assert (code, "this is no invoice" in said) == (2, True), said


async def test_an_agent_that_changes_is_started_again_and_a_broken_one_says_why(tmp_path: Path) -> None:
    file = tmp_path / "shouter.py"
    file.write_text(SHOUTER)
    async with dev(tmp_path, str(file)) as terminal:
        await terminal.facts()
        hire = ("lightwork", "hire", "shout", "--text", "hi", "--max", "20")
        assert (await terminal.run(*hire))[1].splitlines()[-1] == "HI"
        file.write_text(SHOUTER.replace("text.upper()", "text.upper() + '!'"))

        async def says(word: str) -> bool:
            return (await terminal.run(*hire))[1].splitlines()[-1] == word

        await until(lambda: says("HI!"), what="the new version answers")
        file.write_text(SHOUTER + "\nthis is no Python\n")

        async def complains() -> bool:
            return "invalid syntax" in terminal.log.read_text()

        await until(complains, what="dev says what is wrong with the file")
        file.write_text(SHOUTER.replace("text.upper()", "text.upper() + '?'"))
        await until(lambda: says("HI?"), what="the mended version answers")


async def test_a_part_that_ends_by_itself_is_said_and_all_the_rest_is_stopped(tmp_path: Path) -> None:
    async with dev(tmp_path) as terminal:
        await terminal.facts()
        pids = terminal.pids()
        os.kill(pids["broker"], signal.SIGKILL)
        assert await terminal.ended() != 0
        assert "the broker ended by itself" in terminal.log.read_text()
        assert not _is_alive(pids["agents"])


async def test_what_a_killed_dev_left_behind_is_ended_by_the_next_one(tmp_path: Path) -> None:
    first = Terminal(tmp_path, "--simulated")
    await first.facts()
    left = first.pids()
    first.process.kill()
    await first.ended()
    assert all(_is_alive(pid) for pid in left.values())
    async with dev(tmp_path) as second:
        await second.facts()

        async def gone() -> bool:
            return not any(_is_alive(pid) for pid in left.values())

        await until(gone, what="the earlier processes are gone")
        code, said = await second.run("lightwork", "hire", "echo", "--text", "hi", "--max", "20")
        assert (code, said.splitlines()[-1]) == (0, "hi")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("missing.py",), "there is no such file"), (("--name", "../x"), "is no name")],
)
async def test_a_wrong_use_is_refused_before_anything_is_started(
    tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    terminal = Terminal(tmp_path, "--simulated", *arguments)
    assert await terminal.ended() == 2
    assert words in terminal.log.read_text()
    assert not (terminal.folder / "pids.json").exists()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def market(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Terminal]:
    """One market for all that doctor looks at."""
    async with dev(tmp_path_factory.mktemp("home")) as terminal:
        await terminal.facts()
        yield terminal


async def _examine(terminal: Terminal, *words: str) -> tuple[int, dict[str, Any], str]:
    code, said = await terminal.run(*words, "lightwork", "doctor", "--json")
    return code, {one["check"]: one for one in json.loads(said)}, said


async def test_doctor_finds_nothing_wrong_with_a_market_that_works(market: Terminal) -> None:
    code, found, said = await _examine(market)
    assert code == 0, said
    expected = ("profile", "key", "broker", "clock", "broker health", "wallet")
    assert {check: found[check]["level"] for check in expected} == dict.fromkeys(expected, "ok")


@pytest.mark.parametrize(
    ("variable", "value", "check", "advice"),
    [
        ("LIGHTWORK_BROKER", "http://127.0.0.1:1", "broker", "start one"),
        ("LIGHTWORK_BROKER", "not a url", "broker", "scheme"),
        ("LIGHTWORK_PIN_BROKER", "ab" * 32, "broker_pubkey", "somebody else answers"),
        ("LIGHTWORK_LND_REST", "https://127.0.0.1:1", "profile", "mend it"),
        ("LIGHTWORK_PROFILE", "../x", "profile", "mend it"),
        ("LIGHTWORK_SIMULATED_WALLET", "NO NAME", "wallet", "lower-case"),
    ],
)
async def test_doctor_says_what_is_wrong_and_what_to_do(
    market: Terminal, variable: str, value: str, check: str, advice: str
) -> None:
    code, found, said = await _examine(market, "env", f"{variable}='{value}'")
    assert found[check]["level"] in ("problem", "warning"), said
    assert advice in found[check]["advice"] + found[check]["found"], said
    assert code == (1 if any(one["level"] == "problem" for one in found.values()) else 0)


@pytest.mark.parametrize(("ahead", "word"), [(3_600, "ahead of"), (-3_600, "behind")])
async def test_doctor_notices_a_clock_that_is_wrong(market: Terminal, ahead: int, word: str) -> None:
    url = (await market.facts())["broker"]
    found = examine(profile_name=None, broker_url=url, environ=market.env, clock=lambda: time.time() + ahead)
    (clock,) = [finding async for finding in found if finding.check == "clock"]
    assert clock.level is Level.PROBLEM
    assert word in clock.found


async def test_doctor_notices_a_key_that_others_may_read(market: Terminal) -> None:
    assert (await market.run("lightwork", "whoami"))[0] == 0
    key = market.folder / "buyer.key"
    key.chmod(0o644)
    code, found, said = await _examine(market)
    key.chmod(0o600)
    assert (code, found["key"]["level"]) == (1, "problem")
    assert f"chmod 600 {key}" in found["key"]["advice"]
    assert key.read_text().strip() not in said
