"""The kickoff journal: ids survive the process, whatever state the file was left in."""

from dataclasses import replace
from pathlib import Path

import pytest

from bridge.adapters import kickoff_journal
from bridge.adapters.kickoff_journal import RESERVED, SLOT_SIZE, open_journal
from bridge.core.errors import StoreUnavailable
from bridge.core.runs.model import Run
from bridge.ports.journal import JournalEntry
from tests.fakes import a_run


def started(number: int) -> Run:
    return replace(a_run(number), attempt=1, kickoff_id=f"k-{number}")


def append(number: int) -> JournalEntry:
    run = started(number)
    return JournalEntry(run.run_id, 1, f"k-{number}")


async def test_entries_are_there_after_a_restart(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/bridge.db"
    async with open_journal(url) as journal:
        await journal.append(started(1))
        await journal.append(started(2))

    async with open_journal(url) as journal:
        assert journal.entries() == [append(1), append(2)]
        await journal.append(started(3))
        assert journal.entries() == [append(1), append(2), append(3)]


async def test_disk_space_is_reserved_in_advance(tmp_path: Path) -> None:
    async with open_journal(f"sqlite:///{tmp_path}/bridge.db") as journal:
        await journal.append(started(1))

    assert (tmp_path / "bridge.db.kickoffs").stat().st_size == RESERVED


async def test_a_line_truncated_by_a_crash_hides_no_other(tmp_path: Path) -> None:
    file = tmp_path / "bridge.db.kickoffs"
    async with open_journal(f"sqlite:///{tmp_path}/bridge.db") as journal:
        await journal.append(started(1))
    with file.open("r+b") as content:
        content.seek(SLOT_SIZE)
        content.write(b'{"run_id": "half a li')

    async with open_journal(f"sqlite:///{tmp_path}/bridge.db") as journal:
        await journal.append(started(2))
        assert journal.entries() == [append(1), append(2)]


async def test_a_cleared_journal_is_empty_and_usable(tmp_path: Path) -> None:
    async with open_journal(f"sqlite:///{tmp_path}/bridge.db") as journal:
        await journal.append(started(1))
        journal.clear()
        await journal.append(started(2))
        assert journal.entries() == [append(2)]


async def test_a_dropped_entry_frees_its_space_and_no_other_entry_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kickoff_journal, "RESERVED", 16 * SLOT_SIZE)
    url = f"sqlite:///{tmp_path}/bridge.db"
    async with open_journal(url) as journal:
        await journal.append(started(1))
        for number in range(2, 40):
            await journal.append(started(number))
            await journal.drop(started(number))
        await journal.drop(started(9))  # never appended, or dropped before
        await journal.append(started(3))

    assert (tmp_path / "bridge.db.kickoffs").stat().st_size == 16 * SLOT_SIZE
    async with open_journal(url) as journal:
        assert journal.entries() == [append(1), append(3)]


async def test_a_restart_reads_all_entries_beyond_the_reserved_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kickoff_journal, "RESERVED", 3 * SLOT_SIZE)
    url = f"sqlite:///{tmp_path}/bridge.db"
    async with open_journal(url) as journal:
        for number in range(1, 6):
            await journal.append(started(number))
    async with open_journal(url) as journal:
        await journal.append(started(6))
    async with open_journal(url) as journal:
        assert journal.entries() == [append(number) for number in range(1, 7)]
        journal.clear()
        assert journal.entries() == []
    assert (tmp_path / "bridge.db.kickoffs").stat().st_size == 3 * SLOT_SIZE


async def test_an_unwritable_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="kickoffs"):
        async with open_journal(f"sqlite:///{tmp_path}/missing/bridge.db"):
            pass


async def test_a_store_without_a_file_has_no_journal() -> None:
    async with open_journal("sqlite:///:memory:") as journal:
        await journal.append(started(1))
        await journal.drop(started(1))
        assert journal.entries() == []
        journal.clear()
