"""A command imports only what it uses: one that only calls a running bridge starts without the daemon's code."""

import subprocess
import sys

import pytest

HEAVY = {"bridge.daemon", "bridge.sandbox", "sqlalchemy", "alembic", "psycopg", "aio_pika", "uvloop"}
PROGRAM = """
import sys

from bridge.cli import app

try:
    app(sys.argv[1:])
finally:
    print("imported:", *sys.modules)
"""


@pytest.mark.parametrize(
    "command",
    ["--version", "runs list --help", "deliveries list --help", "send --help", "openapi"],
)
def test_a_command_does_not_import_the_daemon(command: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, *command.split()], capture_output=True, text=True, check=True)

    imported = done.stdout.rpartition("imported: ")[2].split()
    assert "bridge.cli" in imported
    assert HEAVY.intersection(imported) == set()
