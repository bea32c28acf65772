"""`kickoff-bridge dev`, as the tests of a service use it: read the line, submit, stage situations, stop by a signal."""

import asyncio
import gc
import json
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aio_pika
import aiohttp
import pytest
from aiohttp import web
from standardwebhooks import Webhook
from typer.testing import CliRunner

from bridge.cli import app
from bridge.cli import dev as command
from bridge.cli._errors import CommandFailed, Exit
from bridge.local import SITUATIONS
from bridge.testing import CALLBACK_SECRET
from tests.broker import is_open
from tests.patience import PATIENCE
from tests.system.acceptance.harness import RESULTS, channel, eventually, free_port
from tests.web_server import web_server

PAGE = (Path(__file__).parents[3] / "docs" / "sandbox.md").read_text("utf-8")
SECTION = PAGE[PAGE.index("## With a bridge") : PAGE.index("## Options")]
SECRET = re.findall(r"`(whsec_[^`]+)`", SECTION)[0]
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", SECTION, re.DOTALL | re.MULTILINE)


@dataclass
class Dev:
    """The running command, its addresses, and a client."""

    process: asyncio.subprocess.Process
    addresses: dict[str, Any]
    http: aiohttp.ClientSession

    @property
    def bridge(self) -> str:
        return str(self.addresses["bridge"])

    async def submit(self, wait: int = 0, **request: Any) -> Any:
        body = {"crew": "research", "inputs": {"topic": "tides"}, **request}
        return await self.post(f"{self.bridge}/v1/runs", body, Prefer=f"wait={wait}")

    async def stage(self, **request: Any) -> Any:
        return await self.post(f"{self.addresses['crew_api']}/_emit", request)

    async def post(self, url: str, body: Any, **headers: str) -> Any:
        async with self.http.post(url, json=body, headers=headers) as response:
            return await response.json(content_type=None) | {"status": response.status}

    async def get(self, path: str) -> Any:
        async with self.http.get(self.bridge + path) as response:
            return await response.json()


@asynccontextmanager
async def dev(folder: Path, *options: str, stop_with: signal.Signals = signal.SIGTERM) -> AsyncIterator[Dev]:
    """Run the command; at its end, check the exit code, the output, and that nothing is left."""
    temporary = folder / "temporary"
    temporary.mkdir()
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bridge", "dev", *options), cwd=folder,
            env={**os.environ, "TMPDIR": str(temporary)}, stdout=asyncio.subprocess.PIPE, stderr=log,
        )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE), aiohttp.ClientSession() as http:
            line = await process.stdout.readline()
            assert line, (folder / "log").read_text()[-2000:]
            yield Dev(process, json.loads(line), http)
    finally:
        if process.returncode is None:
            process.send_signal(stop_with)
        rest = await process.stdout.read()
    assert (await process.wait(), rest) == (0, b""), (folder / "log").read_text()[-2000:]
    assert _names(temporary) == []
    assert _names(folder) == ["log", "temporary"]


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@asynccontextmanager
async def events(dev: Dev) -> AsyncIterator[asyncio.Queue[Any]]:
    """The stream of events; it is open when this begins."""
    seen: asyncio.Queue[Any] = asyncio.Queue()
    async with dev.http.get(dev.addresses["events"], timeout=aiohttp.ClientTimeout()) as stream:

        async def read() -> None:
            async for line in stream.content:
                if line.startswith(b"data: "):
                    seen.put_nowait(json.loads(line.removeprefix(b"data: ")))

        reader = asyncio.create_task(read())
        yield seen
        reader.cancel()


async def event_of(run_id: str, type_: str, seen: asyncio.Queue[Any]) -> Any:
    while True:
        event = await seen.get()
        if (event["subject"], event["type"]) == (run_id, type_):
            return event["data"]


def test_the_page_names_the_secret_of_dev_and_of_the_plugin():
    assert SECRET == CALLBACK_SECRET


