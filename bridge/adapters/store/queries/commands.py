"""Commands for runs with a POST in progress, stored apart from the run's row, whose version guards the response."""

from functools import partial

from sqlalchemy import Connection, delete, literal, select, text

from bridge.adapters.store import dialect
from bridge.adapters.store.connections import Connections
from bridge.adapters.store.group_commit import Batches
from bridge.adapters.store.schema import OPEN, pending_commands, runs
from bridge.core.runs.model import State


class SqlCommands:
    """Stores the commands that wait for a POST; `ports.DeferredCommands`."""

    def __init__(self, batches: Batches, reader: Connections) -> None:
        self._batches = batches
        self._reader = reader

    async def defer(self, run_id: str, sender: str, now: float) -> bool:
        return await self._batches.write_one(partial(_defer, run_id=run_id, sender=sender, now=now))

    async def applicable(self, limit: int) -> list[tuple[str, str]]:
        return await self._reader.read(partial(_applicable, limit=limit))

    async def remove(self, run_id: str) -> None:
        await self._batches.write_one(partial(_remove, run_id=run_id))


def _defer(connection: Connection, run_id: str, sender: str, now: float) -> bool:
    open_run = select(runs.c.run_id, literal(sender), literal(now)).where(runs.c.run_id == run_id, text(OPEN))
    insert = dialect.insert_or_ignore(connection, pending_commands)
    connection.execute(insert.from_select(["run_id", "sender", "requested_at"], open_run))
    stored = select(pending_commands.c.run_id).where(pending_commands.c.run_id == run_id)
    return connection.execute(stored).first() is not None


def _applicable(connection: Connection, limit: int) -> list[tuple[str, str]]:
    command = pending_commands.c
    query = select(command.run_id, command.sender).join(runs, runs.c.run_id == command.run_id)
    due = query.where(runs.c.state != State.STARTING.value).order_by(command.requested_at, command.run_id)
    return [(row.run_id, row.sender) for row in connection.execute(due.limit(limit))]


def _remove(connection: Connection, run_id: str) -> None:
    connection.execute(delete(pending_commands).where(pending_commands.c.run_id == run_id))
