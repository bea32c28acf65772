"""The store on SQLite or PostgreSQL: SQLAlchemy Core, with the differences in `dialect`, `sqlite`, and `postgresql`."""

from bridge.adapters.store.database import database, migrate_store, open_store, probe_store
from bridge.adapters.store.store import SqlStore

__all__ = ["SqlStore", "database", "migrate_store", "open_store", "probe_store"]
