"""Commands to cancel a run whose POST is under way: kept apart from its row, whose version belongs to the answer."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from sqlalchemy import Connection, delete, literal, select

from bridge.adapters.store import dialect
from bridge.adapters.store.connections import Work
from bridge.adapters.store.schema import pending_commands, runs
from bridge.core.runs.model import FINAL_STATES, State

_OPEN = runs.c.state.not_in(sorted(state.value for state in FINAL_STATES))

Do = Callable[[Work[Any]], Awaitable[Any]]
"""Does work in a transaction; raises `StoreUnavailable`."""


class SqlCommands:
    """The kept commands of one store."""

    def __init__(self, write: Do, read: Do) -> None:
        self._write = write
        self._read = read

    async def keep(self, run_id: str, sender: str, now: float) -> bool:
        """Keep a command for a run, once; False if the run has ended and there is nothing to keep it for."""
        kept: bool = await self._write(partial(_keep, run_id=run_id, sender=sender, now=now))
        return kept

    async def applicable(self, most: int) -> list[tuple[str, str]]:
        """Runs that no POST is under way for, each with who sent the command; the oldest first."""
        found: list[tuple[str, str]] = await self._read(partial(_applicable, most=most))
        return found

    async def drop(self, run_id: str) -> None:
        """The command is applied, or there is nothing left to apply it to."""
        await self._write(partial(_drop, run_id=run_id))


def _keep(connection: Connection, run_id: str, sender: str, now: float) -> bool:
    open_run = select(runs.c.run_id, literal(sender), literal(now)).where(runs.c.run_id == run_id, _OPEN)
    insert = dialect.insert_new(connection, pending_commands)
    connection.execute(insert.from_select(["run_id", "sender", "requested_at"], open_run))
    stored = select(pending_commands.c.run_id).where(pending_commands.c.run_id == run_id)
    return connection.execute(stored).first() is not None


def _applicable(connection: Connection, most: int) -> list[tuple[str, str]]:
    command = pending_commands.c
    query = select(command.run_id, command.sender).join(runs, runs.c.run_id == command.run_id)
    due = query.where(runs.c.state != State.STARTING.value).order_by(command.requested_at, command.run_id)
    return [(row.run_id, row.sender) for row in connection.execute(due.limit(most))]


def _drop(connection: Connection, run_id: str) -> None:
    connection.execute(delete(pending_commands).where(pending_commands.c.run_id == run_id))
