"""A private PostgreSQL server: its own folder and port, on loopback only, as an unprivileged user.

It is started with the installed programs, not with the distribution's clusters. Only the process started here is
signalled, by its id.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from tests.broker import free_ports
from tests.patience import PATIENCE

UNPRIVILEGED = "nobody"  # the programs refuse to run as root
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",  # these servers are killed, but the machine never loses power
    "full_page_writes": "off",
    "autovacuum_naptime": "10s",
    "shared_buffers": "64MB",
    "max_connections": "60",
    "timezone": "UTC",
}


class PostgresServer:
    """One server; its data folder survives `stop`, `kill`, and the next `start`, and is deleted by `remove`."""

    def __init__(self, **settings: str) -> None:
        (self.port,) = free_ports(1)
        self._folder = Path(tempfile.mkdtemp(prefix="bridge-postgres-"))
        self._data = self._folder / "data"
        self._settings: Mapping[str, str] = SETTINGS | settings
        self._server: subprocess.Popen[bytes] | None = None
        self._own(self._folder)
        self._create()

    def url(self, database: str, user: str = "bridge") -> str:
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    @property
    def pid(self) -> int:
        assert self._server is not None, "it is not running"
        return self._server.pid

    def start(self) -> None:
        """Return when the server accepts connections."""
        options = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        command = [find("postgres"), "-D", str(self._data), "-p", str(self.port), *options]
        with (self._folder / "server.out").open("ab") as out:
            self._server = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                **self._identity(),
            )
        self._wait_until_it_answers()

    def stop(self) -> None:
        """Stop it fast: transactions are rolled back, clients are notified."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End it like a crash."""
        self._end(signal.SIGQUIT)

    def remove(self) -> None:
        """Stop it and delete its data."""
        if self._server is not None:
            self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def execute(self, statement: str, *values: Any, database: str = "postgres") -> list[Any]:
        """Run one statement as the superuser."""
        with psycopg.connect(self.url(database), autocommit=True, connect_timeout=60) as connection:
            cursor = connection.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def end_connections(self, database: str) -> int:
        """Terminate every connection to a database, like an operator or a failover."""
        statement = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
        return len(self.execute(statement, database))

    def _create(self) -> None:
        self._run("initdb", "-D", str(self._data), "-U", "bridge", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            assert self._server is not None
            assert self._server.poll() is None, f"the server ended at once: {self._output()}"
            try:
                self.execute("SELECT 1")
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, f"the server did not start: {self._output()}"
                time.sleep(0.02)
            else:
                return

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [find(program), *arguments], capture_output=True, text=True, check=False, **self._identity()
        )
        assert done.returncode == 0, f"{program}: {done.stdout} {done.stderr}"

    def _identity(self) -> dict[str, Any]:
        """The user that runs the programs, in a folder that this user may enter."""
        if os.geteuid() != 0:
            return {"cwd": self._folder}
        user = pwd.getpwnam(UNPRIVILEGED)
        return {"cwd": self._folder, "user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}

    def _own(self, folder: Path) -> None:
        if os.geteuid() == 0:
            user = pwd.getpwnam(UNPRIVILEGED)
            os.chown(folder, user.pw_uid, user.pw_gid)

    def _output(self) -> str:
        return (self._folder / "server.out").read_text(errors="replace")[-2000:]

    def _end(self, number: signal.Signals) -> None:
        assert self._server is not None, "the server is not running"
        self._server.send_signal(number)
        self._server.wait(PATIENCE)
        self._server = None


class Standby(PostgresServer):
    """A standby of a running server."""

    def __init__(self, primary: PostgresServer) -> None:
        self._source = f"host=127.0.0.1 port={primary.port} user=bridge"
        super().__init__()

    def _create(self) -> None:
        self._run("pg_basebackup", "-D", str(self._data), "-d", self._source, "-R", "-c", "fast", "-N")


@contextmanager
def running_postgres(**settings: str) -> Iterator[PostgresServer]:
    """A private server, removed at the end."""
    server = PostgresServer(**settings)
    try:
        server.start()
        yield server
    finally:
        server.remove()


def find(program: str) -> str:
    places = [*sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True), os.environ["PATH"]]
    path = shutil.which(program, path=":".join([*places, "/opt/homebrew/bin"]))
    if path is None:
        raise FileNotFoundError(
            f"the tests need {program}: install PostgreSQL (Debian: apt-get install postgresql, "
            "macOS: brew install postgresql)"
        )
    return path
