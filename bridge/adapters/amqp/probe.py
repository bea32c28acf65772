"""Tries once to connect to the broker, for the command line."""

import aio_pika

from bridge.adapters.amqp.connection import HEARTBEAT
from bridge.adapters.amqp.errors import TRANSIENT_ERRORS, explain
from bridge.ports.lifecycle import Health

TIMEOUT = 10.0


async def probe_broker(url: str) -> Health:
    """Whether the broker accepts the connection; declare nothing."""
    try:
        connection = await aio_pika.connect(url, timeout=TIMEOUT, heartbeat=HEARTBEAT)
    except TRANSIENT_ERRORS as error:
        problem = explain(error)
        remedy = f"; {problem.remedy}" if problem.remedy else ""
        return Health(ok=False, detail=f"{problem.summary} ({problem.reason}){remedy}")
    await connection.close()
    return Health(ok=True, detail="accepts the connection")
