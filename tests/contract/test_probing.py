"""Store probes: a write as large as the one to come, without a trace."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from bridge.adapters.store import SqlStore, database, open_store
from bridge.core.errors import StoreUnavailable
from tests.contract.conftest import Adapter
from tests.fakes import NOW


async def test_a_probe_leaves_no_trace(store: SqlStore, adapter: Adapter):
    before = adapter.execute("SELECT name FROM store_metadata")
    await store.probe(0)
    await store.probe(100_000)
    assert adapter.execute("SELECT name FROM store_metadata") == before


async def test_a_full_store_accepts_a_small_probe_and_refuses_a_large_one(tmp_path: Path):
    """Small updates still succeed on a full disk, so only a probe of the right size is conclusive."""

    def limited(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA max_page_count = 120")

    event.listen(Engine, "connect", limited)
    try:
        async with open_store(database(f"sqlite:///{tmp_path}/full.db"), "me", NOW) as store:
            await store.probe(10)
            with pytest.raises(StoreUnavailable, match="full"):
                await store.probe(1_000_000)
            await store.probe(10)
    finally:
        event.remove(Engine, "connect", limited)
