"""What nodes, database and audit say at the end of a run."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import sqlalchemy as sa
from chaos.ground import Ground
from chaos.sellers import CREDIT_KEY
from chaos.verdict import Facts, JobFact, Payment
from e2e_client import SignedClient
from e2e_stage import NODES
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from lightwork_broker.db.engine import table_of
from lightwork_broker.db.place import open_database
from lightwork_broker.escrow.store import EscrowRow
from lightwork_broker.jobs.store import JobRow
from lightwork_contracts.status import JobStatus
from lightwork_contracts.wire.accounts import BalanceView
from lightwork_regtest.errors import RegtestError
from lightwork_regtest.nodes.lnd import LightningNode

MOST = 100_000
"""More payments or invoices than a run can make."""


class _Payment(BaseModel):
    payment_hash: str
    status: str
    value_msat: int = 0
    fee_msat: int = 0


class _Payments(BaseModel):
    payments: list[_Payment] = Field(default_factory=list[_Payment])


class _InvoiceHtlc(BaseModel):
    chan_id: str
    htlc_index: str
    state: str


class _Invoice(BaseModel):
    r_hash: str
    state: str
    amt_paid_msat: int = 0
    htlcs: list[_InvoiceHtlc] = Field(default_factory=list[_InvoiceHtlc])


class _Invoices(BaseModel):
    invoices: list[_Invoice] = Field(default_factory=list[_Invoice])


class _Audit(BaseModel):
    balances: dict[str, int]
    breaches: tuple[str, ...]


class _Words(BaseModel):
    """Whatever a node answers."""

    model_config = ConfigDict(extra="allow")


WORDS: dict[str, tuple[str, dict[str, str | int | bool]]] = {
    "channels": ("/v1/channels", {}),
    "invoices": ("/v1/invoices", {"num_max_invoices": MOST}),
    "payments": ("/v1/payments", {"include_incomplete": True, "max_payments": MOST}),
}
"""What a node is asked when somebody wants to look into a run afterwards."""


def keep_words(node: LightningNode, folder: Path) -> None:
    """Write down what a node says of its channels, invoices, payments and ends of HTLCs, with no preimage."""
    for what, (path, params) in WORDS.items():
        with suppress(RegtestError):  # it is down: its log says why
            told = node.rest.get(path, _Words, params=params).model_dump()
            text = json.dumps(without_preimages(told), indent=1)
            (folder / f"{node.description.name}-{what}.json").write_text(text)
    with suppress(RegtestError):
        (folder / f"{node.description.name}-ends.json").write_text(json.dumps(_ends(node), indent=1))


def _ends(node: LightningNode) -> list[JsonValue]:
    """Return each HTLC that paid an invoice of the node: what the invoice says of it, and what the channel has done."""
    found: list[JsonValue] = []
    answer = node.rest.get("/v1/invoices", _Invoices, params={"num_max_invoices": MOST})
    for invoice in answer.invoices:
        for htlc in invoice.htlcs:
            path = f"/v1/htlc-resolution/{htlc.chan_id}/{htlc.htlc_index}"
            try:
                end: JsonValue = node.rest.get(path, _Words).model_dump()
            except RegtestError as error:
                end = str(error)
            payment_hash = base64.b64decode(invoice.r_hash).hex()
            found.append(
                {"payment_hash": payment_hash, "invoice": invoice.state, "htlc": htlc.state, "end": end}
            )
    return found


def without_preimages(told: JsonValue) -> JsonValue:
    """Return the same without what is called a preimage, at any depth."""
    if isinstance(told, dict):
        return {name: without_preimages(value) for name, value in told.items() if "preimage" not in name}
    return [without_preimages(value) for value in told] if isinstance(told, list) else told


@dataclass(frozen=True, slots=True)
class Before:
    """What was there before the run: each node's channels, and the payments that are none of ours."""

    wealth: Mapping[str, int]
    payments: frozenset[str]
    received: frozenset[str]


async def measure(ground: Ground) -> Before:
    """Read what a run starts from."""
    payments, received = await asyncio.to_thread(lambda: (_payments(ground, "buyer"), _received(ground)))
    return Before(await _wealth(ground), frozenset(payments), frozenset(received))


