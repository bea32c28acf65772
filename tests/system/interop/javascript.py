"""Node.js and the packages of the scripts in this folder, or the reason why they are unavailable."""

import asyncio
import fcntl
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from tests.patience import PATIENCE

FOLDER = Path(__file__).parent
LOCK, INSTALLED = FOLDER / "package-lock.json", FOLDER / "node_modules" / ".package-lock.json"
INSTALL = ("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=0", "--fetch-timeout=10000")
OUR_FAULT = ("EUSAGE", "EINTEGRITY")  # the lock file does not match; other errors mean that a package is unavailable
OLDEST = 20


def why_not() -> str | None:
    """Ensure that the packages are installed; return why the scripts cannot be run, or None."""
    if (version := _version()) < OLDEST:
        return f"needs Node.js {OLDEST}" + (f", here is {version}" if version else "")
    if shutil.which("npm") is None:
        return "needs npm"
    with LOCK.open() as lock:  # so that parallel pytest workers do not install at the same time
        fcntl.flock(lock, fcntl.LOCK_EX)
        if INSTALLED.exists() and INSTALLED.stat().st_mtime >= LOCK.stat().st_mtime:
            return None
        return _install()


def _version() -> int:
    """The major version of Node.js; 0 if it is not installed."""
    if shutil.which("node") is None:
        return 0
    output = subprocess.run(("node", "--version"), capture_output=True, text=True, check=True).stdout
    return int(output.removeprefix("v").partition(".")[0])


def _install() -> str | None:
    try:
        done = subprocess.run(INSTALL, cwd=FOLDER, capture_output=True, text=True, check=False, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return "the npm packages cannot be fetched in time"
    assert not any(code in done.stderr for code in OUR_FAULT), done.stderr
    return f"the npm packages cannot be fetched: {done.stderr.partition(chr(10))[0]}" if done.returncode else None


class Script:
    """A running script; it prints one JSON value per line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.values: list[Any] = []

    async def first(self) -> Any:
        """The value that it prints when it is ready."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        assert line, "the script ended at once; its error is above"
        return json.loads(line)

    async def listen(self) -> None:
        """Keep its output until it ends."""
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            self.values.append(json.loads(line))


@asynccontextmanager
async def running(name: str, *arguments: str) -> AsyncIterator[tuple[Script, Any]]:
    """Run the script in the background; return its first value. It ends when its input ends."""
    process = await asyncio.create_subprocess_exec(
        "node", name, *arguments, cwd=FOLDER, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    script = Script(process)
    listening = None
    try:
        first = await script.first()
        listening = asyncio.create_task(script.listen())
        yield script, first
    finally:
        assert process.stdin is not None
        process.stdin.close()
        with suppress(ProcessLookupError):
            async with asyncio.timeout(PATIENCE):
                await process.wait()
        if listening is not None:
            await listening


def run(name: str, *arguments: str) -> Any:
    """The output of a script that ends by itself."""
    done = subprocess.run(("node", name, *arguments), cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
