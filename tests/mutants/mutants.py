"""Mutants: small changes that each break one promise, and the tests that must fail."""

from dataclasses import dataclass

SIMULATION = ("-m", "tests.simulation", "--seeds", "300", "--fail-fast")


@dataclass(frozen=True, slots=True)
class Mutant:
    """In `file`, `old` becomes `new`; then the Python command `command` must fail."""

    name: str
    file: str
    old: str
    new: str
    command: tuple[str, ...]


def pytest(*selection: str) -> tuple[str, ...]:
    return ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *selection)


MUTANTS = (
    Mutant(
        "ack before commit",
        "bridge/adapters/amqp/channel_consumer.py",
        "            await self._take_unless_in_doubt(message)\n",
        "            await message.ack()\n            await self._take_unless_in_doubt(message)\n",
        pytest("tests/system/faults/test_kills.py", "-k", "K01"),
    ),
    Mutant(
        "synchronous=NORMAL",
        "bridge/adapters/store/sqlite.py",
        '("synchronous", 2)',
        '("synchronous", 1)',
        pytest("tests/contract/test_sqlite.py", "tests/system/faults/test_power_loss.py"),
    ),
    Mutant(
        "asynchronous commits",
        "bridge/adapters/store/postgresql.py",
        '"synchronous_commit": "on"',
        '"synchronous_commit": "off"',
        pytest("tests/contract/test_postgresql_settings.py"),
    ),
    Mutant(
        "no version check",
        "bridge/adapters/store/queries/runs.py",
        '.where(runs.c.run_id == bindparam("of_run"), runs.c.version == bindparam("at_version"))',
        '.where(runs.c.run_id == bindparam("of_run"))',
        pytest("tests/contract/test_store.py", "-k", "not postgresql"),
    ),
    Mutant(
        "`starting` written late",
        "bridge/adapters/store/queries/kickoffs.py",
        "begin_runs(connection, starting)",
        "begin_runs(connection, [replace(run, state=State.ACCEPTED) for run in starting])",
        SIMULATION,
    ),
    Mutant(
        "`starting` returns to `accepted`",
        "bridge/core/runs/state_machine.py",
        'return Decision(history.record(doubted, "in_doubt", now, reason=why))',
        "return Decision(_not_started(run, now))",
        SIMULATION,
    ),
    Mutant(
        "retry after a timeout",
        "bridge/adapters/crew_api.py",
        "InDoubt(describe_failure(error)) if transmission.started else NotStarted(describe_failure(error))",
        "NotStarted(describe_failure(error))",
        pytest("tests/integration/test_crew_api.py"),
    ),
    Mutant(
        "addresses checked only at resolution",
        "bridge/adapters/callbacks/sender.py",
        ", socket_factory=guard",
        "",
        pytest("tests/integration/callbacks/test_sender.py"),
    ),
    Mutant(
        "final event outside the transaction",
        "bridge/adapters/store/ownership.py",
        "            return await self._batches.write(write_decisions, request)\n",
        "            from bridge.adapters.store.queries.accept import add_deliveries\n"
        "            bare = WriteRequest(Decision(request.decision.run), request.process)\n"
        "            written = await self._batches.write(write_decisions, bare)\n"
        "            await self._batches.write(add_deliveries, request.decision.deliveries)\n"
        "            return written\n",
        SIMULATION,
    ),
    Mutant(
        "an expired process owns what it writes",
        "bridge/adapters/store/queries/runs.py",
        "alive = {process for process in owning if is_alive(connection, process)}",
        "alive = owning",
        pytest("tests/contract/test_local_handoff.py"),
    ),
    Mutant(
        "delivered before it is sent",
        "bridge/steps/delivery.py",
        "        result = await self._sender.send(self._tracing.addressed(delivery))\n",
        "        from bridge.core.delivery.outcome import Confirmed\n"
        "        await self._store.record_outcome(outcome_of_attempt(delivery, Confirmed(), self._clock()))\n"
        "        result = await self._sender.send(self._tracing.addressed(delivery))\n",
        SIMULATION,
    ),
    Mutant(
        "an unconfirmed publish counts as delivered",
        "bridge/adapters/amqp/publisher.py",
        'a memory or disk alarm?"))\n            return Retryable("no confirm in time")',
        'a memory or disk alarm?"))\n            return Confirmed()',
        pytest("tests/integration/amqp/test_publisher.py", "tests/integration/amqp/test_connection.py"),
    ),
    Mutant(
        "two messages with one id in flight at once",
        "bridge/adapters/amqp/publisher.py",
        "            await earlier.wait()",
        "            break",
        pytest("tests/integration/amqp/test_publisher.py"),
    ),
    Mutant(
        "kickoff ids are not journaled",
        "bridge/steps/runs/kickoff.py",
        "append = partial(self._journal.append, decision.run)",
        "append = partial(asyncio.sleep, 0)",
        pytest("tests/component/steps/recovery/test_journal.py"),
    ),
    Mutant(
        "the kickoff journal is not replayed",
        "bridge/steps/recovery/journal.py",
        "    entries = journal.entries()",
        "    entries = []",
        pytest("tests/component/steps/recovery/test_journal.py"),
    ),
    Mutant(
        "an I/O error is transient",
        "bridge/adapters/store/sqlite.py",
        '    event.listen(engine, "handle_error", end_if_broken)\n',
        "",
        pytest("tests/integration/test_store_faults.py"),
    ),
    Mutant(
        "the clock jumps",
        "bridge/adapters/clock.py",
        "SLEW = 0.05",
        "SLEW = 1e9",
        pytest("tests/component/test_clock.py"),
    ),
    Mutant(
        "a clock that was set back is ignored",
        "bridge/adapters/store/database.py",
        "(back := await writer.run(partial(follow_clock, now=now)))",
        "(back := 0)",
        pytest("tests/integration/test_store_faults.py"),
    ),
    Mutant(
        "a final state may change",
        "bridge/core/runs/state_machine.py",
        "    State.TIMED_OUT: frozenset(),",
        "    State.TIMED_OUT: frozenset({State.SUCCEEDED}),",
        pytest("tests/unit/runs/test_state_machine.py", "tests/test_house.py"),
    ),
    Mutant(
        "the clock alone ends a run",
        "bridge/core/runs/observation.py",
        "return passed and not isinstance(response, responses.NoResponse | responses.CrewUnavailable)",
        "return passed",
        pytest("tests/unit/runs/test_state_machine.py"),
    ),
    Mutant(
        "a new event id for every attempt",
        "bridge/core/delivery/events.py",
        '    event_id = f"{run.run_id}-',
        '    event_id = f"{now}-{run.run_id}-',
        pytest("tests/unit/delivery/test_events.py"),
    ),
    Mutant(
        "slots are not counted",
        "bridge/adapters/store/queries/kickoffs.py",
        "    if free <= 0:",
        "    free = request.limit\n    if free <= 0:",
        SIMULATION,
    ),
    Mutant(
        "a signature digest finds no run",
        "bridge/adapters/store/queries/accept.py",
        " or by_signature_digest.get(_signature_digest(run))",
        "",
        pytest("tests/contract/test_store.py", "-k", "TestSignatureDigests and sqlite"),
    ),
    Mutant(
        "the times of questions do not follow the clock",
        "bridge/adapters/store/clock_correction.py",
        "    _move_questions(connection, back)\n",
        "",
        pytest("tests/integration/test_store_faults.py"),
    ),
    Mutant(
        "a question may be answered twice",
        "bridge/core/human_input/rules.py",
        "question.content.task_id is None and command.task_id in run.human_input.known_task_ids",
        "False",
        pytest("tests/unit/human_input/test_rules.py"),
    ),
    Mutant(
        "an expired process may still write",
        "bridge/adapters/store/queries/claims.py",
        "    connection.execute(update(runs).where(own_rows).values(owner=None, version=runs.c.version + 1))",
        "    connection.execute(update(runs).where(own_rows).values(owner=None))",
        pytest("tests/contract/test_store.py", "tests/contract/test_replicas.py", "-k", "sqlite"),
    ),
    Mutant(
        "a suspended process keeps its locks",
        "bridge/adapters/store/queries/cluster.py",
        "        await self._reader.read(dialect.end_idle_sessions)\n",
        "",
        pytest("tests/contract/test_postgresql.py", "-k", "suspended"),
    ),
    Mutant(
        "tracking of a run ends before its release",
        "bridge/steps/maintenance/rebalance.py",
        "released = await self._store.release_runs(excess)\n",
        "[crew.tracker.forget(one) for crew in self._crews.values() for one in excess]\n            "
        "released = await self._store.release_runs(excess)\n",
        pytest("tests/component/steps/test_replicas.py"),
    ),
    Mutant(
        "a cached answer refuses a request",
        "bridge/steps/runs/input_check.py",
        "await self._listed(crew, after=asked_before)",
        "await self._listed(crew)",
        pytest("tests/component/steps/runs/test_input_check.py"),
    ),
    Mutant(
        "a timeout that mentions a limit is a quota",
        "bridge/core/crew/responses.py",
        "    if code in _MAY_HAVE_STARTED:\n        return False\n",
        "",
        pytest("tests/unit/crew/test_responses.py"),
    ),
    Mutant(
        "a failed run is continued",
        "bridge/core/runs/restore.py",
        "    if earlier.state is not State.SUCCEEDED:\n",
        "    if not earlier.final:\n",
        pytest("tests/unit/runs/test_restore.py"),
    ),
    Mutant(
        "an inner execution is adopted",
        "bridge/core/crew/webhooks.py",
        'data.get("parent_event_id") is None\n',
        "True\n",
        pytest("tests/unit/crew/test_webhooks.py"),
    ),
    Mutant(
        "a crew in a thread of a flow is the flow itself",
        "bridge/core/crew/webhooks.py",
        "and (is_flow is None or of_crew is not is_flow)",
        "",
        pytest("tests/unit/crew/test_webhooks.py"),
    ),
    Mutant(
        "a poll of another execution puts its run back",
        "bridge/steps/_tracker.py",
        "return self._being_polled.get(tracked.run_id) == tracked.kickoff_id",
        "return tracked.run_id in self._being_polled",
        pytest("tests/component/steps/test_crew_webhooks.py"),
    ),
    Mutant(
        "an uncertain id is trusted",
        "bridge/core/runs/webhooks.py",
        "replace(found.run, unverified=True)",
        "found.run",
        pytest("tests/component/steps/test_crew_webhooks.py"),
    ),
    Mutant(
        "the execution_id after a pause is adopted",
        "bridge/core/crew/webhooks.py",
        'found if found is not None and state_id is None else _id_in(event, "execution_id")',
        '_id_in(event, "execution_id")',
        pytest("tests/unit/crew/test_webhooks.py"),
    ),
    Mutant(
        "a webhook is answered before it is stored",
        "bridge/steps/webhook_inbox.py",
        "        if not await self._inbox.add(entry):\n",
        "        import asyncio\n\n"
        "        asyncio.get_running_loop().call_later(0.02, lambda: asyncio.ensure_future(self._inbox.add(entry)))\n"
        "        if False:\n",
        pytest("tests/system/faults/test_evidence.py", "-k", "start"),
    ),
    Mutant(
        "webhooks during a POST wait for the next tick",
        "bridge/steps/runs/kickoff.py",
        "self._signals.inbox()",
        "pass",
        pytest("tests/component/steps/test_crew_webhooks.py"),
    ),
    Mutant(
        "large responses are read at once",
        "bridge/adapters/crew_api.py",
        "if hold is None and len(body) > LARGE:",
        "if False:",
        pytest("tests/integration/test_crew_api.py", "-k", "large"),
    ),
    Mutant(
        "reports about tasks leave no room for the end",
        "bridge/adapters/store/queries/inbox.py",
        "part = 2 if entry.kind in _PROGRESS else 1",
        "part = 1",
        pytest("tests/contract/test_webhook_inbox.py", "-k", "sqlite"),
    ),
)
