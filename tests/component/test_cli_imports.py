"""A command imports only what it uses: one that calls a running bridge imports none of the daemon's code."""

import subprocess
import sys

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
URL = "--url http://127.0.0.1:1"  # nothing listens there


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
def test_a_command_imports_only_what_it_uses(command: str, unused: set[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *command.split()], check=False, capture_output=True, text=True
    )

    imported = done.stdout.rpartition("imported: ")[2].split()
    assert "bridge.cli" in imported
    assert unused.intersection(imported) == set()
