"""A failing disk, a replaced file, and a clock set back: real SQLite, real errors."""

import asyncio
import resource
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.adapters.store import SqlStore, database, migrate_store, open_store
from bridge.core.errors import StoreBroken, StoreDamaged
from bridge.core.human_input.model import HumanInput, Question, QuestionStage
from bridge.core.runs.model import Decision, State
from bridge.ports.queries import RunFilter
from tests.fakes import NOW, a_delivery, a_run, applied

DAY = 86_400.0


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "bridge.db"
    asyncio.run(migrate_store(f"sqlite:///{path}"))
    return path


@pytest.fixture
def url(tmp_path: Path, empty: Path) -> str:
    shutil.copy(empty, tmp_path / "bridge.db")
    return f"sqlite:///{tmp_path}/bridge.db"


@contextmanager
def limited_file_size(size: int) -> Iterator[None]:
    """Writes beyond this position in any file fail with EFBIG, which SQLite reports as an I/O error."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def fill(store: SqlStore) -> None:
    for number in range(1, 200):
        await store.accept(a_run(number))


async def test_an_io_error_is_not_transient(url: str) -> None:
    """A connection that reported one must not be used any more: its view of the file may be wrong."""
    with pytest.raises(StoreBroken, match="cannot be relied on"):  # noqa: PT012 - closing the store may also write
        async with open_store(database(url), "me", NOW) as store:
            with limited_file_size(64 * 1024):
                await fill(store)


async def test_an_overwritten_file_is_damaged_and_not_transient(url: str, tmp_path: Path) -> None:
    with pytest.raises(StoreDamaged):  # noqa: PT012 - as above
        async with open_store(database(url), "me", NOW) as store:
            await fill(store)
            with closing(sqlite3.connect(tmp_path / "bridge.db")) as other:
                other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            with (tmp_path / "bridge.db").open("r+b") as file:
                file.seek(4096)
                file.write(b"not a page" * 20_000)
            await store.queries.find_runs(RunFilter())


async def test_a_clock_set_back_by_a_day_delays_nothing_by_a_day(url: str) -> None:
    async with open_store(database(url), "me", NOW) as store:
        await store.accept(a_run(1))
        await store.deliveries.add([a_delivery()])

    async with open_store(database(url), "me", NOW - DAY) as store:
        [run] = await store.claim_accepted("research", 9, 9, NOW - DAY)
        deliveries = await store.deliveries.claim([a_delivery().destination.channel], 9, NOW - DAY)

    assert run.state is State.STARTING
    assert len(deliveries) == 1


async def test_a_clock_set_back_gives_no_more_time_to_start_a_run(url: str) -> None:
    async with open_store(database(url), "me", NOW) as store:
        await store.accept(a_run(1, start_by=60.0))

    async with open_store(database(url), "me", NOW - DAY) as store:
        assert await store.find_expired(["research"], 9, NOW - DAY + 59.0) == []
        assert len(await store.find_expired(["research"], 9, NOW - DAY + 60.0)) == 1


async def test_a_clock_set_back_shifts_times_once_and_not_at_every_start(url: str) -> None:
    """One old run in the future shifted the due times and deadlines of all others at each start (seed 1865)."""
    async with open_store(database(url), "me", NOW) as store:
        await store.accept(a_run(1))
    async with open_store(database(url), "me", NOW - DAY) as store:
        await store.accept(a_run(2, now=NOW - DAY))

    async with open_store(database(url), "me", NOW - DAY + 1) as store:
        old, new = await store.load(a_run(1).run_id), await store.load(a_run(2).run_id)

    assert old is not None
    assert new is not None
    assert (old.due_at, new.due_at) == (NOW - DAY, NOW - DAY)


async def test_after_a_clock_was_set_back_events_are_stored_at_the_new_time(url: str) -> None:
    """Not all of them just after the last one of the old time until the clock has caught up."""
    async with open_store(database(url), "me", NOW) as store:
        await store.accept(a_run(1))
        await store.deliveries.add([a_delivery(created_at=NOW)])
    async with open_store(database(url), "me", NOW - DAY) as store:
        await store.deliveries.add([a_delivery(2, created_at=NOW - DAY + 1)])
        assert await store.queries.stored_at() == NOW - DAY + 1


@pytest.mark.parametrize("with_question", [True, False])
async def test_a_clock_set_back_extends_neither_the_time_for_human_input_nor_that_of_the_run(
    url: str, with_question: bool
) -> None:
    """The answer restored a day that its question had never been granted, and the run timed out at once."""
    question = Question(1, NOW - 1.0, NOW + 8.0, stage=QuestionStage.SENT, sent_at=NOW)
    human_input = HumanInput(question if with_question else None, known_task_ids=("t-1",), deadline_extension=8.0)
    async with open_store(database(url), "me", NOW) as store:
        stored = (await store.accept(a_run(1))).run
        [claimed] = await store.claim_accepted("research", 9, 9, NOW)
        await applied(store, Decision(replace(claimed, human_input=human_input)))

    async with open_store(database(url), "me", NOW - DAY) as store:
        run = await store.load(stored.run_id)

    assert run is not None
    moved = replace(question, asked_at=NOW - DAY - 1.0, answer_by=NOW - DAY + 8.0, sent_at=NOW - DAY)
    assert run.human_input == replace(human_input, question=moved if with_question else None)


async def test_a_correct_clock_shifts_nothing(url: str) -> None:
    async with open_store(database(url), "me", NOW) as store:
        await store.accept(a_run(1, now=NOW))

    async with open_store(database(url), "me", NOW + 1) as store:
        run = await store.load(a_run(1).run_id)

    assert run is not None
    assert run.due_at == NOW
