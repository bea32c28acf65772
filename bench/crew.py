"""A crew API that needs almost no CPU, so that a benchmark measures its callers.

`python -m bench.crew --port 8099 --run-time 0.3`. It implements only `GET /inputs`, `POST /kickoff`, `GET
/status/ID`, `GET /_figures` with its records, and `POST /_end`, after which executions take no time. Unknown executions
run forever, or, with `--takes-any`, as if it had started them at its own start.
"""

import argparse
import asyncio
import json
import math
import ssl
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import uvloop

RUNNING = b'{"state":"RUNNING","status":"Task is Running","result":null}'
DONE = b'{"state":"SUCCESS","status":null,"result":"done","result_json":null}'
INPUTS = b'{"inputs":["topic"]}'


@dataclass
class Crew:
    """Every execution takes `run_time` seconds; times are seconds since the epoch."""

    run_time: float
    others: float = math.inf
    """The start of executions that it did not start itself."""
    started: dict[str, float] = field(default_factory=dict)
    reported_ends: dict[str, float] = field(default_factory=dict)
    """The time at which each end was first reported."""
    polls: int = 0
    polls_by_second: Counter[int] = field(default_factory=Counter)

    def respond(self, method: bytes, path: bytes) -> bytes:
        """The body of the response, which is always a 200."""
        if path == b"/_end":
            self.run_time = 0.0
            return b"{}"
        if method == b"POST":
            return self._kickoff()
        if path.startswith(b"/status/"):
            self.polls += 1
            return self._status(path[8:].decode(), time.time())
        return json.dumps(self._figures()).encode() if path == b"/_figures" else INPUTS

    def _kickoff(self) -> bytes:
        kickoff_id = f"k-{len(self.started)}"
        self.started[kickoff_id] = time.time()
        return b'{"kickoff_id":"%b"}' % kickoff_id.encode()

    def _status(self, kickoff_id: str, now: float) -> bytes:
        self.polls_by_second[int(now)] += 1
        if now < self.started.get(kickoff_id, self.others) + self.run_time:
            return RUNNING
        self.reported_ends.setdefault(kickoff_id, now)
        return DONE

    def _figures(self) -> dict[str, object]:
        return {
            "started": self.started,
            "reported_ends": self.reported_ends,
            "run_time": self.run_time,
            "polls": self.polls,
            "polls_by_second": self.polls_by_second,
        }


class Conversation(asyncio.Protocol):
    """One connection; requests arrive in full or in pieces, one after the other."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport for responses."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Respond to every complete request."""
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end]
            whole = end + 4 + _length(head)
            if len(self._received) < whole:
                return
            self._received = self._received[whole:]
            method, path, _ = head.split(b" ", 2)
            self._send(self._crew.respond(method, path))

    def _send(self, body: bytes) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        self._transport.write(head + body)


def _length(head: bytes) -> int:
    _, found, rest = head.lower().partition(b"content-length:")
    return int(rest.split(b"\r\n", 1)[0]) if found else 0


async def serve(port: int, run_time: float, others: float, certificates: Path | None) -> None:
    crew, tls = Crew(run_time, others), None
    if certificates is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificates / "localhost.pem", certificates / "localhost.key")
    server = await asyncio.get_running_loop().create_server(
        lambda: Conversation(crew), "127.0.0.1", port, backlog=4096, ssl=tls
    )
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--run-time", type=float, default=0.3)
    parser.add_argument("--takes-any", action="store_true")
    parser.add_argument("--tls", type=Path, help="the folder of localhost.pem and localhost.key")
    options = parser.parse_args()
    others = time.time() if options.takes_any else math.inf
    uvloop.run(serve(options.port, options.run_time, others, options.tls))


if __name__ == "__main__":
    main()
