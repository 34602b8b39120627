"""Mistakes in what only PostgreSQL runs: the lock among brokers, the doors, the wake-ups and its half of the guards."""

from __future__ import annotations

from mutants.mutation import BROKER, UNIT, Mutation

POSTGRES = f"{BROKER}/db/postgres.py"
RELAY = f"{BROKER}/db/postgres_relay.py"
DIALECTS = f"{BROKER}/db/migrations/dialects.py"
SHARED = f"{UNIT}/test_shared_database.py"
GUARDS = f"{UNIT}/test_database_guards.py"
LEDGER = f"{UNIT}/test_ledger_store.py"
SECRECY = "tests/unit/secrecy/test_types_that_do_not_print.py"
TWO_BROKERS = "tests/property/test_market_of_two_brokers.py::test_what_two_brokers_do_at_once_goes_well"
ONE_STEP = f"{SHARED}::test_what_is_read_and_then_written_is_one_step_among_brokers"
OWN_CONFIGURATION = f"{SHARED}::test_a_servers_own_configuration_weakens_nothing"
ONE_MOMENT = f"{SHARED}::test_a_reader_sees_one_moment_and_changes_nothing"
HEARS = f"{SHARED}::test_a_broker_hears_the_others_and_not_itself_also_after_its_connection_was_cut"
REFUSED_ROW = f"{SECRECY}::test_a_row_that_the_database_refuses_is_not_repeated_in_the_error[postgres]"
IN_THE_MIDDLE = f"{GUARDS}::test_no_row_of_a_job_is_deleted_or_begins_in_the_middle"