async def test_a_service_submits_over_http_and_reads_the_event(tmp_path: Path):
    async with dev(tmp_path) as started:
        assert started.addresses.keys() == {"bridge", "crew_api", "crews", "events", "pid"}
        assert (started.addresses["crews"], started.addresses["pid"]) == (["research"], started.process.pid)
        async with events(started) as seen:
            run = await started.submit(meta={"order": 42})
            assert run["status"] == 202
            assert (await event_of(run["run_id"], "run.succeeded", seen))["meta"] == {"order": 42}
        addresses = started.addresses
    assert not any(is_open(int(addresses[name].rsplit(":")[-1])) for name in ("bridge", "crew_api"))


async def test_options_name_the_crews_their_inputs_and_their_results(tmp_path: Path):
    script = tmp_path.parent / f"{tmp_path.name}.json"
    script.write_text('[{"inputs": {"title": "tea"}, "result": {"score": 8}}, {"error": "no such title"}]')
    options = ("--crew", "triage", "--crew", "review", "--inputs", "title,text", "--script", str(script))
    async with dev(tmp_path, *options, stop_with=signal.SIGINT) as started:
        assert started.addresses["crews"] == ["triage", "review"]
        good, bad = await asyncio.gather(
            started.submit(60, crew="triage", inputs={"title": "tea", "text": "…"}),
            started.submit(60, crew="review", inputs={"title": "coal", "text": "…"}),
        )
        assert (good["state"], good["result_json"]) == ("succeeded", {"score": 8})
        assert (bad["state"], bad["error"]) == ("failed", {"code": "execution_failed", "message": "no such title"})
        assert (await started.submit(crew="triage", inputs={"title": "tea"}))["code"] == "missing_inputs"
        assert (await started.stage(situation="timed_out", crew="research"))["code"] == "unknown_crew"


async def test_situations_are_staged_beside_runs_that_they_do_not_affect(tmp_path: Path):
    async with dev(tmp_path) as started, events(started) as seen:
        waited_for = [name for name, situation in SITUATIONS.items() if situation.event != "delivery.paused"]
        staged = {}
        for name in waited_for:
            staged[name] = await started.stage(situation=name, meta={"situation": name}, inputs={"topic": "dams"})
            assert staged[name]["status"] == 202
            assert (await started.submit(60))["state"] == "succeeded"
        found = {name: await started.get(f"/v1/runs/{run['run_id']}") for name, run in staged.items()}
        pending = {(run["run_id"], run["event"]) for run in staged.values()}
        while pending:
            event = await seen.get()
            pending.discard((event["subject"], event["type"]))
        assert all(run["meta"] == {"situation": name} for name, run in found.items())

        refused = await started.stage(situation="in_doubt", callback_url="ftp://example.com")
        assert (refused["status"], refused["code"]) == (422, "callback_not_allowed")
        assert (await started.stage(situation="unknown"))["field"] == "situation"


async def test_a_staged_run_continues_as_its_tester_decides(tmp_path: Path):
    async with dev(tmp_path) as started, events(started) as seen:
        doubtful = (await started.stage(situation="in_doubt"))["run_id"]
        asking = (await started.stage(situation="waiting_for_human"))["run_id"]
        await event_of(doubtful, "run.in_doubt", seen)
        await started.post(f"{started.bridge}/v1/runs/{doubtful}/resolve", {"action": "retry"})

        async def asks() -> bool:
            return bool((await started.get(f"/v1/runs/{asking}"))["state"] == "waiting_for_human")

        await eventually(asks, "the run asks a human")
        await started.post(f"{started.bridge}/v1/runs/{asking}/resume", {"approve": True})
        pending = {doubtful, asking}
        while pending:
            event = await seen.get()
            if event["type"] == "run.succeeded":
                pending.remove(event["subject"])


