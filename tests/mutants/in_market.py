"""Mistakes in what binds a quote to its job, and in whose it is."""

from __future__ import annotations

from mutants.mutation import BROKER, UNIT, Mutation

QUOTES = f"{BROKER}/market/quotes.py"
QUEUE = f"{BROKER}/jobs/queue.py"
JOBS = f"{BROKER}/jobs/service.py"
BINDING = f"{UNIT}/test_quote_binding.py"
FORGETTING = f"{BROKER}/market/forgetting.py"
KEPT = f"{UNIT}/test_what_is_kept.py"

IN_MARKET = (
    Mutation(
        name="a commitment to another input is taken",
        file=QUOTES,
        old="asked = (quote.provider, quote.id, quote.listing_id, quote.listing_version, quote.input_hash)",
        new="asked = (quote.provider, quote.id, quote.listing_id, quote.listing_version, commitment.input_hash)",
        breaks=("I34",),
        caught_by=f"{BINDING}::test_a_commitment_to_something_else_is_refused[sqlite-another input]",
    ),
    Mutation(
        name="a commitment to another version of the listing is taken",
        file=QUOTES,
        old="asked = (quote.provider, quote.id, quote.listing_id, quote.listing_version, quote.input_hash)",
        new="asked = (quote.provider, quote.id, quote.listing_id, commitment.listing_version, quote.input_hash)",
        breaks=("I34",),
        caught_by=f"{BINDING}::test_a_commitment_to_something_else_is_refused[sqlite-another version]",
    ),
    Mutation(
        name="a commitment of another key is taken",
        file=QUOTES,
        old="asked = (quote.provider, quote.id,",
        new="asked = (signer, quote.id,",
        breaks=("I32", "I34"),
        caught_by=f"{BINDING}::test_a_commitment_to_something_else_is_refused[sqlite-another key]",
    ),
    Mutation(
        name="a provider may ask more than its listing says",
        file=QUOTES,
        old="if isinstance(price, FixedPrice) and commitment.price_msat != price.msat:",
        new="if isinstance(price, FixedPrice) and commitment.price_msat < price.msat:",
        breaks=("I34",),
        caught_by=f"{BINDING}::test_a_commitment_to_something_else_is_refused[sqlite-a higher price]",
    ),
    Mutation(
        name="the buyer's maximum is checked against the price without fees",
        file=QUOTES,
        old="        self._check_max(total, quote.max_price_msat)\n",
        new="        self._check_max(commitment.price_msat, quote.max_price_msat)\n",
        breaks=("I34",),
        caught_by=f"{BINDING}::test_a_total_above_the_buyers_maximum_is_not_quoted[sqlite]",
    ),
    Mutation(
        name="a quote can be hired on after it has expired",
        file=QUOTES,
        old="if quote.expires_at is None or now > quote.expires_at:",
        new="if quote.expires_at is None:",
        breaks=("I34", "I37"),
        caught_by=f"{BINDING}::test_a_quote_that_has_expired_cannot_be_hired_on[sqlite]",
    ),
    Mutation(
        name="a result is held against the newest version of the listing",
        file=QUEUE,
        old="listing = await self._market.get(job.listing_id, version=job.listing_version)",
        new="listing = await self._market.get(job.listing_id)",
        breaks=("I34",),
        caught_by=f"{BINDING}::test_a_result_is_held_against_the_version_that_was_quoted[sqlite]",
    ),
    Mutation(
        name="a quote hired twice is two jobs or an error",
        file=JOBS,
        old="            if (known := await store.by_quote(tx, quote.id)) is not None:\n"
        "                return known\n",
        new="",
        breaks=("I6", "I24"),
        caught_by=f"{BINDING}::test_a_quote_hired_many_times_at_once_is_one_job[sqlite]",
    ),
    Mutation(
        name="another request under a used key gets the answer to the first",
        file=QUOTES,
        old="                if known.request_hash != request_hash:\n",
        new="                if known.buyer != buyer:\n",
        breaks=("I6",),
        caught_by=f"{BINDING}::test_another_request_under_a_used_key_is_refused[sqlite]",
    ),
    Mutation(
        name="a hash that guards a job can be committed to again",
        file=f"{BROKER}/escrow/underwriting.py",
        old="if await store.hash_is_used(tx, payment_hash) or await ledger.is_claimed(tx, payment_hash):",
        new="if await store.hash_is_used(tx, payment_hash):",
        breaks=("I23",),
        caught_by=f"{BINDING}::test_a_hash_that_was_withdrawn_to_is_not_quoted[sqlite]",
    ),
    Mutation(
        name="anybody may hire on a quote that is known",
        file=JOBS,
        old="        if quote.buyer != buyer:\n",
        new="        if not buyer:\n",
        breaks=("I32",),
        caught_by=f"{BINDING}::test_nobody_else_can_hire_on_a_quote[sqlite]",
    ),
    Mutation(
        name="a quote is forgotten while it can be hired on",
        file=FORGETTING,
        old="before=now - self._seconds",
        new="before=now + self._seconds",
        breaks=("I34",),
        caught_by=f"{KEPT}::test_a_quote_is_kept_while_it_can_be_hired_on_and_for_long_after[sqlite]",
    ),
    Mutation(
        name="only one page of old quotes is forgotten",
        file=FORGETTING,
        old="            after = page[-1]\n",
        new="            return forgotten\n",
        breaks=("P2",),
        caught_by=f"{KEPT}::test_a_quote_that_nobody_hired_on_is_forgotten_and_one_with_a_job_stays[sqlite]",
    ),
    Mutation(
        name="retired listings do not count",
        file=f"{BROKER}/market/store.py",
        old="select_from(_listing).where(_listing.c.agent == agent))",
        new="select_from(_listing).where(_listing.c.agent == agent, _listing.c.retired.is_(False)))",
        breaks=("P2",),
        caught_by=f"{KEPT}::test_one_agent_has_only_so_many_listings_and_retired_ones_count[sqlite]",
    ),
    Mutation(
        name="new versions of a listing are not counted",
        file=f"{BROKER}/market/service.py",
        old="                await self._require_room(tx, agent, now=now, new=False)\n",
        new="",
        breaks=("P2",),
        caught_by=f"{KEPT}::test_one_agent_publishes_only_so_many_versions_in_a_day[sqlite]",
    ),
)
