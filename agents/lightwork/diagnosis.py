"""Looking for what is wrong with a machine, a profile, a wallet or a broker, and saying what to do. Changes nothing."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path

import httpx2

from lightwork.broker import Broker
from lightwork.connection import BrokerConnection
from lightwork.errors import LightworkError, WalletRefused
from lightwork.profile import Profile, config_folder
from lightwork.wallet import Wallet
from lightwork_contracts.bolt11 import InvoiceError, read_invoice
from lightwork_contracts.money import sats
from lightwork_contracts.wire.info import BrokerInfo

EXTRAS = {"broker": ("fastapi", "sqlalchemy"), "lnd": ("grpc", "lndgrpc"), "samples": ("sympy", "bm25s")}
LEAST_DISK_BYTES = 2 * 1024**3
MOST_SKEW_SECONDS = 30
CALL_SECONDS = 5.0


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: what was found, and what to do about it. Never holds a secret."""

    check: str
    level: Level
    found: str
    advice: str = ""


def _ok(check: str, found: str) -> Finding:
    return Finding(check, Level.OK, found)


async def examine(
    *,
    profile_name: str | None,
    broker_url: str | None,
    environ: Mapping[str, str],
    clock: Callable[[], float],
) -> AsyncIterator[Finding]:
    """Look at everything, one finding at a time, the machine first."""
    for finding in _machine(environ):
        yield finding
    try:
        profile = Profile.load(name=profile_name, environ=environ)
    except LightworkError as error:
        yield Finding(
            "profile", Level.PROBLEM, error.message, error.hint or f"mend it in {config_folder(environ)}"
        )
        return
    yield _ok("profile", f"{profile.name}: broker {broker_url or profile.broker}")
    yield _key(profile)
    info: BrokerInfo | None = None
    async for finding, seen in _broker(profile, broker_url or profile.broker, clock=clock):
        info = seen or info
        yield finding
    async for finding in _wallet(profile, broker_url, info=info):
        yield finding


def _machine(environ: Mapping[str, str]) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield _ok("python", version)  # an older one does not install Lightwork
    for extra, modules in EXTRAS.items():
        missing = [module for module in modules if find_spec(module) is None]
        if missing:
            advice = f"pip install 'lightwork[{extra}]', if you want it"
            yield Finding(f"extra {extra}", Level.WARNING, f"not installed ({', '.join(missing)})", advice)
        else:
            yield _ok(f"extra {extra}", "installed")
    home = Path(environ.get("HOME") or Path.home())
    free = shutil.disk_usage(home if home.exists() else "/").free
    words = f"{free / 1024**3:.1f} GiB free"
    if free < LEAST_DISK_BYTES:
        yield Finding("disk", Level.WARNING, words, "a regtest network and its programs take up to 2 GiB")
    else:
        yield _ok("disk", words)
    yield from _programs(environ)


