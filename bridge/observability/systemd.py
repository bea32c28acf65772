"""Report the state of the process to systemd, which starts, watches, and reloads it (sd_notify(3))."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

log = structlog.get_logger()


class ServiceManager:
    """A long-lived object that sends each state to systemd's socket; without one, it sends nothing.

    `address` is the value of `NOTIFY_SOCKET`: a path, or `@` and the name of an abstract socket.
    """

    def __init__(self, address: str | None = None) -> None:
        self._address = f"\0{address[1:]}" if address and address.startswith("@") else address
        self._unreachable = False

    def ready(self) -> None:
        """The process accepts requests."""
        self._send("READY=1")

    def stopping(self) -> None:
        """The process accepts no new work and is about to exit."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """The event loop runs; due at least once in half of the unit's `WatchdogSec`."""
        self._send("WATCHDOG=1")

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """Within the block, the settings are read again; `systemctl reload` waits for its end."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            yield
        finally:
            self.ready()

    def _send(self, state: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as channel:
                channel.sendto(state.encode(), self._address)
        except OSError as error:
            if not self._unreachable:
                log.warning("systemd_unreachable", state=state.partition("\n")[0], reason=error.strerror)
            self._unreachable = True
        else:
            self._unreachable = False
