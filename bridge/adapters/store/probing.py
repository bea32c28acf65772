"""Checks that the store can be written, by writing many bytes: small updates still succeed on a full disk."""

import secrets

from sqlalchemy import Connection, delete

from bridge.adapters.store import dialect
from bridge.adapters.store.schema import store_metadata

_PROBE = "probe"


def fill(connection: Connection, size: int) -> None:
    """Write `size` incompressible bytes."""
    probe = {"name": _PROBE, "value": secrets.token_bytes(size)}
    connection.execute(dialect.insert_or_replace(connection, store_metadata).values(probe))


def clear(connection: Connection) -> None:
    """Remove the bytes that `fill` wrote."""
    connection.execute(delete(store_metadata).where(store_metadata.c.name == _PROBE))
