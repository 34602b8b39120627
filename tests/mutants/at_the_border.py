"""Mistakes at the door: who asks, how much, and where the broker sends something."""

from __future__ import annotations

from mutants.mutation import BROKER, UNIT, Mutation

CONTRACTS = "contracts/lightwork_contracts"
ROUTES = "tests/integration/test_every_route.py"
LIMITS = "tests/integration/test_limits.py"
URLS = f"{UNIT}/test_hostile_urls.py"
WEBHOOKS = f"{UNIT}/test_webhooks.py"
TURNS = f"{UNIT}/test_webhook_turns.py"

AT_THE_BORDER = (
    Mutation(
        name="a job is shown to whoever knows its id",
        file=f"{BROKER}/jobs/service.py",
        old="if caller not in (job.buyer, job.provider):",
        new="if not caller:",
        breaks=("I32",),
        caught_by=f"{ROUTES}::test_no_route_tells_or_does_anything_for_a_stranger",
    ),
    Mutation(
        name="the provider may do what is the buyer's",
        file=f"{BROKER}/jobs/service.py",
        old="        if job.buyer != caller:\n",
        new="        if not caller:\n",
        breaks=("I32",),
        caught_by=f"{ROUTES}::test_each_party_is_refused_what_is_the_others",
    ),
    Mutation(
        name="anybody may deliver to a job",
        file=f"{BROKER}/jobs/queue.py",
        old="        if job.provider != provider:\n",
        new="        if not provider:\n",
        breaks=("I32",),
        caught_by=f"{ROUTES}::test_no_route_tells_or_does_anything_for_a_stranger",
    ),
    Mutation(
        name="anybody may rule on a dispute",
        file=f"{BROKER}/jobs/api.py",
        old='if caller not in cast("frozenset[str]", request.app.state.operators):',
        new="if not caller:",
        breaks=("I32", "I33"),
        caught_by=f"{ROUTES}::test_no_route_tells_or_does_anything_for_a_stranger",
    ),
    Mutation(
        name="a quote is shown to whoever knows its id",
        file=f"{BROKER}/market/quotes.py",
        old="        if quote.buyer != buyer:\n",
        new="        if not buyer:\n",
        breaks=("I32",),
        caught_by=f"{ROUTES}::test_no_route_tells_or_does_anything_for_a_stranger",
    ),
    Mutation(
        name="anybody may retire a listing",
        file=f"{BROKER}/market/service.py",
        old="        if listing.agent != caller:\n",
        new="        if not caller:\n",
        breaks=("I32",),
        caught_by=f"{ROUTES}::test_no_route_tells_or_does_anything_for_a_stranger",
    ),
    Mutation(
        name="anybody may remove a webhook",
        file=f"{BROKER}/webhooks/store.py",
        old="clause = sa.and_(_webhook.c.owner == owner, _webhook.c.id == webhook_id)",
        new="clause = _webhook.c.id == webhook_id",
        breaks=("I32",),
        caught_by=f"{WEBHOOKS}::test_only_its_owner_can_remove_a_webhook_and_then_nothing_is_sent[sqlite]",
    ),
    Mutation(
        name="a broker ends the turn of another one",
        file=f"{BROKER}/webhooks/store.py",
        old="return sa.and_(_webhook.c.id == webhook.id, _webhook.c.lease_until == webhook.lease_until)",
        new="return _webhook.c.id == webhook.id",
        breaks=("I29",),
        caught_by=f"{TURNS}::test_a_broker_that_was_away_does_not_end_the_turn_of_the_one_that_took_over"
        "[sqlite-in vain]",
    ),
    Mutation(
        name="with an older copy of the database two events have one id",
        file=f"{BROKER}/webhooks/service.py",
        old='return f"msg_{webhook_id}_{event.seq}_{digest[:32]}"',
        new='return f"msg_{webhook_id}_{event.seq}"',
        breaks=("I30",),
        caught_by=f"{TURNS}::test_no_two_events_have_one_id_although_an_older_copy_of_the_database_numbers_them_again"
        "[sqlite]",
    ),
    Mutation(
        name="webhooks tell of everybody's jobs",
        file=f"{BROKER}/jobs/store.py",
        old=".where(_event.c.seq > after_seq, sa.or_(_job.c.buyer == party, _job.c.provider == party))",
        new=".where(_event.c.seq > after_seq)",
        breaks=("I32",),
        caught_by=f"{WEBHOOKS}::test_strangers_are_told_nothing[sqlite]",
    ),
    Mutation(
        name="a signed request is good for any body",
        file=f"{CONTRACTS}/signed/http_auth.py",
        old="    _check_payload(event, body)\n",
        new="",
        breaks=("I32",),
        caught_by="tests/unit/contracts/test_http_auth.py::test_a_signature_for_another_body_is_refused",
    ),
    Mutation(
        name="a signed request is good again and again",
        file=f"{BROKER}/identity/service.py",
        old="            self._guard.claim(auth.event_id, created_at=auth.created_at, now=now)\n"
        "            if not await self._shared.take(auth.event_id, created_at=auth.created_at):\n",
        new="            if self._shared is None:\n",
        breaks=("I24",),
        caught_by=f"{ROUTES}::test_a_signed_request_is_good_once",
    ),
    Mutation(
        name="a signed request is good again after a restart",
        file=f"{BROKER}/identity/service.py",
        old="            if not await self._shared.take(auth.event_id, created_at=auth.created_at):\n",
        new="            if self._shared is None:\n",
        breaks=("I24",),
        caught_by=f"{UNIT}/test_one_use.py::test_a_signed_request_is_good_once_although_the_broker_starts_again_at_once"
        "[sqlite-a second ahead]",
    ),
    Mutation(
        name="a restart lets old requests in again",
        file=f"{CONTRACTS}/signed/replay.py",
        old="        if created_at < self._started_at:\n",
        new="        if created_at < 0:\n",
        breaks=("I24",),
        caught_by="tests/unit/contracts/test_replay_guard.py::test_what_was_signed_before_the_guard_began_is_refused",
    ),
    Mutation(
        name="a clock that is put back makes used requests new",
        file=f"{CONTRACTS}/signed/replay.py",
        old="self._latest = max(self._latest, now)",
        new="self._latest = now",
        breaks=("I24", "I37"),
        caught_by="tests/unit/contracts/test_replay_guard.py::test_a_clock_set_back_does_not_make_a_forgotten_event_new",
    ),
    Mutation(
        name="preimages are written into the log",
        file=f"{BROKER}/logs.py",
        old="return value if name in _KNOWN_HEX else scrubbed(value)",
        new="return value",
        breaks=("I20",),
        caught_by=f"{UNIT}/test_secrets_do_not_print.py::test_what_may_be_a_secret_is_taken_out_of_the_log",
    ),
    Mutation(
        name="one buyer may take every slot",
        file=f"{BROKER}/jobs/service.py",
        old="            await require_slot(tx, quote.buyer, caps=self._caps, escrows=self._escrows, now=now)\n",
        new="",
        breaks=("P2",),
        caught_by=f"{LIMITS}::test_a_buyer_that_pays_nothing_takes_only_its_own_share_of_jobs",
    ),
    Mutation(
        name="a key may ask as much as it likes",
        file=f"{BROKER}/identity/service.py",
        old="            self._rates.require(auth.pubkey)\n",
        new="            pass\n",
        breaks=("P2",),
        caught_by=f"{LIMITS}::test_a_key_that_asks_too_much_is_told_to_slow_down_and_others_are_served",
    ),
    Mutation(
        name="an address may flood",
        file=f"{BROKER}/rate_limit.py",
        old='if scope["type"] == "http" and client and not self._limit.take(address_name(client[0])):',
        new='if scope["type"] == "http" and client and not self._limit.take(str(id(scope))):',
        breaks=("P2",),
        caught_by=f"{LIMITS}::test_an_address_that_floods_is_refused_before_anything_is_read",
    ),
    Mutation(
        name="a body that does not say its size may have any",
        file=f"{BROKER}/body_limit.py",
        old="            if taken > self._max_bytes:\n",
        new="            if taken < 0:\n",
        breaks=("P2",),
        caught_by=f"{ROUTES}::test_a_body_above_the_limit_is_refused_whether_it_says_so_or_not",
    ),
    Mutation(
        name="a webhook goes to a private address behind a public name",
        file=f"{BROKER}/webhooks/outgoing.py",
        old="            require_public(address, private=self._private)\n",
        new="            pass\n",
        breaks=("P3",),
        caught_by=f"{URLS}::test_a_public_name_with_a_private_address_is_not_connected_to",
    ),
    Mutation(
        name="a webhook follows redirects",
        file=f"{BROKER}/webhooks/outgoing.py",
        old="follow_redirects=False,",
        new="follow_redirects=True,",
        breaks=("P3",),
        caught_by=f"{URLS}::test_a_redirect_is_not_followed_and_is_no_delivery",
    ),
    Mutation(
        name="an IPv4 address inside an IPv6 one is not looked at",
        file=f"{BROKER}/webhooks/rules.py",
        old="    inner = _inside(address)\n",
        new="    inner = None\n",
        breaks=("P3",),
        caught_by=f"{URLS}::test_what_is_not_public_is_refused_in_every_form",
    ),
)
