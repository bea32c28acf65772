"""Run a real crew of the crewai library, which has an environment of its own: `make crewai` installs it."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

FOLDER = Path(__file__).parent
PYTHON = FOLDER.parents[3] / "build" / "crewai" / "bin" / "python"
INSTALLED = PYTHON.parents[1] / "installed"  # written by `make crewai` when everything is there


@asynccontextmanager
async def deployed(kind: str, *arguments: str, model_seconds: float = 1.0) -> AsyncIterator[str]:
    """Run a deployment of this kind; yield its URL. Each answer of its model takes `model_seconds`."""
    process = await asyncio.create_subprocess_exec(
        str(PYTHON),
        "server.py",
        kind,
        *arguments,
        cwd=FOLDER,
        env={**os.environ, "MODEL_SECONDS": str(model_seconds), "OPENAI_API_KEY": "not-used"},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = await process.stdout.readline()
        assert line, f"{kind}: the deployment ended at once"
        yield json.loads(line)
    finally:
        process.stdin.close()
        await process.wait()
