"""Durable transactions per run: each is a sync of the disk, which only other runs can share."""

from dataclasses import dataclass
from typing import Any

import pytest

from bridge.adapters.store import SqlStore
from bridge.adapters.store.connections import Connections, Work
from bridge.core.crew.responses import Succeeded
from bridge.core.crew_policy import CrewPolicy
from bridge.core.runs.model import State
from tests.component.steps.conftest import KEY, Bench, OneDatabase
from tests.fakes import NOW


@dataclass
class CountedTransactions:
    """Counts the transactions of a store."""

    writer: Connections
    number: int = 0

    async def run(self, work: Work[Any]) -> Any:
        self.number += 1
        return await self.writer.run(work)


@pytest.mark.parametrize(("handed_off", "expected"), [(True, 5), (False, 6)])
async def test_a_run_takes_five_or_six_transactions(
    one_database: OneDatabase, store: SqlStore, handed_off: bool, expected: int
):
    """Acceptance, claim, response, end with its event, perhaps a claim of the event, and its confirmation."""
    transactions = CountedTransactions(one_database.writer)
    counted = SqlStore(one_database.reader, transactions.run, "counted", KEY, shared=store.shared)
    await counted.cluster.join(NOW)
    bench = Bench(counted, CrewPolicy(results_exchange=True))
    bench.api.default_status = Succeeded("done")
    transactions.number = 0

    run = await bench.accepted()
    await bench.round(bench.kickoff)
    tracked = bench.crew.tracker.queue.next_due()
    assert tracked is not None
    bench.clock.moment = max(tracked, NOW)
    if handed_off:  # a sender waits
        assert await bench.round(bench.publish) == []
        transactions.number -= 1
    await bench.round(bench.poll)
    await bench.round(bench.publish)

    assert ((await bench.now(run)).state, len(bench.sender.sent)) == (State.SUCCEEDED, 1)
    assert transactions.number == expected
    await counted.close()