async def test_a_receiver_that_is_down_is_paused_and_gets_its_events_when_it_is_resumed(tmp_path: Path):
    arrived: asyncio.Queue[Any] = asyncio.Queue()
    down = True

    async def take(request: web.Request) -> web.Response:
        if down:
            return web.Response(status=500)
        arrived.put_nowait(Webhook(SECRET).verify(await request.read(), dict(request.headers)))
        return web.Response(status=204)

    async with web_server(web.post("/events", take)) as receiver, dev(tmp_path) as started:
        staged = await started.stage(situation="receiver_paused", callback_url=f"{receiver}/events")
        assert staged["receiver"] == receiver

        async def paused() -> bool:
            return any(one["paused_at"] for one in (await started.get("/v1/receivers"))["receivers"])

        await eventually(paused, "the receiver is paused")
        down = False
        await started.post(f"{started.bridge}/v1/receivers/resume", {"receiver": receiver})
        assert (await arrived.get())["data"]["run_id"] == staged["run_id"]


async def test_a_service_publishes_to_rabbitmq_and_consumes_events(tmp_path: Path, amqp: str):
    async with dev(tmp_path, "--amqp", amqp) as started, channel(amqp) as ch:
        exchange, queue = await ch.get_exchange("kickoff.requests"), await ch.get_queue(RESULTS)
        body = json.dumps({"inputs": {"topic": "tides"}, "meta": {"order": 42}}).encode()
        await exchange.publish(aio_pika.Message(body, message_id="order-42"), "research")
        await started.stage(situation="receiver_paused")
        wanted = {"research.succeeded", "research.delivery.paused"}
        async with queue.iterator(no_ack=True) as messages:
            async for message in messages:
                wanted.discard(message.routing_key or "")
                if not wanted:
                    break


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of aiormq, when its loop is gone
def test_a_broker_that_stays_unreachable_ends_the_command(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(command, "READY_WITHIN", 0.5)
    result = CliRunner().invoke(app, ["dev", "--amqp", f"amqp://guest:guest@127.0.0.1:{free_port()}/"])
    assert isinstance(result.exception, CommandFailed)
    assert result.exception.code is Exit.UNAVAILABLE
    assert [line.split(":")[0] for line in result.exception.lines] == ["broker_in", "broker_out"]
    gc.collect()  # while the filter applies


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("--amqp", "redis://127.0.0.1", "--amqp: must look like amqp://"),
        ("--crew", "a crew", "--crew: a crew's name is"),
        ("--script", "absent.json", "--script: cannot read absent.json: No such file"),
    ],
)
def test_an_invalid_option_is_named(option: str, value: str, reason: str):
    result = CliRunner().invoke(app, ["dev", option, value])
    assert isinstance(result.exception, CommandFailed)
    assert result.exception.code is Exit.USAGE
    assert result.exception.lines[0].startswith(reason)


def test_an_invalid_entry_of_the_script_is_named(tmp_path: Path):
    script = tmp_path / "script.json"
    script.write_text('[{"topic": "tea"}]')
    result = CliRunner().invoke(app, ["dev", "--script", str(script)])
    assert isinstance(result.exception, CommandFailed)
    assert result.exception.lines[0].startswith("--script: entry 1: there is no member 'topic'")


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="needs curl and jq")
async def test_the_examples_of_the_page_work_as_they_are(tmp_path: Path):
    (tmp_path / "kickoff-bridge").symlink_to(Path(sys.executable).with_name("kickoff-bridge"))
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", f"set -eo pipefail\n{''.join(BLOCKS)}\nwait"), cwd=tmp_path,
        env={**os.environ, "PATH": path}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE):
        printed, _ = await process.communicate()
    text = printed.decode()
    assert process.returncode == 0, text
    assert "The sandbox crew has dealt with topic: tides." in text
    assert [event for event in ("run.in_doubt", "run.timed_out", "run.late_result") if f'"{event}"' not in text] == []
