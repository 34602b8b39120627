"""What must never be told: macaroons and keys to anybody, a preimage to nobody before the settlement."""

from __future__ import annotations

from e2e_client import accepted
from e2e_provider import HandBuyer, HandProvider, advert
from e2e_world import World

from lightwork import PaymentOutcome
from lightwork_contracts.status import JobStatus


async def test_the_preimage_is_told_to_the_buyer_at_the_settlement_and_to_nobody_before(
    world: World,
) -> None:
    provider, buyer = HandProvider(world), HandBuyer(world)
    await provider.offer(advert("secretive", review_seconds=60))
    async with world.money.moves() as moved:
        job, paying = await buyer.fund(provider)
        accepted(await provider.deliver(await provider.next_job(), "done"))
        await buyer.until(job.id, JobStatus.DELIVERED)
        for party in (buyer.client, provider.client):
            await party.get(f"/v1/jobs/{job.id}")
        heard_before = list(buyer.client.heard)
        await buyer.client.post(f"/v1/jobs/{job.id}/accept")
        payment = await paying
        assert payment.outcome is PaymentOutcome.SUCCEEDED
        preimage = payment.preimage
        assert preimage is not None
        settled = await buyer.until(job.id, JobStatus.SETTLED)
        await provider.client.get(f"/v1/jobs/{job.id}")
        moved.sold(job.quote)
    assert settled.preimage == preimage
    assert preimage in buyer.client.heard[-1], "the search finds what is there"
    assert not any(preimage in text for text in heard_before)
    assert not any(preimage in text for text in provider.client.heard)
    assert preimage not in world.broker.log_text()


async def test_the_log_tells_what_happened_and_no_secret(shop: World) -> None:
    buyer = HandBuyer(shop)
    async with shop.money.moves() as moved:
        job = await buyer.hire_task("echo", "logged", key="a-key-for-the-log")
        payment = await buyer.pay(job)
        await buyer.until(job.id, JobStatus.SETTLED)
        moved.sold(job.quote)
    log = shop.broker.log_text()
    assert job.id in log, "the job is in the log"
    own_key = (shop.broker.data_dir / "broker.key").read_text().strip()
    for secret in (payment.preimage, own_key, "Nostr ", *shop.nodes.secrets()):
        assert secret is not None
        assert secret not in log
