"""Threads of the store start before the first transaction needs one."""

import threading

from sqlalchemy import create_engine

from bridge.adapters.store.connections import Connections


async def test_all_threads_are_started_up_front():
    before = threading.active_count()
    connections = Connections(create_engine("sqlite://"), 5)
    assert threading.active_count() == before + 5
    await connections.close()
