"""The kickoff journal: ids that the store could not take are kept, and applied at the next start."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from bridge.core.errors import StoreBroken
from bridge.core.runs.model import Decision, Run, State
from bridge.ports.journal import JournalEntry
from bridge.steps.recovery.journal import replay_journal
from bridge.steps.runs import kickoff
from tests.component.steps.conftest import Bench
from tests.fakes import raise_fault


@dataclass
class MemoryJournal:
    """A journal in memory."""

    kept: list[JournalEntry] = field(default_factory=list)
    dropped: list[JournalEntry] = field(default_factory=list)
    noted: asyncio.Event = field(default_factory=asyncio.Event)

    async def append(self, run: Run) -> None:
        assert run.kickoff_id is not None
        self.kept.append(JournalEntry(run.run_id, run.attempt, run.kickoff_id))
        self.noted.set()

    async def drop(self, run: Run) -> None:
        self.dropped += [append for append in self.kept if (append.run_id, append.attempt) == (run.run_id, run.attempt)]

    def entries(self) -> list[JournalEntry]:
        return list(self.kept)

    def clear(self) -> None:
        self.kept.clear()


class FullDisk:
    """A store that rejects decisions about runs with an execution until its disk has space again."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.room = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def apply(self, decision: Decision) -> Run:
        if decision.run.kickoff_id is not None:
            await self.room.wait()
        written: Run = await self._store.apply(decision)
        return written


@pytest.fixture
def entries(bench: Bench) -> MemoryJournal:
    entries = bench.journal = MemoryJournal()
    return entries


async def test_an_id_is_journaled_until_the_store_accepts_it(
    bench: Bench, entries: MemoryJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kickoff, "JOURNAL_AFTER", 0.01)
    run = await bench.accepted()
    store = bench.store = FullDisk(bench.store)
    starting = asyncio.create_task(bench.round(bench.kickoff))

    await entries.noted.wait()
    assert entries.dropped == []
    store.room.set()
    await starting

    assert entries.kept == entries.dropped == [JournalEntry(run.run_id, 1, "execution-1")]
    assert (await bench.now(run)).kickoff_id == "execution-1"


async def test_an_id_is_journaled_when_the_disk_fails_permanently(bench: Bench, entries: MemoryJournal) -> None:
    run = await bench.accepted()

    class BrokenDisk(FullDisk):
        async def apply(self, decision: Decision) -> Run:
            if decision.run.kickoff_id is not None:
                raise StoreBroken("disk I/O error")
            return await super().apply(decision)

    bench.store = BrokenDisk(bench.store)
    with pytest.raises(StoreBroken):
        await bench.round(bench.kickoff)

    assert (entries.kept, entries.dropped) == ([JournalEntry(run.run_id, 1, "execution-1")], [])


async def test_a_starting_run_continues_with_the_journaled_id(bench: Bench, entries: MemoryJournal) -> None:
    """Without the journal, this run would be held for an operator, who could not find its execution."""
    run = await bench.left_starting()
    entries.kept.append(JournalEntry(run.run_id, 1, "k-7"))

    await replay_journal(entries, bench.crews, bench.store, bench.clock, raise_fault)

    now = await bench.now(run)
    assert (now.state, now.kickoff_id, now.owner) == (State.RUNNING, "k-7", None)
    assert entries.kept == []


async def test_a_run_in_doubt_continues_with_the_journaled_id(bench: Bench, entries: MemoryJournal) -> None:
    run = await bench.left_starting()
    await bench.round(bench.recover)
    entries.kept.append(JournalEntry(run.run_id, 1, "k-7"))

    await replay_journal(entries, bench.crews, bench.store, bench.clock, raise_fault)

    assert (await bench.now(run)).kickoff_id == "k-7"


async def test_an_outdated_entry_changes_nothing(bench: Bench, entries: MemoryJournal) -> None:
    run = await bench.left_running()
    entries.kept += [JournalEntry(run.run_id, 1, "k-7"), JournalEntry("no such run", 1, "k-8")]

    await replay_journal(entries, bench.crews, bench.store, bench.clock, raise_fault)

    assert (await bench.now(run)).kickoff_id == "k-1"
    assert entries.kept == []


async def test_an_entry_of_an_earlier_attempt_is_ignored(bench: Bench, entries: MemoryJournal) -> None:
    run = await bench.left_starting()
    entries.kept.append(JournalEntry(run.run_id, 0, "k-7"))

    await replay_journal(entries, bench.crews, bench.store, bench.clock, raise_fault)

    assert (await bench.now(run)).state is State.STARTING


async def test_an_entry_of_a_later_attempt_than_a_restored_store_has_seen_is_applied(
    bench: Bench, entries: MemoryJournal
) -> None:
    """The journal was kept, and the backup is older: it would be POSTed a second time."""
    accepted, starting = await bench.accepted(inputs={"topic": "another"}), await bench.left_starting()
    entries.kept += [JournalEntry(accepted.run_id, 1, "k-7"), JournalEntry(starting.run_id, 2, "k-8")]

    await replay_journal(entries, bench.crews, bench.store, bench.clock, raise_fault)

    for run, attempt, kickoff_id in ((accepted, 1, "k-7"), (starting, 2, "k-8")):
        now = await bench.now(run)
        assert (now.state, now.attempt, now.kickoff_id, now.owner) == (State.RUNNING, attempt, kickoff_id, None)
    assert bench.api.bodies == []


async def test_the_execution_of_another_run_is_not_assigned_again(bench: Bench, entries: MemoryJournal) -> None:
    await bench.left_running()
    run = await bench.left_starting()
    entries.kept.append(JournalEntry(run.run_id, 1, "k-1"))

    await replay_journal(entries, bench.crews, bench.store, bench.clock, raise_fault)

    assert (await bench.now(run)).state is State.IN_DOUBT


async def test_entries_of_a_crew_that_is_not_configured_are_kept(bench: Bench, entries: MemoryJournal) -> None:
    run = await bench.left_starting()
    entries.kept.append(JournalEntry(run.run_id, 1, "k-7"))

    await replay_journal(entries, {}, bench.store, bench.clock, raise_fault)

    assert len(entries.kept) == 1
