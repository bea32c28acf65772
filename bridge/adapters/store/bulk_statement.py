"""Bulk writes: a statement is compiled once, and its rows are passed directly to the driver.

SQLAlchemy's own processing of each row costs several times as much as the database's.
"""

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Dialect, Insert, Update

Row = Mapping[str, Any]


class BulkStatement:
    """One INSERT or UPDATE for many rows, which may depend on the database.

    All rows have the same names: parameters of the statement, and columns to write in addition to those that it names.
    Values are passed to the driver unchanged: text, bytes, numbers, None.
    """

    def __init__(self, statement: Callable[[Connection], Insert | Update]) -> None:
        self._statement = statement
        self._compiled: dict[str, _Compiled] = {}

    def execute(self, connection: Connection, rows: Sequence[Row]) -> int:
        """Write the rows; return how many rows of the table changed."""
        if not rows:
            return 0
        compiled = self._compile(connection, rows[0])
        result = connection.exec_driver_sql(compiled.sql, [compiled.parameters(row) for row in rows])
        return result.rowcount

    def _compile(self, connection: Connection, row: Row) -> "_Compiled":
        dialect = connection.dialect
        if dialect.name not in self._compiled:
            self._compiled[dialect.name] = _Compiled(self._statement(connection), dialect, row)
        return self._compiled[dialect.name]


class _Compiled:
    """A statement for one driver, with positional (SQLite) or named (PostgreSQL) parameters."""

    def __init__(self, statement: Insert | Update, dialect: Dialect, row: Row) -> None:
        columns = [name for name in row if name in statement.table.c]
        compiled = statement.compile(dialect=dialect, column_keys=columns)
        self.sql = str(compiled)
        self._constants = {name: value for name, value in compiled.params.items() if name not in row}
        self._in_order = itemgetter(*compiled.positiontup) if compiled.positional and compiled.positiontup else None

    def parameters(self, row: Row) -> Any:
        """Return the parameters of one row."""
        values = {**self._constants, **row} if self._constants else row
        return values if self._in_order is None else self._in_order(values)
