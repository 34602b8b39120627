"""Mistakes in the life of a job: who may do what, leases, results and time."""

from __future__ import annotations

from mutants.mutation import BROKER, UNIT, Mutation, script

MACHINE = f"{BROKER}/jobs/machine.py"
SERVICE = f"{BROKER}/jobs/service.py"
STORE = f"{BROKER}/jobs/store.py"
QUEUE = f"{BROKER}/jobs/queue.py"
TABLES = f"{UNIT}/test_machines.py"
STORIES = f"{UNIT}/test_escrow_stories.py"
REVIEWED = f"{UNIT}/test_reviewed_money.py"
REVIEWED_SERVICE = f"{UNIT}/test_reviewed_service.py"
RESULTS = f"{UNIT}/test_results_and_leases.py"

IN_JOBS = (
    Mutation(
        name="a refunded job can be settled",
        file=MACHINE,
        old="    (S.REFUNDING, C.LOST): (S.SETTLED, frozenset({A.NODE})),\n",
        new="    (S.REFUNDING, C.LOST): (S.SETTLED, frozenset({A.NODE})),\n"
        "    (S.REFUNDED, C.SETTLED): (S.SETTLED, frozenset({A.NODE})),\n",
        breaks=("I33",),
        caught_by=f"{TABLES}::test_a_job_that_has_ended_never_moves_again",
    ),
    Mutation(
        name="the provider may accept its own result",
        file=MACHINE,
        old="(S.DELIVERED, C.ACCEPTED): (S.RELEASING, frozenset({A.BUYER, A.BROKER, A.CLOCK})),",
        new="(S.DELIVERED, C.ACCEPTED): (S.RELEASING, frozenset({A.BUYER, A.BROKER, A.CLOCK, A.PROVIDER})),",
        breaks=("I32", "I33"),
        caught_by=f"{TABLES}::test_a_job_s_edge_is_refused_to_everybody_else",
    ),
    Mutation(
        name="nobody looks who causes a change",
        file=MACHINE,
        old="if edge is None or actor not in edge[1]:",
        new="if edge is None:",
        breaks=("I33",),
        caught_by=f"{TABLES}::test_a_job_s_edge_is_refused_to_everybody_else",
    ),
    Mutation(
        name="a job is moved whatever its status is by now",
        file=STORE,
        old='    _job.c.status == sa.bindparam("the_status"),\n',
        new='    sa.bindparam("the_status") != "",\n',
        breaks=("I12", "I33"),
        caught_by=f"{REVIEWED}::test_a_rejection_that_an_acceptance_has_overtaken_is_refused[sqlite]",
    ),
    Mutation(
        name="a job is moved by whoever has read an earlier run of it",
        file=STORE,
        old='    _job.c.epoch == sa.bindparam("the_epoch"),\n',
        new='    sa.bindparam("the_epoch") >= 0,\n',
        breaks=("I29",),
        caught_by=f"{RESULTS}::test_a_delivery_that_a_new_lease_has_overtaken_is_refused[sqlite]",
    ),
    Mutation(
        name="a provider that lost its lease may deliver",
        file=QUEUE,
        old="if job.status is not JobStatus.WORKING or job.epoch != epoch:",
        new="if job.status is not JobStatus.WORKING:",
        breaks=("I29",),
        caught_by=f"{STORIES}::test_a_stale_epoch_delivers_nothing[sqlite]",
    ),
    Mutation(
        name="a lease that is lost gives the next run no number of its own",
        file=QUEUE,
        old="epoch=job.epoch + 1,",
        new="epoch=max(job.epoch, 1),",
        breaks=("I29",),
        caught_by=f"{RESULTS}::test_each_lease_has_a_number_of_its_own[sqlite]",
    ),
    Mutation(
        name="a heartbeat of an earlier run keeps the lease",
        file=QUEUE,
        old="if job.status is JobStatus.WORKING and job.epoch == epoch:",
        new="if job.status is JobStatus.WORKING:",
        breaks=("I29",),
        caught_by=f"{RESULTS}::test_each_lease_has_a_number_of_its_own[sqlite]",
    ),
    Mutation(
        name="what was decided on an unpaid job meets a paid one",
        file=SERVICE,
        old="                    await self._still(tx, job)\n",
        new="",
        breaks=("I12", "I29"),
        caught_by=f"{REVIEWED}::test_a_pay_window_that_ended_does_nothing_to_a_job_that_was_paid_for_meanwhile[sqlite]",
    ),
    Mutation(
        name="the hash of a result is that of another form of it",
        file=QUEUE,
        old="digest = hashlib.sha256(canonical_json(result)).hexdigest()",
        new="canonical_json(result)\n"
        "            digest = hashlib.sha256(json.dumps(result).encode()).hexdigest()",
        breaks=("I35",),
        caught_by=f"{RESULTS}::test_the_hash_that_is_told_is_that_of_the_result_that_is_shown[sqlite]",
    ),
    Mutation(
        name="another result under the same lease is taken without a word",
        file=QUEUE,
        old="if job.status in _DELIVERED and job.epoch == epoch and job.result_hash == digest:",
        new="if job.status in _DELIVERED and job.epoch == epoch:",
        breaks=("I6", "I35"),
        caught_by=f"{RESULTS}::test_another_result_after_the_first_is_refused_and_the_first_one_stays[sqlite]",
    ),
    Mutation(
        name="what was given back leaves the buyer the result",
        file=SERVICE,
        old='return JobChange.RETURNED, values | {"result": None}',
        new="return JobChange.RETURNED, values",
        breaks=("I32",),
        caught_by=script("the node gives back what was delivered"),
        says="a refunded job still holds the result",
    ),
    Mutation(
        name="the guardian leaves a job at work alone",
        file=SERVICE,
        old="            case JobStatus.FUNDED | JobStatus.WORKING:\n",
        new="            case JobStatus.FUNDED:\n",
        breaks=("I19",),
        caught_by=f"{STORIES}::test_the_guardian_gives_the_htlc_back_before_the_node_does[sqlite]",
    ),
    Mutation(
        name="silence does not accept",
        file=SERVICE,
        old="            case JobStatus.DELIVERED if over:\n",
        new="            case JobStatus.DELIVERED if over and job.deadline is None:\n",
        breaks=("I38",),
        caught_by=f"{REVIEWED_SERVICE}::test_a_job_that_cannot_be_moved_does_not_keep_the_next_one_from_its_end[sqlite-0]",
    ),
    Mutation(
        name="one job that cannot be moved ends the look at the clock",
        file=SERVICE,
        old="            except BrokerError as error:\n"
        '                log.info("job.not_moved", job=job.id, detail=error.detail)\n'
        "            except Exception as error:\n",
        new="            except KeyError as error:\n",
        breaks=("I38",),
        caught_by=f"{REVIEWED_SERVICE}::test_a_job_that_cannot_be_moved_does_not_keep_the_next_one_from_its_end[sqlite-0]",
    ),
    Mutation(
        name="a provider that is lost again and again is waited for",
        file=SERVICE,
        old="case JobStatus.WORKING if job.leases_lost + 1 >= MOST_LEASES_LOST:",
        new="case JobStatus.WORKING if job.leases_lost + 1 > MOST_LEASES_LOST:",
        breaks=("I38",),
        caught_by=f"{STORIES}::test_a_lease_that_is_lost_three_times_ends_in_a_refund[sqlite]",
    ),
    Mutation(
        name="leases that ran out while the broker was away are lost",
        file=STORE,
        old=".values(lease_until=until)",
        new=".values(lease_until=_job.c.lease_until)",
        breaks=("I25", "I37"),
        caught_by=f"{REVIEWED_SERVICE}::test_a_provider_that_worked_on_while_the_broker_was_away_delivers[sqlite]",
    ),
    Mutation(
        name="the preimage is in an event before the settlement",
        file=SERVICE,
        old='data: dict[str, JsonValue] = {"price_msat": int(job.price_msat)}',
        new='data: dict[str, JsonValue] = {"price_msat": int(job.price_msat), '
        '"proof": escrow.preimage and escrow.preimage.hex()}',
        breaks=("I20",),
        caught_by=script("the settlement has no answer"),
        says="I20 an event tells the preimage",
    ),
)
