"""Text and numbers that a database might not hold are refused with a reason, or stored: never a mistake of ours."""

from __future__ import annotations

import pytest
from e2e_provider import HandBuyer, HandProvider
from e2e_world import World

from lightwork import PaymentOutcome
from lightwork_contracts.status import JobStatus

pytestmark = pytest.mark.parametrize(
    "stage", ["simulated", "simulated-postgres"], indirect=True, scope="session"
)

ZERO = "a\0b"
BIG = 2**63


async def test_a_zero_byte_or_a_huge_number_is_answered_and_costs_nobody_the_job(world: World) -> None:
    provider, buyer = HandProvider(world), HandBuyer(world)
    await provider.offer()
    async with world.money.moves() as moved:
        job, paying = await buyer.fund(provider)
        work = await provider.next_job()
        heartbeat = f"/v1/work/jobs/{work.job_id}/heartbeat"
        asked = [
            buyer.client.raw("GET", "/v1/listings?q=%00"),
            buyer.client.raw("GET", "/v1/listings/%00"),
            buyer.client.raw("GET", f"/v1/listings/{provider.listing.id}?version={BIG}"),
            buyer.client.call("POST", "/v1/quotes", {"task": ZERO, "input": {"text": "x"}}),
            buyer.client.call("POST", "/v1/quotes", {"listing_id": ZERO, "input": {"text": "x"}}),
            buyer.client.call("GET", "/v1/jobs/%00"),
            buyer.client.call("GET", f"/v1/balance/entries?before={BIG}"),
            buyer.client.call("GET", "/v1/withdrawals?before=%00"),
            buyer.client.call("POST", f"/v1/jobs/{job.id}/reject", {"reason": ZERO}),
            provider.client.call("POST", heartbeat, {"epoch": BIG}),
            provider.client.call("POST", heartbeat, {"epoch": work.epoch, "note": ZERO}),
        ]
        answers = [await answer for answer in asked]
        assert {answer.status_code for answer in answers} <= {200, 404, 409, 422}
        assert (await provider.deliver(work, ZERO)).status_code == 204
        assert (await buyer.until(job.id, JobStatus.SETTLED)).result == ZERO
        assert (await paying).outcome is PaymentOutcome.SUCCEEDED
        moved.sold(job.quote)
    assert "request.failed" not in world.broker.log_text()
