"""Profiles: which broker, whose key, which wallet. Secrets stay in files of their own."""

from __future__ import annotations

import os
import secrets
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from lightwork.errors import ProfileInvalid, WalletMissing
from lightwork_contracts.errors import KeyCode, KeyFault
from lightwork_contracts.signed.keys import SecretKey

if TYPE_CHECKING:
    from lightwork.wallet import Wallet

DEFAULT_BROKER = "http://127.0.0.1:8402"
WALLET_VARIABLES = ("LIGHTWORK_LND_REST", "LIGHTWORK_LND_TLS_CERT", "LIGHTWORK_LND_MACAROON")


class _WalletTable(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    lnd_rest: str | None = None
    tls_cert: Path | None = None
    macaroon: Path | None = None
    simulated: str | None = None
    network: str | None = None


class _ProfileFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    broker: str | None = None
    broker_pubkey: str | None = None
    broker_node: str | None = None
    key_file: Path | None = None
    wallet: _WalletTable = _WalletTable()


@dataclass(frozen=True, slots=True)
class LndFiles:
    """Where one's own LND answers, and the two files that open it."""

    url: str
    tls_cert: Path
    macaroon: Path


@dataclass(frozen=True, slots=True)
class Profile:
    """What the SDK and the command line work with. `broker_pubkey` and `broker_node` pin the broker.

    `simulated_network` is the URL of the network of `simulated_wallet`, if not the broker's own.
    """

    name: str
    broker: str
    key_file: Path
    lnd: LndFiles | None = None
    simulated_wallet: str | None = None
    broker_pubkey: str | None = None
    broker_node: str | None = None
    simulated_network: str | None = None

    @classmethod
    def load(cls, *, name: str | None = None, environ: Mapping[str, str] | None = None) -> Profile:
        """Read `~/.config/lightwork/<name>.toml`, if there, and let LIGHTWORK_* variables win over it.

        Raises:
            ProfileInvalid: the file, or a variable, cannot be used.
        """
        env = os.environ if environ is None else environ
        chosen = name or env.get("LIGHTWORK_PROFILE") or "default"
        folder = config_folder(env)
        if chosen != Path(chosen).name or chosen.startswith("."):
            raise ProfileInvalid(f"'{chosen}' is no name for a profile")
        file = _read(folder / f"{chosen}.toml")
        return cls(
            name=chosen,
            broker=env.get("LIGHTWORK_BROKER") or file.broker or DEFAULT_BROKER,
            key_file=_key_file(folder, env, file, chosen),
            lnd=_lnd(folder, env, file.wallet),
            simulated_wallet=env.get("LIGHTWORK_SIMULATED_WALLET") or file.wallet.simulated,
            broker_pubkey=env.get("LIGHTWORK_PIN_BROKER") or file.broker_pubkey,
            broker_node=env.get("LIGHTWORK_PIN_NODE") or file.broker_node,
            simulated_network=env.get("LIGHTWORK_SIMULATED_NETWORK") or file.wallet.network,
        )

    def secret_key(self, *, entropy: Callable[[int], bytes] = secrets.token_bytes) -> SecretKey:
        """Read the key, making it at the first use, readable by its owner alone.

        Raises:
            ProfileInvalid: the file cannot be read, others may read it, or it holds no key.
        """
        try:
            return SecretKey.read(self.key_file)
        except KeyFault as error:
            if error.code != KeyCode.FILE_MISSING:
                raise ProfileInvalid(error.message) from None
        key = SecretKey.generate(entropy(32))
        try:
            key.create_file(self.key_file)
        except KeyFault as error:
            if error.code == KeyCode.FILE_EXISTS:
                # Another process was faster; its key is the one.
                return self.secret_key(entropy=entropy)
            raise ProfileInvalid(error.message) from None
        return key

    def wallet(self, *, broker: str | None = None) -> Wallet:
        """Open the wallet: a simulated one, if named, before one's own LND.

        A simulated one is at the profile's simulated network, else at `broker`, else at the profile's broker.

        Raises:
            WalletMissing: none is configured.
            ProfileInvalid: one of its files cannot be read.
        """
        if self.simulated_wallet is not None:
            from lightwork.simulated_wallet import SimulatedWallet

            return SimulatedWallet(self.simulated_network or broker or self.broker, self.simulated_wallet)
        if self.lnd is None:
            raise WalletMissing(f"profile '{self.name}' has no wallet")
        from lightwork.lnd_wallet import LndWallet

        return LndWallet.from_files(url=self.lnd.url, tls_cert=self.lnd.tls_cert, macaroon=self.lnd.macaroon)


def config_folder(environ: Mapping[str, str]) -> Path:
    """The folder of the profiles: `$XDG_CONFIG_HOME/lightwork`, by default `~/.config/lightwork`."""
    base = environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path(environ.get("HOME") or Path.home()) / ".config") / "lightwork"


def _read(path: Path) -> _ProfileFile:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return _ProfileFile()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ProfileInvalid(f"{path}: {error}") from None
    try:
        return _ProfileFile.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ProfileInvalid(
            f"{path}: {'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
        ) from None


def _lnd(folder: Path, env: Mapping[str, str], table: _WalletTable) -> LndFiles | None:
    url, cert, secret = (env.get(name) or None for name in WALLET_VARIABLES)
    names, base = WALLET_VARIABLES, Path.cwd()
    # Never half of one and half of the other: the macaroon of one node must not be sent to another.
    if (url, cert, secret) == (None, None, None):
        names, base = ("lnd_rest", "tls_cert", "macaroon"), folder
        url = table.lnd_rest
        cert, secret = (None if path is None else str(path) for path in (table.tls_cert, table.macaroon))
    if (url, cert, secret) == (None, None, None):
        return None
    if url is None or cert is None or secret is None:
        given = zip(names, (url, cert, secret), strict=True)
        missing = ", ".join(name for name, value in given if value is None)
        raise ProfileInvalid(f"the wallet is only half configured: {missing} is missing")
    if not url.startswith("https://"):
        raise ProfileInvalid(
            f"'{url}' is no URL of LND's REST interface", hint="as in https://127.0.0.1:8080"
        )
    return LndFiles(url=url, tls_cert=_path(base, cert), macaroon=_path(base, secret))


def _key_file(folder: Path, env: Mapping[str, str], file: _ProfileFile, name: str) -> Path:
    given = env.get("LIGHTWORK_KEY_FILE")
    if given:
        return _path(Path.cwd(), given)
    return _path(folder, str(file.key_file) if file.key_file is not None else f"{name}.key")


def _path(base: Path, path: str) -> Path:
    """A path in the profile counts from its folder, one in the environment from where one is."""
    expanded = Path(path).expanduser()
    return expanded if expanded.is_absolute() else base / expanded
