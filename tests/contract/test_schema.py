"""The migrated schema equals the metadata from which the statements are built."""

from typing import Any

from sqlalchemy import Connection, inspect

from bridge.adapters.store.database import database, open_connections
from bridge.adapters.store.migration import revisions
from bridge.adapters.store.schema import REVISION, metadata
from tests.contract.conftest import Adapter


async def test_migrations_create_what_the_metadata_defines(adapter: Adapter):
    """Columns, keys, indexes with their conditions, and CHECKs."""

    def created_from_metadata(connection: Connection) -> Any:
        metadata.drop_all(connection)
        metadata.create_all(connection)
        return _definitions(connection)

    async with open_connections(database(adapter.url).writer()) as writer:
        migrated = await writer.run(_definitions)
        assert migrated == await writer.run(created_from_metadata)


def test_the_schema_names_its_newest_migration():
    assert revisions()[0] == REVISION


def _definitions(connection: Connection) -> dict[str, Any]:
    """Every table as the database describes it."""
    found = inspect(connection)
    return {
        table: {
            "columns": [one | {"type": str(one["type"])} for one in found.get_columns(table)],
            "primary_key": found.get_pk_constraint(table),
            "foreign_keys": found.get_foreign_keys(table),
            "indexes": [_without_clauses(index) for index in found.get_indexes(table)],
            "checks": sorted(found.get_check_constraints(table), key=lambda one: one["name"] or ""),
        }
        for table in sorted(metadata.tables)
    }


def _without_clauses(index: Any) -> dict[str, Any]:
    """An index with its conditions as text, which compares by value."""
    options = {name: str(value) for name, value in index.get("dialect_options", {}).items()}
    return {**index, "dialect_options": options}
