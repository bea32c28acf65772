"""One try to reach the broker, for the command line."""

import aio_pika
from aio_pika.exceptions import AMQPError

from bridge.ports import Health

TIMEOUT = 10.0


async def probe_broker(url: str) -> Health:
    """Whether the broker lets us in; declares nothing."""
    try:
        connection = await aio_pika.connect(url, timeout=TIMEOUT)
    except (AMQPError, OSError, TimeoutError) as error:
        return Health(ok=False, detail=f"no connection: {type(error).__name__}")
    await connection.close()
    return Health(ok=True, detail="lets us in")
