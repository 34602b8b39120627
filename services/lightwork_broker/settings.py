"""The operator's settings, one class per concern. Environment variables begin with LIGHTWORK_BROKER_."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, StringConstraints, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from lightwork_contracts.ids import HEX32
from lightwork_contracts.money import Msat

DATABASE_FILE = "broker.sqlite"
"""The database's name in the data directory, where there is no server."""


class LightningNetwork(StrEnum):
    """What stands behind the Lightning ports."""

    LND = "lnd"
    SIMULATED = "simulated"


class BrokerSettings(BaseSettings):
    """Where the broker listens, where it keeps its things, and what it charges.

    Amounts are msat, times seconds, time locks blocks.
    """

    model_config = SettingsConfigDict(
        env_prefix="LIGHTWORK_BROKER_", env_file=None, extra="ignore", hide_input_in_errors=True
    )

    name: str = "Lightwork broker"
    host: str = "127.0.0.1"
    port: int = Field(default=8402, ge=0, le=65535)
    origins: tuple[str, ...] = Field(
        default=(), description="URLs under which clients reach this broker; host and port if empty"
    )
    data_dir: Path = Field(default=Path("~/.local/share/lightwork/broker"))
    database: SecretStr = Field(
        default=SecretStr(""),
        description="postgresql://... that several brokers may share; if empty, a file in the data directory",
    )
    adopt: bool = Field(
        default=False,
        description="take over a database whose broker.key is lost; refused while a job is open",
    )
    operators: tuple[Annotated[str, StringConstraints(pattern=HEX32)], ...] = Field(
        default=(), description="keys that may rule on disputes, besides our own"
    )

    network: LightningNetwork = Field(
        default=LightningNetwork.LND,
        description="`simulated` is play money, gone with the process that holds it",
    )
    simulated_url: Annotated[str, StringConstraints(pattern=r"^(https?://.+)?$")] = Field(
        default="",
        description="of `lightwork broker network`; if empty, the network is in the broker's process",
    )
    lnd_address: str = Field(default="127.0.0.1:10009", description="host:port of LND's gRPC")
    lnd_tls_cert: Path = Path("~/.lnd/tls.cert")
    lnd_macaroon: Path = Path("~/.lnd/data/chain/bitcoin/mainnet/admin.macaroon")

    fee_base_msat: Msat = Field(default=Msat(1_000), ge=0)
    fee_ppm: int = Field(default=10_000, ge=0, le=1_000_000)
    min_price_msat: Msat = Field(default=Msat(1_000), ge=1)
    max_price_msat: Msat = Field(default=Msat(1_000_000_000), ge=1)
    routing_floor_msat: Msat = Field(default=Msat(1_000), ge=0)
    routing_cap_ppm: int = Field(default=20_000, ge=0, le=1_000_000)
    max_final_cltv: int = Field(default=144, ge=18)
    max_hold_cltv: int = Field(default=1_000, ge=80, le=2_016)
    guardian_margin_blocks: int = Field(default=40, ge=8)
    seconds_per_block: int = Field(default=600, ge=1)
    pay_seconds: int = Field(default=600, ge=5)
    forward_seconds: int = Field(default=600, ge=5)

    credit_ceiling_msat: Msat = Field(
        default=Msat(50_000_000),
        ge=0,
        description="the most that this broker lets itself owe one agent in credit mode; 0 gives no credit",
    )

    credit_ceiling_msat_of_all: Msat = Field(
        default=Msat(0),
        ge=0,
        description="the most that this broker lets itself owe all agents together; 0 is no limit",
    )

    withdraw_day_msat: Msat = Field(
        default=Msat(0),
        ge=0,
        description="the most that one agent may withdraw in 24 hours, routing included; 0 is no limit",
    )
    withdraw_day_msat_of_all: Msat = Field(
        default=Msat(0), ge=0, description="the same for all agents together; 0 is no limit"
    )
    withdrawals_at_once: int = Field(default=5, ge=1, description="withdrawals of one agent under way")
    withdrawals_at_once_of_all: int = Field(
        default=100,
        ge=1,
        le=483,
        description="the same for all agents together: each may hold an HTLC, and payouts need slots too",
    )

    requests_per_second_of_key: int = Field(
        default=50, ge=0, description="requests of one key a second, in the long run; 0 is no limit"
    )
    requests_at_once_of_key: int = Field(
        default=200, ge=0, description="requests of one key under way, streams and long polls; 0 is no limit"
    )
    requests_per_second_of_address: int = Field(
        default=500, ge=0, description="the same of one address; behind a proxy all clients share one: set 0"
    )
    open_jobs_of_buyer: int = Field(
        default=50, ge=1, description="jobs of one buyer that are not over, unpaid ones included"
    )
    open_jobs: int = Field(
        default=400,
        ge=1,
        description="jobs that are not over: each may hold an HTLC, and a channel has 483 slots",
    )
    held_htlcs_of_channel: int = Field(
        default=400,
        ge=1,
        le=483,
        description="a channel in which so many HTLCs wait counts as full; without room no job is quoted",
    )
    held_msat_of_peer: Msat = Field(
        default=Msat(5_000_000_000),
        ge=0,
        description="the most that may wait in the channels with one peer; what comes above it goes back at once",
    )

    withdrawals_a_day: int = Field(
        default=200,
        ge=1,
        description="withdrawals of one agent in 24 hours: one that fails costs nothing, and is in the books for ever",
    )
    listings_of_agent: int = Field(
        default=200, ge=1, description="listings of one agent, retired ones included"
    )
    versions_a_day: int = Field(
        default=200,
        ge=1,
        description="new listings and versions of one agent in 24 hours: each is kept for ever",
    )
    quotes_seconds: float = Field(
        default=3_600.0,
        ge=120,
        description="how long a quote that nobody hired on is kept, and its Idempotency-Key is known",
    )

    webhooks_private: bool = Field(
        default=False,
        description="send webhooks to plain HTTP and private addresses too; only where you trust whoever has a key",
    )

    lease_seconds: int = Field(
        default=15, ge=1, description="a provider that is silent for so long loses its job to another run"
    )

    max_body_bytes: int = Field(default=262_144, ge=1_024)
    sweep_seconds: float = Field(default=10.0, gt=0)
    watchdog_seconds: float = Field(
        default=60.0,
        gt=0,
        description="how often the books are compared with the node; a breach stops payouts",
    )
    orphans_seconds: float = Field(
        default=600.0,
        gt=0,
        description="how often the node is searched for payments that are held for us and that the database forgot",
    )
    node_patience_seconds: float = Field(default=30.0, ge=0)

    def directory(self) -> Path:
        """Return the data directory, made and closed to others."""
        path = self.data_dir.expanduser()
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.chmod(0o700)
        return path

    @field_validator("database")
    @classmethod
    def _is_a_server(cls, value: SecretStr) -> SecretStr:
        url = value.get_secret_value()
        if url and not url.startswith(("postgresql://", "postgres://")):
            raise ValueError("not a URL of PostgreSQL: postgresql://user@host:port/name")
        return value

    def key_file(self) -> Path:
        """Return where the broker's own key is, or will be."""
        return self.data_dir.expanduser() / "broker.key"

    def has_database(self) -> bool:
        """Tell whether there is a database already; of a server that is not asked here."""
        return bool(self.database.get_secret_value()) or (self.data_dir.expanduser() / DATABASE_FILE).exists()

    def database_place(self) -> str:
        """Return the server's URL, which is a secret, or the path of the file in the data directory."""
        return self.database.get_secret_value() or str(self.directory() / DATABASE_FILE)

    def served_origins(self) -> tuple[str, ...]:
        """Return the origins that a signed URL may begin with."""
        if self.origins:
            return tuple(origin.rstrip("/") for origin in self.origins)
        return tuple(
            f"http://{host}:{self.port}" for host in dict.fromkeys((self.host, "127.0.0.1", "localhost"))
        )
