"""Writing many rows at once: the statement becomes text once, and rows go straight to the driver.

Handing each row to the library's own way of executing costs several times what the database does with it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Dialect, Insert, Update

Row = Mapping[str, Any]


class BulkStatement:
    """One INSERT or UPDATE for many rows, each a mapping of the same names: columns, or the statement's parameters.

    `statement` may differ by database. Values go to the driver as they are: text, bytes, numbers, None.
    """

    def __init__(self, statement: Callable[[Connection], Insert | Update]) -> None:
        self._statement = statement
        self._texts: dict[str, _Text] = {}

    def execute(self, connection: Connection, rows: Sequence[Row]) -> int:
        """Write the rows; return how many rows of the table changed."""
        if not rows:
            return 0
        text = self._text(connection, rows[0])
        result = connection.exec_driver_sql(text.sql, [text.parameters(row) for row in rows])
        return result.rowcount

    def _text(self, connection: Connection, row: Row) -> "_Text":
        dialect = connection.dialect
        if dialect.name not in self._texts:
            self._texts[dialect.name] = _Text(self._statement(connection), dialect, row)
        return self._texts[dialect.name]


class _Text:
    """A statement as one driver wants it: by position (SQLite) or by name (PostgreSQL)."""

    def __init__(self, statement: Insert | Update, dialect: Dialect, row: Row) -> None:
        keys = list(row) if isinstance(statement, Insert) else None
        compiled = statement.compile(dialect=dialect, column_keys=keys)
        self.sql = str(compiled)
        self._constants = {name: value for name, value in compiled.params.items() if name not in row}
        self._positions: Sequence[str] | None = compiled.positiontup if compiled.positional else None

    def parameters(self, row: Row) -> Any:
        """One row's values."""
        values = {**self._constants, **row} if self._constants else row
        return values if self._positions is None else tuple(values[name] for name in self._positions)
