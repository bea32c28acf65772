"""The steps of docs/storage.md, followed literally: a backup under load, a kill, and a restore."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bridge.cli import main
from bridge.sandbox import SandboxSettings, parse_run_time, running
from tests.system.acceptance.harness import Daemon, eventually, ledger, posts_per_request

PAGE = (Path(__file__).parents[3] / "docs" / "storage.md").read_text("utf-8")
ADOPT = "kickoff-bridge runs resolve RUN_ID --adopt KICKOFF_ID"


def blocks(section: str) -> Iterator[str]:
    """The shell commands of a section of the page."""
    text = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return iter(re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))


class Operator:
    """Types commands into a shell, in the folder of the bridge."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    async def types(self, commands: str) -> str:
        """Run the commands, each of which must succeed; return what they print."""
        pipe = asyncio.subprocess.PIPE
        shell = await asyncio.create_subprocess_exec(
            *("sh", "-ec", commands), cwd=self._folder, env=self._environment, stdout=pipe, stderr=pipe
        )
        out, err = await shell.communicate()
        assert shell.returncode == 0, f"{commands}\n{out.decode()}\n{err.decode()}"
        return out.decode()


async def submit(daemon: Daemon, number: int) -> str:
    body = {"crew": "research", "inputs": {"n": str(number)}}
    async with aiohttp.ClientSession() as http, http.post(f"{daemon.url}/v1/runs", json=body) as response:
        assert response.status == 202
        run_id: str = (await response.json())["run_id"]
        return run_id


@asynccontextmanager
async def submitting(daemon: Daemon) -> AsyncIterator[None]:
    """Submit requests one after the other until the end of the block."""
    stopped = asyncio.Event()

    async def submit_all() -> None:
        for number in count(1000):
            await submit(daemon, number)
            if stopped.is_set():
                return

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(submit_all())
        yield
        stopped.set()


def kickoffs(daemon: Daemon) -> dict[str, str]:
    """The executions that the log names, by run."""
    lines = [json.loads(line) for line in daemon.log().splitlines() if '"kickoff_answered"' in line]
    return {line["run_id"]: line["kickoff_id"] for line in lines if line["response"] == "started"}


@pytest.mark.nightly
@pytest.mark.parametrize("hold", [["--hold"], []], ids=["as on the page", "forgotten"])
async def test_a_restore_loses_no_request_of_the_backup_and_starts_none_twice(tmp_path: Path, hold: list[str]) -> None:
    """The budget decides how many are started before the backup, and how many between it and the kill."""
    operator = Operator(tmp_path)
    async with running(SandboxSettings(run_time=parse_run_time("fixed:0.2"), inputs=("n",))) as crew_url:
        store = {"url": f"sqlite:///{tmp_path}/kickoff-bridge.db"}
        daemon = Daemon(tmp_path, crew_url, {"budget": {"runs": 4, "per": "1d"}}, store=store)
        await daemon.start()
        try:
            before = [await submit(daemon, number) for number in range(12)]
            await eventually(lambda: have_started(daemon, 4), "the budget is spent")
            [backup] = blocks("Backup")
            async with submitting(daemon):
                await operator.types(backup)
            await daemon.reload(crews=crews(crew_url, budget={"runs": 9, "per": "1d"}))
            await eventually(lambda: have_started(daemon, 9), "more were started since the backup")
            await daemon.kill()

            move_away, put_in_place, start, look, adopt, release = blocks("Restore")
            await operator.types(move_away)
            checked = await operator.types(put_in_place)
            assert (start, adopt) == ("kickoff-bridge run --hold\n", f"{ADOPT}\n")
            daemon.options = hold
            daemon.change(crews=crews(crew_url))
            started = kickoffs(daemon)
            await daemon.start()
            restored = {run["run_id"]: run for run in await daemon.all_runs()}
            await operator.types(look)
            held = [run_id for run_id, run in restored.items() if (run["waiting"] or {}).get("reason") == "held"]
            for run_id in set(held).intersection(started):
                await operator.types(adopt.replace("RUN_ID", run_id).replace("KICKOFF_ID", started[run_id]))
            await operator.types(release)
            await eventually(lambda: have_ended(daemon, len(restored)), "every run of the backup has ended")
            sound = await operator.types("kickoff-bridge store check")
        finally:
            await daemon.close()
        posts = posts_per_request(await ledger(crew_url))
    assert set(before) <= restored.keys()
    assert len(set(held).intersection(started)) == 5, "these would have been started twice"
    assert max(posts.values()) == 1
    assert {str(number) for number in range(12)} <= posts.keys()
    assert "backup: ok" in checked
    assert "backup" not in sound


def crews(crew_url: str, **settings: Any) -> dict[str, Any]:
    return {"research": {"url": crew_url, "token": "sandbox-token", "max_running": 400, **settings}}


async def have_started(daemon: Daemon, expected: int) -> bool:
    return len(kickoffs(daemon)) == expected


async def have_ended(daemon: Daemon, expected: int) -> bool:
    return await daemon.count("succeeded") == expected


def test_the_commands_exit_with_the_documented_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def code(*command: str) -> int:
        monkeypatch.setattr(sys, "argv", ["kickoff-bridge", *command])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    monkeypatch.chdir(tmp_path)
    settings = tmp_path / "bridge.yaml"
    settings.write_text(
        "store: {url: 'sqlite:///kickoff-bridge.db'}\n"
        "crews: {research: {url: 'http://127.0.0.1:9', token: a-long-token-for-tests}}\n"
    )
    codes = [
        code("store", "check"),
        code("migrate"),
        code("store", "check"),
        code("store", "backup", "backup.db"),
        code("store", "backup", "backup.db"),
    ]
    (tmp_path / "kickoff-bridge.db").write_bytes(b"certainly no database" * 100)
    codes += [code("store", "check", "--json"), code("store", "backup", "other.db")]
    monkeypatch.setenv("BRIDGE_STORE__URL", "postgresql://bridge@127.0.0.1:1/bridge")
    codes += [code("store", "check"), code("store", "backup", "other.db")]
    assert codes == [69, 0, 0, 0, 64, 74, 74, 69, 64]
    printed = capsys.readouterr()
    assert "backup.db exists" in printed.err
    assert "use pg_dump" in printed.err
    assert "Traceback" not in printed.err
    assert '"intact": false' in printed.out
