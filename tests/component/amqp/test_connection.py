"""The connection: errors of the library that have no class of their own."""

from types import SimpleNamespace
from typing import Any

import pytest

from bridge.adapters.amqp.connection import Session
from bridge.adapters.amqp.errors import ConnectionLost
from bridge.adapters.amqp.memory import MessageMemory


def session_whose_channels_raise(error: Exception) -> Session:
    async def channel(**_: Any) -> None:
        raise error

    connection: Any = SimpleNamespace(channel=channel, close_callbacks=set())
    return Session(connection, MessageMemory())


async def test_a_call_cut_off_by_the_end_of_the_connection_is_a_lost_connection():
    """The library raises a bare `Exception` for it, which counted as a bug of the delivery."""
    with pytest.raises(ConnectionLost):
        await session_whose_channels_raise(Exception()).open_channel()


async def test_any_other_error_is_raised_unchanged():
    with pytest.raises(ZeroDivisionError):
        await session_whose_channels_raise(ZeroDivisionError()).open_channel()