def _programs(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Ask `lightwork-regtest doctor` for bitcoind and lnd: only those who run nodes here need them."""
    program = Path(sys.executable).with_name("lightwork-regtest")
    try:
        done = subprocess.run(
            [str(program), "doctor", "--json"],
            env=dict(environ),
            capture_output=True,
            timeout=60,
            check=False,
        )
        found = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        yield Finding("nodes", Level.WARNING, "lightwork-regtest does not answer", "lightwork-regtest doctor")
        return
    for one in found:
        if one["check"].startswith("program "):
            level = Level.OK if one["ok"] else Level.WARNING
            yield Finding(one["check"], level, one["found"], one["advice"])


def _key(profile: Profile) -> Finding:
    path = profile.key_file
    if not path.exists():
        return _ok("key", f"{path} will be made at the first use")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        return Finding("key", Level.PROBLEM, f"others may read {path} (mode {mode:o})", f"chmod 600 {path}")
    try:
        return _ok("key", f"{profile.secret_key().public} in {path}")
    except LightworkError as error:
        return Finding(
            "key", Level.PROBLEM, error.message, error.hint or "name another key_file in the profile"
        )


async def _broker(
    profile: Profile, url: str, *, clock: Callable[[], float]
) -> AsyncIterator[tuple[Finding, BrokerInfo | None]]:
    try:
        api = Broker(BrokerConnection(url, key=None, attempts=1))
    except LightworkError as error:
        yield Finding("broker", Level.PROBLEM, error.message, error.hint or ""), None
        return
    try:
        info = await api.info()
    except LightworkError as error:
        advice = "start one: lightwork dev, or lightwork broker run; or set LIGHTWORK_BROKER"
        yield Finding("broker", Level.PROBLEM, error.message, advice), None
        return
    finally:
        await api.close()
    yield _ok("broker", f"{info.name} {info.version} on {info.network}"), info
    skew = info.now - clock()
    if abs(skew) > MOST_SKEW_SECONDS:
        words = f"this machine is {abs(skew):.0f} s {'behind' if skew > 0 else 'ahead of'} the broker"
        yield (
            Finding(
                "clock", Level.PROBLEM, words, "set the clock: signed requests are refused with auth_stale"
            ),
            None,
        )
    else:
        yield _ok("clock", "agrees with the broker's"), None
    for name, pinned, shown in (
        ("broker_pubkey", profile.broker_pubkey, info.pubkey),
        ("broker_node", profile.broker_node, info.node),
    ):
        if pinned is not None and pinned != shown:
            words = f"the profile pins {pinned[:16]}…, the broker shows {shown[:16]}…"
            advice = (
                "somebody else answers, or the broker has changed: ask its operator before you change the pin"
            )
            yield Finding(name, Level.PROBLEM, words, advice), None
    yield await _health(url), None


async def _health(url: str) -> Finding:
    try:
        async with httpx2.AsyncClient(trust_env=False, timeout=CALL_SECONDS) as client:
            answer = (await client.get(f"{url.rstrip('/')}/v1/health")).json()
    except (httpx2.HTTPError, ValueError) as error:
        return Finding(
            "broker health", Level.PROBLEM, f"cannot be read: {type(error).__name__}", "see its log"
        )
    if not answer.get("ok"):
        advice = "its operator must look at its node: lightwork-regtest doctor, or lncli getinfo"
        return Finding("broker health", Level.PROBLEM, str(answer.get("detail") or "not well"), advice)
    unknown = answer.get("unknown_payments", 0)
    if unknown:
        words = f"{unknown} payouts whose outcome is not known"
        return Finding(
            "broker health", Level.WARNING, words, "they are resolved when the node answers; see its log"
        )
    return _ok("broker health", f"well, at height {answer.get('block_height')}")


async def _wallet(
    profile: Profile, broker_url: str | None, *, info: BrokerInfo | None
) -> AsyncIterator[Finding]:
    try:
        wallet = profile.wallet(broker=broker_url)
    except LightworkError as error:
        advice = f"to hire, you need one: {error.hint}" if error.hint else ""
        yield Finding("wallet", Level.WARNING, error.message, advice)
        return
    try:
        yield await _invoice(wallet, info=info)
    finally:
        await wallet.close()


async def _invoice(wallet: Wallet, *, info: BrokerInfo | None) -> Finding:
    """Making an invoice moves no money and shows that the wallet answers, is unlocked and may be used."""
    try:
        made = await wallet.create_invoice(
            amount_msat=sats(1), expiry_seconds=60, memo="lightwork doctor", final_cltv=80
        )
    except WalletRefused as error:
        if "permission denied" in error.message:
            return _ok("wallet", "answers; its macaroon may not make invoices: enough to hire, not to sell")
        return Finding("wallet", Level.PROBLEM, error.message, error.hint or "see the node's log")
    except LightworkError as error:
        advice = "is the node running and unlocked, and are certificate and macaroon its own?"
        return Finding("wallet", Level.PROBLEM, error.message, error.hint or advice)
    try:
        network = read_invoice(made.invoice).network.value
    except InvoiceError as error:
        return Finding("wallet", Level.PROBLEM, f"it makes invoices that cannot be read: {error.message}", "")
    if info is not None and network != info.network:
        words = f"it is on {network}, the broker on {info.network}"
        return Finding(
            "wallet", Level.PROBLEM, words, "use a wallet on the broker's network, or another broker"
        )
    return _ok("wallet", f"answers, on {network}")
