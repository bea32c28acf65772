"""One store for SQLite and PostgreSQL: SQLAlchemy Core, differences in `dialect` and beside it."""

from bridge.adapters.store.database import migrate_store, open_store, probe_store
from bridge.adapters.store.store import SqlStore

__all__ = ["SqlStore", "migrate_store", "open_store", "probe_store"]