async def gather(ground: Ground, before: Before, *, wrong: tuple[str, ...]) -> Facts:
    """Read what a run has led to; everything must be up and at rest."""
    audited = await ground.brokers[0].command("audit", "--node", "--json")
    try:
        books = _Audit.model_validate_json(audited.stdout)
    except ValueError:
        books = _Audit(balances={}, breaches=(audited.stdout + audited.stderr,))
    wealth = await _wealth(ground)
    payments, received = await asyncio.to_thread(lambda: (_payments(ground, "buyer"), _received(ground)))
    payouts = await asyncio.to_thread(_payments, ground, "broker")
    jobs = await jobs_of(ground)
    return Facts(
        jobs=tuple(replace(job, reason=job.reason or _hangs(payouts.get(job.payment_hash))) for job in jobs),
        moved={name: wealth[name] - before.wealth[name] for name in NODES},
        payments={hash_: one for hash_, one in payments.items() if hash_ not in before.payments},
        received={hash_: one for hash_, one in received.items() if hash_ not in before.received},
        balances=books.balances,
        owed_msat=await _owed(ground),
        audit_exit=audited.returncode,
        audit_breaches=books.breaches,
        htlcs=tuple(f"{htlc.node}: {htlc.payment_hash}" for htlc in await ground.nodes.htlcs()),
        wrong=wrong,
    )


async def jobs_of(ground: Ground) -> tuple[JobFact, ...]:
    """Read every job from the brokers' database, beside them."""
    job, escrow = table_of(JobRow), table_of(EscrowRow)
    wanted = sa.select(
        job.c.id,
        job.c.status,
        job.c.payment_hash,
        job.c.price_msat,
        job.c.error_code,
        escrow.c.state,
        escrow.c.total_msat,
        escrow.c.credited_to,
        escrow.c.routing_paid_msat,
        escrow.c.unknown_since,
        escrow.c.failure,
    ).join(escrow, escrow.c.id == job.c.id)
    database = open_database(ground.place)
    try:
        async with database.scan() as tx:
            rows = await tx.all(wanted)
    finally:
        await database.close()
    return tuple(
        JobFact(
            id=row["id"],
            status=JobStatus(row["status"]),
            escrow=row["state"],
            payment_hash=row["payment_hash"],
            price_msat=row["price_msat"],
            total_msat=row["total_msat"],
            on_credit=row["credited_to"] is not None,
            routing_paid_msat=row["routing_paid_msat"] or 0,
            is_unknown=row["unknown_since"] is not None,
            reason=row["failure"] or "",
        )
        for row in rows
    )


def _hangs(payout: Payment | None) -> str:
    """Say that a payout is in flight by its node's own word, if so: an LND that was killed may say it for ever."""
    return "the broker's node says that it is in flight" if payout and payout.status == "IN_FLIGHT" else ""


async def _wealth(ground: Ground) -> dict[str, int]:
    read = [ground.nodes.wealth_msat(name) for name in NODES]
    return dict(zip(NODES, await asyncio.gather(*read), strict=True))


def _payments(ground: Ground, name: str) -> dict[str, Payment]:
    params: dict[str, str | int | bool] = {"include_incomplete": True, "max_payments": MOST}
    answer = ground.network.node(name).rest.get("/v1/payments", _Payments, params=params)
    return {one.payment_hash: Payment(one.status, one.value_msat, one.fee_msat) for one in answer.payments}


def _received(ground: Ground) -> dict[str, int]:
    params: dict[str, str | int | bool] = {"num_max_invoices": MOST}
    answer = ground.network.node("provider").rest.get("/v1/invoices", _Invoices, params=params)
    return {
        base64.b64decode(one.r_hash).hex(): one.amt_paid_msat
        for one in answer.invoices
        if one.state == "SETTLED"
    }


async def _owed(ground: Ground) -> int:
    client = SignedClient(ground.urls[0], key=CREDIT_KEY)
    try:
        return BalanceView.model_validate(await client.get("/v1/balance")).balance_msat
    finally:
        await client.close()