IN_POSTGRES = (
    Mutation(
        name="brokers on a server write without a lock",
        file=POSTGRES,
        old="                await connection.execute(TAKE_WRITE_LOCK)\n",
        new="",
        breaks=("I4", "I29"),
        caught_by=ONE_STEP,
    ),
    Mutation(
        name="the lock of writers is one that many can have",
        file=POSTGRES,
        old='sa.text(f"SELECT pg_advisory_xact_lock({WRITE_LOCK})")',
        new='sa.text(f"SELECT pg_advisory_xact_lock_shared({WRITE_LOCK})")',
        breaks=("I4", "I29"),
        caught_by=ONE_STEP,
    ),
    Mutation(
        name="each broker has a lock of its own",
        file=POSTGRES,
        old="                await connection.execute(TAKE_WRITE_LOCK)\n",
        new='                await connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({id(self)})"))\n',
        breaks=("I4", "I29"),
        caught_by=ONE_STEP,
    ),
    Mutation(
        name="a writer sees what was there before it had the lock",
        file=POSTGRES,
        old='isolation_level="READ COMMITTED"',
        new='isolation_level="REPEATABLE READ"',
        breaks=("I31",),
        caught_by=ONE_STEP,
    ),
    Mutation(
        name="a reader on a server sees one half before a change and the other after it",
        file=POSTGRES,
        old='url, connections=READERS, isolation_level="REPEATABLE READ"',
        new='url, connections=READERS, isolation_level="READ COMMITTED"',
        breaks=("I31",),
        caught_by=ONE_MOMENT,
    ),
    Mutation(
        name="a reader on a server may write, past the lock",
        file=POSTGRES,
        old="        ).execution_options(postgresql_readonly=True)\n",
        new="        ).execution_options(postgresql_readonly=False)\n",
        breaks=("I4",),
        caught_by=ONE_MOMENT,
    ),
    Mutation(
        name="a commit on a server need not be on the disk",
        file=POSTGRES,
        old='    "synchronous_commit": "on",\n',
        new="",
        breaks=("I15", "I25"),
        caught_by=OWN_CONFIGURATION,
    ),
    Mutation(
        name="a broker that hangs keeps the others from writing for ever",
        file=POSTGRES,
        old='    "idle_in_transaction_session_timeout": f"{HANGS_SECONDS}s",\n',
        new="",
        breaks=("I38",),
        caught_by=OWN_CONFIGURATION,
    ),
    Mutation(
        name="a writer on a server waits for the lock for ever",
        file=POSTGRES,
        old='    "lock_timeout": f"{BUSY_SECONDS:.0f}s",\n',
        new="",
        breaks=("I38",),
        caught_by=OWN_CONFIGURATION,
    ),
    Mutation(
        name="a commit whose caller is cancelled is broken off",
        file=POSTGRES,
        old="            await asyncio.shield(commit)\n        except asyncio.CancelledError:\n"
        "            await asyncio.wait({commit})\n            raise\n",
        new="            await commit\n        except asyncio.CancelledError:\n            raise\n",
        breaks=("I31",),
        caught_by=f"{SHARED}::test_a_cancelled_commit_is_over_before_its_writer_goes_on",
    ),
    Mutation(
        name="what follows a commit on a server comes before it",
        file=POSTGRES,
        old="        await connection.commit()\n        loop = asyncio.get_running_loop()\n"
        "        for action in transaction.after_commit_actions:\n            loop.call_soon(action)\n",
        new="        for action in transaction.after_commit_actions:\n            action()\n"
        "        await connection.commit()\n",
        breaks=("I15", "I31"),
        caught_by=f"{SHARED}::test_what_follows_a_commit_finds_it_done",
    ),
    Mutation(
        name="a request that another broker has taken is taken",
        file=POSTGRES,
        old="return (await connection.execute(adding, values)).first() is not None",
        new="return (await connection.execute(adding, values)) is not None",
        breaks=("I24",),
        caught_by=f"{LEDGER}::test_what_is_added_once_is_added_once_however_many_ask[postgres]",
    ),
    Mutation(
        name="brokers do not tell each other which requests they have taken",
        file=f"{BROKER}/identity/shared.py",
        old="return await store.take_request(self._database, event_id, created_at=created_at)",
        new="return bool(event_id)",
        breaks=("I24",),
        caught_by=f"{TWO_BROKERS}[a signed request is good at one of the brokers, once]",
        says="good for two",
    ),
    Mutation(
        name="a server that has no lock to give is an error that nobody foresees",
        file=POSTGRES,
        old="        exc.OperationalError,\n        exc.InterfaceError,\n",
        new="        exc.InterfaceError,\n",
        breaks=("I28",),
        caught_by=f"{SHARED}::test_a_lock_that_is_not_to_be_had_is_no_answer_and_stores_nothing",
    ),
    Mutation(
        name="a connection that was cut while it lay idle is handed out",
        file=POSTGRES,
        old="        pool_pre_ping=True,\n",
        new="",
        breaks=("I38",),
        caught_by=f"{SHARED}::test_connections_that_were_cut_while_idle_cost_nobody_an_answer",
    ),
    Mutation(
        name="an error of a server repeats the row",
        file=POSTGRES,
        old='        told = psycopg.IntegrityError(str(error.orig).partition("\\n")[0])\n',
        new="        told = psycopg.IntegrityError(str(error.orig))\n",
        breaks=("I20",),
        caught_by=REFUSED_ROW,
    ),
    Mutation(
        name="an error of a server repeats the row by what it was caused by",
        file=POSTGRES,
        old="None, told, hide_parameters=True) from None",
        new="None, told, hide_parameters=True) from error",
        breaks=("I20",),
        caught_by=REFUSED_ROW,
    ),
    Mutation(
        name="a broker wakes itself and no other",
        file=RELAY,
        old="            if name != self._name:\n",
        new="            if name == self._name:\n",
        breaks=("I38",),
        caught_by=HEARS,
    ),
    Mutation(
        name="a relay that was cut off does not listen again",
        file=RELAY,
        old="            await asyncio.sleep(AGAIN_SECONDS)\n",
        new="            await asyncio.Event().wait()\n",
        breaks=("I38",),
        caught_by=HEARS,
    ),
    Mutation(
        name="what was missed while a relay was away is not looked for",
        file=RELAY,
        old="                    stir()\n",
        new="",
        breaks=("I38",),
        caught_by=HEARS,
    ),
    Mutation(
        name="two brokers send for one webhook at once, on a server",
        file=f"{BROKER}/webhooks/store.py",
        old="        _webhook.c.lease_until == webhook.lease_until,\n"
        "        # Another broker may have sent, or tried in vain, and be done, since this one looked.\n"
        "        _webhook.c.cursor == webhook.cursor,\n"
        "        _webhook.c.retry_at == webhook.retry_at,\n",
        new="",
        breaks=("I29",),
        caught_by=f"{UNIT}/test_webhooks.py::test_two_brokers_send_each_event_once[postgres]",
    ),
    # the guards
    Mutation(
        name="a server lets logs be deleted",
        file=DIALECTS,
        old='f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table} "',
        new='f"CREATE TRIGGER {table}_append_only BEFORE UPDATE ON {table} "',
        breaks=("I3",),
        caught_by=f"{LEDGER}::test_the_database_refuses_to_change_what_was_recorded[postgres]",
    ),
    Mutation(
        name="a server lets logs be rewritten",
        file=DIALECTS,
        old='f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table} "',
        new='f"CREATE TRIGGER {table}_append_only BEFORE DELETE ON {table} "',
        breaks=("I3",),
        caught_by=f"{LEDGER}::test_the_database_refuses_to_change_what_was_recorded[postgres]",
    ),
    Mutation(
        name="a server lets a log be emptied at one stroke",
        file=DIALECTS,
        old='            "FOR EACH ROW EXECUTE FUNCTION refuse_change()"\n        )\n        op.execute(\n'
        '            f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "\n'
        '            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"\n        )\n',
        new='            "FOR EACH ROW EXECUTE FUNCTION refuse_change()"\n        )\n',
        breaks=("I3",),
        caught_by=f"{LEDGER}::test_a_log_cannot_be_emptied_at_one_stroke_either[postgres]",
    ),
    Mutation(
        name="a server lets all jobs be removed at one stroke",
        file=DIALECTS,
        old='        op.execute(\n            f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "\n'
        '            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"\n        )\n'
        '    op.execute(\n        f"CREATE FUNCTION guard_',
        new='    op.execute(\n        f"CREATE FUNCTION guard_',
        breaks=("I3", "I33"),
        caught_by=f"{LEDGER}::test_jobs_escrows_and_withdrawals_cannot_be_removed_at_one_stroke[postgres]",
    ),
    Mutation(
        name="a server takes any step from one state to another",
        file=DIALECTS,
        old="f\"IF TG_OP = 'UPDATE' AND (({no_edge}) OR {changed}) THEN wrong := true; END IF; \"",
        new="f\"IF TG_OP = 'UPDATE' AND ({changed}) THEN wrong := true; END IF; \"",
        breaks=("I33",),
        caught_by=f"{GUARDS}::test_an_escrow_takes_the_steps_of_its_table_and_no_other[postgres-escrow]",
    ),
    Mutation(
        name="a server lets what was agreed be changed",
        file=DIALECTS,
        old="f\"IF TG_OP = 'UPDATE' AND (({no_edge}) OR {changed}) THEN wrong := true; END IF; \"",
        new="f\"IF TG_OP = 'UPDATE' AND ({no_edge}) THEN wrong := true; END IF; \"",
        breaks=("I17", "I34"),
        caught_by=f"{GUARDS}::test_what_was_agreed_is_never_changed[postgres-job-provider = 'x']",
    ),
    Mutation(
        name="a server lets what was left open be filled in later",
        file=DIALECTS,
        old='f"OLD.{name} IS DISTINCT FROM NEW.{name}"',
        new='f"OLD.{name} <> NEW.{name}"',
        breaks=("I17", "I34"),
        caught_by=f"{GUARDS}::test_what_was_agreed_is_never_changed"
        "[postgres-escrow-credited_to = 'x', credit_seed = 'x']",
    ),
    Mutation(
        name="a server lets a job begin in the middle",
        file=DIALECTS,
        old="f\"IF TG_OP = 'INSERT' AND NEW.{column} <> '{guard.first}' THEN wrong := true; END IF; \"",
        new='""',
        breaks=("I33",),
        caught_by=f"{IN_THE_MIDDLE}[postgres-job]",
    ),
    Mutation(
        name="a server lets an escrow be deleted",
        file=DIALECTS,
        old="\"IF TG_OP = 'DELETE' THEN wrong := true; END IF; \"",
        new='""',
        breaks=("I3", "I33"),
        caught_by=f"{IN_THE_MIDDLE}[postgres-escrow]",
    ),
)
