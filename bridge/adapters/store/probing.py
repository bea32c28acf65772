"""Proving that the store can be written: reads and small updates still work on a disk that is full."""

import secrets

from sqlalchemy import Connection, delete

from bridge.adapters.store import dialect
from bridge.adapters.store.schema import store_metadata

_PROBE = "probe"


def fill(connection: Connection, size: int) -> None:
    """Write so many bytes that do not compress."""
    probe = {"name": _PROBE, "value": secrets.token_bytes(size)}
    connection.execute(dialect.insert_or_replace(connection, store_metadata).values(probe))


def clear(connection: Connection) -> None:
    """Remove them."""
    connection.execute(delete(store_metadata).where(store_metadata.c.name == _PROBE))
