"""Threads of the store start before the first transaction needs one."""

import threading

import pytest
from sqlalchemy import create_engine

from bridge.adapters.store.connections import Connections
from bridge.adapters.threads import start_threads


async def test_all_threads_are_started_up_front():
    before = threading.active_count()
    connections = Connections(create_engine("sqlite://"), 5)
    assert threading.active_count() == before + 5
    await connections.close()


def test_a_pool_that_cannot_start_all_its_threads_fails_at_once(monkeypatch: pytest.MonkeyPatch):
    start, started = threading.Thread.start, list[threading.Thread]()

    def limited(thread: threading.Thread) -> None:
        if len(started) == 3:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        start_threads(5, "some")
