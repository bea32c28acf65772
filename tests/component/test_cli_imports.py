"""A command imports only what it uses: one that calls a running bridge imports none of the daemon's code."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer

import pytest

DAEMON = {"bridge.daemon", "bridge.sandbox", "sqlalchemy", "alembic", "psycopg", "aio_pika", "aiohttp", "uvloop"}
SETTINGS = {"bridge.config"}
LOG = {"structlog"}
PROGRAM = """
import sys

from bridge.cli import app

try:
    app(sys.argv[1:])
finally:
    print("imported:", *sys.modules)
"""
URL = "--url http://127.0.0.1:{port}"  # of a server that responds to nothing


@pytest.fixture(scope="module")
def silent_port() -> Iterator[int]:
    """The port of a server that closes every connection at once."""
    with ThreadingTCPServer(("127.0.0.1", 0), BaseRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.mark.parametrize(
    ("command", "unused"),
    [
        ("--version", DAEMON | SETTINGS | LOG),
        ("runs list --help", DAEMON | SETTINGS | LOG),
        (f"runs list {URL}", DAEMON | SETTINGS | LOG),
        (f"deliveries list {URL}", DAEMON | SETTINGS | LOG),
        (f"send research topic=tides {URL}", DAEMON | SETTINGS | LOG),
        ("openapi", DAEMON | SETTINGS | LOG),
        ("runs list --config no-such-file.yaml", DAEMON | LOG),
    ],
)
def test_a_command_imports_only_what_it_uses(silent_port: int, command: str, unused: set[str]) -> None:
    imported = imported_by(*command.format(port=silent_port).split())

    assert "bridge.cli" in imported
    assert unused.intersection(imported) == set()


def test_a_sqlite_store_that_is_up_to_date_imports_neither_alembic_nor_psycopg(tmp_path: Path) -> None:
    settings = tmp_path / "bridge.yaml"
    crew = "crews: {research: {url: 'http://127.0.0.1:1', token: a-long-token-for-tests}}"
    settings.write_text(f"store: {{url: 'sqlite:///{tmp_path}/bridge.db'}}\n{crew}\n")

    empty, migrated = (imported_by("migrate", "--config", str(settings)) for _ in range(2))

    assert {"alembic", "psycopg"}.intersection(empty) == {"alembic"}
    assert {"alembic", "psycopg"}.intersection(migrated) == set()


def imported_by(*command: str) -> set[str]:
    """Run a command in its own process; return the modules that it has imported."""
    program = [sys.executable, "-c", PROGRAM, *command]
    done = subprocess.run(program, check=False, capture_output=True, text=True)
    return set(done.stdout.rpartition("imported: ")[2].split())
