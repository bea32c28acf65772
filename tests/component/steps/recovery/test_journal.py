"""Kickoff ids that the store did not take are not lost: the journal keeps them, and the next start takes them up."""

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
class Notes:
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
    """A store that takes no decision about a run that has an execution, until there is room again."""

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
def entries(bench: Bench) -> Notes:
    entries = bench.journal = Notes()
    return entries


async def test_an_id_that_the_store_does_not_take_soon_is_noted_until_it_does(
    bench: Bench, entries: Notes, monkeypatch: pytest.MonkeyPatch
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


async def test_an_id_in_hand_is_noted_when_the_disk_fails_for_good(bench: Bench, entries: Notes) -> None:
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


async def test_a_run_left_starting_goes_on_with_the_noted_id_and_is_not_in_doubt(bench: Bench, entries: Notes) -> None:
    """Without the journal this run would wait for a human, who could not find out what it had cost."""
    run = await bench.left_starting()
    entries.kept.append(JournalEntry(run.run_id, 1, "k-7"))

    await replay_journal(entries, bench.crews, bench.store, bench.clock, raise_fault)

    now = await bench.now(run)
    assert (now.state, now.kickoff_id, now.owner) == (State.RUNNING, "k-7", None)
    assert entries.kept == []


async def test_a_run_in_doubt_goes_on_with_the_noted_id(bench: Bench, entries: Notes) -> None:
    run = await bench.left_starting()
    await bench.round(bench.recover)
    entries.kept.append(JournalEntry(run.run_id, 1, "k-7"))

    await replay_journal(entries, bench.crews, bench.store, bench.clock, raise_fault)

    assert (await bench.now(run)).kickoff_id == "k-7"


async def test_a_note_that_was_overtaken_changes_nothing(bench: Bench, entries: Notes) -> None:
    run = await bench.left_running()
    entries.kept += [JournalEntry(run.run_id, 1, "k-7"), JournalEntry("no such run", 1, "k-8")]

    await replay_journal(entries, bench.crews, bench.store, bench.clock, raise_fault)

    assert (await bench.now(run)).kickoff_id == "k-1"
    assert entries.kept == []


async def test_a_note_about_another_attempt_is_not_taken(bench: Bench, entries: Notes) -> None:
    run = await bench.left_starting()
    entries.kept.append(JournalEntry(run.run_id, 2, "k-7"))

    await replay_journal(entries, bench.crews, bench.store, bench.clock, raise_fault)

    assert (await bench.now(run)).state is State.STARTING


async def test_an_execution_of_another_run_is_not_given_away_twice(bench: Bench, entries: Notes) -> None:
    await bench.left_running()
    run = await bench.left_starting()
    entries.kept.append(JournalEntry(run.run_id, 1, "k-1"))

    await replay_journal(entries, bench.crews, bench.store, bench.clock, raise_fault)

    assert (await bench.now(run)).state is State.IN_DOUBT


async def test_notes_of_a_crew_that_is_not_configured_are_kept(bench: Bench, entries: Notes) -> None:
    run = await bench.left_starting()
    entries.kept.append(JournalEntry(run.run_id, 1, "k-7"))

    await replay_journal(entries, {}, bench.store, bench.clock, raise_fault)

    assert len(entries.kept) == 1
