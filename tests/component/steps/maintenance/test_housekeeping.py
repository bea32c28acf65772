"""Housekeeping: heartbeats, expired processes, and retention."""

import pytest
from structlog.testing import capture_logs

from bridge.steps.maintenance import housekeeping as housekeeping_module
from tests.component.steps.conftest import Bench
from tests.fakes import NOW


async def test_a_round_is_due_every_two_seconds(bench: Bench):
    housekeeping = bench.housekeeping
    assert await bench.round(housekeeping) == [NOW]
    assert await bench.round(housekeeping) == []
    assert housekeeping.pause() == 2.0
    bench.clock.forward(2)
    assert await housekeeping.claim(0) == []
    assert await bench.round(housekeeping) == [NOW + 2]


async def test_old_runs_are_deleted_after_their_last_delivery(bench: Bench):
    run = await bench.ended()
    housekeeping = bench.housekeeping
    bench.clock.forward(86_401)
    await bench.round(housekeeping)
    assert await bench.store.load(run.run_id) is not None
    await bench.deliver()
    bench.clock.forward(3)
    await bench.round(housekeeping)
    assert await bench.store.load(run.run_id) is None


async def test_while_many_old_runs_remain_the_next_batch_follows_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(housekeeping_module, "DELETE_BATCH", 2)
    runs = [await bench.ended() for _ in range(3)]
    await bench.deliver()
    bench.clock.forward(86_401)
    housekeeping, left = bench.housekeeping, []
    while await bench.round(housekeeping):
        left.append(len([run for run in runs if await bench.store.load(run.run_id) is not None]))
    assert left == [1, 0]
    assert housekeeping.pause() == 2.0


async def test_an_expired_process_rejoins_and_owns_nothing(bench: Bench):
    run = await bench.started()
    await bench.store.cluster.expire_processes(NOW, -1.0)
    with capture_logs() as logs:
        await bench.round(bench.housekeeping)
    assert [entry for entry in logs if entry["event"] == "process_rejoined"] != []
    assert run.run_id not in bench.crew.tracker.queue
    await bench.round(bench.recover)
    assert (await bench.now(run)).owner == "me-2"
    assert run.run_id in bench.crew.tracker.queue


async def test_silent_processes_expire_and_their_runs_are_recovered(bench: Bench):
    housekeeping = bench.housekeeping
    await bench.rounds(housekeeping, seconds=20.0)
    await bench.another_process("other").cluster.join(bench.clock())
    await bench.rounds(housekeeping, seconds=9.0)
    assert not bench.notified("recover")
    await bench.rounds(housekeeping, seconds=2.0)
    assert bench.notified("recover")


async def test_after_its_own_silence_a_process_first_waits_for_heartbeats(bench: Bench):
    """After an outage of the database, the first process to return must not expire the others."""
    housekeeping = bench.housekeeping
    await bench.rounds(housekeeping, seconds=20.0)
    other = bench.another_process("other")
    await other.cluster.join(bench.clock())
    bench.clock.forward(30.0)
    await bench.round(housekeeping)
    await other.cluster.heartbeat(bench.clock())  # does not raise
