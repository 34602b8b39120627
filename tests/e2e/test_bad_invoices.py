"""A provider's invoices that a broker must not build a job on: its node has a say, so each node is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import e2e_invoices
import pytest
from e2e_client import accepted, refused
from e2e_invoices import forged_invoice
from e2e_pair import Pair
from e2e_provider import PRICE
from e2e_stage import ESCROW_STAGES

from lightwork_contracts.bolt11 import Hop, Network, read_invoice
from lightwork_contracts.money import Msat
from lightwork_contracts.wire.jobs import JobForBuyer
from lightwork_contracts.wire.problems import ProblemCode

P = ProblemCode
# In credit mode the provider makes no invoice.
pytestmark = pytest.mark.parametrize("stage", ESCROW_STAGES, indirect=True, scope="session")


@pytest.mark.parametrize(
    ("invoice", "code"),
    [
        pytest.param(lambda: forged_invoice(network=Network.MAINNET), P.INVOICE_NETWORK, id="mainnet"),
        pytest.param(lambda: forged_invoice(network=Network.SIGNET), P.INVOICE_NETWORK, id="signet"),
        pytest.param(lambda: forged_invoice(amount_msat=None), P.INVOICE_NO_AMOUNT, id="no-amount"),
        pytest.param(
            lambda: forged_invoice(amount_msat=Msat(PRICE + 1)), P.INVOICE_AMOUNT, id="one-msat-more"
        ),
        pytest.param(
            lambda: forged_invoice(amount_msat=Msat(PRICE - 1)), P.INVOICE_AMOUNT, id="one-msat-less"
        ),
        pytest.param(
            lambda: forged_invoice(age_seconds=7_200, expiry_seconds=3_600), P.INVOICE_EXPIRED, id="expired"
        ),
        pytest.param(
            lambda: forged_invoice(expiry_seconds=600), P.INVOICE_EXPIRES_TOO_SOON, id="expires-too-soon"
        ),
        pytest.param(
            lambda: forged_invoice(expiry_seconds=100 * 86_400),
            P.INVOICE_EXPIRES_TOO_LATE,
            id="outlives-the-job",
        ),
        pytest.param(lambda: forged_invoice(final_cltv=145), P.INVOICE_CLTV, id="locks-for-too-long"),
        pytest.param(lambda: forged_invoice(final_cltv=2**31), P.INVOICE_CLTV, id="locks-for-ever"),
        pytest.param(
            lambda: forged_invoice(features=frozenset({8, 14, 31})), P.INVOICE_FEATURES, id="unknown-feature"
        ),
        pytest.param(forged_invoice, P.NO_ROUTE, id="no-such-node"),
    ],
)
async def test_an_invoice_that_cannot_be_wrapped_is_refused(
    pair: Pair, invoice: Callable[[], str], code: ProblemCode
) -> None:
    asking, work = await pair.asked()
    event = pair.provider.commit(work, invoice())
    refused(await pair.provider.send(work, event), code, status=422)
    assert await asking == code


@pytest.mark.parametrize("text", ["lnbcrt1garbage", "nonsense", "lnbcrt100n1" + "q" * 200])
async def test_an_invoice_that_cannot_be_read_is_refused(pair: Pair, text: str) -> None:
    asking, work = await pair.asked()
    event = pair.provider.commit(work, text, payment_hash=e2e_invoices.new_hash())
    refused(await pair.provider.send(work, event), P.INVOICE_MALFORMED, status=422)
    assert await asking == P.INVOICE_MALFORMED


async def test_an_invoice_with_one_letter_changed_is_refused(pair: Pair) -> None:
    asking, work = await pair.asked()
    good = await pair.provider.invoice(work)
    bad = good[:-1] + ("q" if good[-1] != "q" else "p")
    event = pair.provider.commit(work, bad, payment_hash=read_invoice(good).payment_hash)
    refused(await pair.provider.send(work, event), P.INVOICE_MALFORMED, status=422)
    await asking


async def test_an_invoice_of_the_brokers_own_node_is_refused(pair: Pair) -> None:
    asking, work = await pair.asked()
    own = await pair.world.nodes.invoice_of_broker_node(PRICE)
    answer = await pair.provider.send(work, pair.provider.commit(work, own))
    refused(answer, P.INVOICE_OWN_NODE, status=422)
    assert await asking == P.INVOICE_OWN_NODE


async def test_an_invoice_with_another_hash_than_the_committed_one_is_refused(pair: Pair) -> None:
    asking, work = await pair.asked()
    event = pair.provider.commit(
        work, await pair.provider.invoice(work), payment_hash=e2e_invoices.new_hash()
    )
    refused(await pair.provider.send(work, event), P.INVOICE_HASH, status=422)
    assert await asking == P.INVOICE_HASH


async def test_an_invoice_whose_route_hint_takes_more_than_the_cap_is_refused_at_the_quote(
    pair: Pair,
) -> None:
    asking, work = await pair.asked()
    real = read_invoice(await pair.provider.invoice(work))
    greedy = Hop(
        node=real.payee,
        short_channel_id=(16_000_000 << 40) | (1 << 16),
        fee_base_msat=Msat(PRICE // 2),
        fee_proportional_millionths=0,
        cltv_expiry_delta=40,
    )
    event = pair.provider.commit(work, forged_invoice(route_hints=((greedy,),)))
    problem = refused(await pair.provider.send(work, event), P.NO_ROUTE, status=422)
    assert "the cap is" in problem.detail
    assert await asking == P.NO_ROUTE


async def test_a_second_invoice_for_a_quote_that_was_answered_is_refused_and_the_first_one_counts(
    pair: Pair,
) -> None:
    asking = asyncio.create_task(pair.buyer.ask(pair.provider.listing))
    work = await pair.provider.next_quote()
    first, second = await pair.provider.invoice(work), await pair.provider.invoice(work)
    accepted(await pair.provider.send(work, pair.provider.commit(work, first)))
    quote = accepted(await asking)
    for invoice in (second, first):
        answer = await pair.provider.send(work, pair.provider.commit(work, invoice))
        refused(answer, P.WRONG_STATUS, status=409)
    job = JobForBuyer.model_validate(await pair.buyer.client.post("/v1/jobs", {"quote_id": quote["id"]}))
    answer = await pair.provider.send(work, pair.provider.commit(work, second))
    refused(answer, P.WRONG_STATUS, status=409)
    assert job.quote.payment_hash == read_invoice(first).payment_hash
    assert read_invoice(job.invoice or "").payment_hash == read_invoice(first).payment_hash
    await pair.buyer.client.post(f"/v1/jobs/{job.id}/cancel")


async def test_a_payment_hash_guards_one_job_in_its_life(pair: Pair) -> None:
    asking = asyncio.create_task(pair.buyer.ask(pair.provider.listing))
    first = await pair.provider.next_quote()
    invoice = await pair.provider.invoice(first)
    accepted(await pair.provider.send(first, pair.provider.commit(first, invoice)))
    quote_id = accepted(await asking)["id"]

    # Quoted, and nothing more: another quote cannot have it.
    again, work = await pair.asked()
    refused(
        await pair.provider.send(work, pair.provider.commit(work, invoice)), P.INVOICE_HASH_USED, status=409
    )
    assert await again == P.INVOICE_HASH_USED

    # It guards a job now; even when that is over.
    job = JobForBuyer.model_validate(await pair.buyer.client.post("/v1/jobs", {"quote_id": quote_id}))
    await pair.buyer.client.post(f"/v1/jobs/{job.id}/cancel")
    last, work = await pair.asked()
    refused(
        await pair.provider.send(work, pair.provider.commit(work, invoice)), P.INVOICE_HASH_USED, status=409
    )
    assert await last == P.INVOICE_HASH_USED
