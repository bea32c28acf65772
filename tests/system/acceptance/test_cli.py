"""Commands that call a running bridge, each in a process of its own."""

import asyncio
import itertools
import json
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from bridge.sandbox import SandboxSettings, parse_run_time, running
from tests.patience import PATIENCE
from tests.system.acceptance.harness import Daemon, eventually, free_port
from tests.web_server import web_server

SCREENS = Path(__file__).parents[3] / "docs" / "cli-screens.md"


@dataclass(frozen=True)
class Output:
    """The output and the exit code of a command."""

    code: int
    out: str
    err: str
    expected_code: int = 0

    @property
    def json(self) -> Any:
        self.assert_done()
        return json.loads(self.out)

    def assert_done(self) -> None:
        assert self.code == self.expected_code, self.err


class CommandLine:
    """Runs commands."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        command = [sys.executable, "-m", "bridge", *arguments, "--url", self.url]
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)

    async def says(self, *arguments: str, expect: int = 0) -> Output:
        process = await self.start(*arguments)
        out, err = await process.communicate()
        assert process.returncode is not None
        return Output(process.returncode, out.decode(), err.decode(), expect)


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    """A bridge without a broker, whose crew asks once for approval."""
    port = free_port()
    settings = SandboxSettings(run_time=parse_run_time("fixed:0.5"), inputs=("n",), human_questions=1)
    async with running(settings) as crew_url:
        daemon = Daemon(tmp_path, crew_url, port=port, public_url=f"http://127.0.0.1:{port}")
        await daemon.start()
        yield daemon
        await daemon.close()


@pytest.fixture
def command_line(daemon: Daemon) -> CommandLine:
    return CommandLine(daemon.url)


async def test_a_run_is_sent_answered_and_followed_to_its_end(daemon: Daemon, command_line: CommandLine):
    sent = asyncio.create_task(command_line.says("send", "research", "n=1", "--json"))
    waiting = await run_in(daemon, "waiting_for_human")
    answered = await command_line.says("runs", "resume", waiting["run_id"], "--approve", "--json")
    done = (await sent).json
    shown, listed = await asyncio.gather(
        command_line.says("runs", "show", done["run_id"], "--json"), command_line.says("runs", "list", "--json")
    )

    assert answered.json["run_id"] == waiting["run_id"] == done["run_id"]
    assert (done["state"], shown.json["state"]) == ("succeeded", "succeeded")
    assert [run["run_id"] for run in listed.json["runs"]] == [done["run_id"]]


async def test_cancelling_a_run_ends_the_command_of_its_sender_with_1(daemon: Daemon, command_line: CommandLine):
    tracker = asyncio.create_task(command_line.says("send", "research", "n=1"))
    waiting = await run_in(daemon, "waiting_for_human")
    cancelled = await command_line.says("runs", "cancel", waiting["run_id"], "--reason", "a mistake")

    assert cancelled.code == 0
    assert "cancelled" in cancelled.out
    assert (await tracker).code == 1


async def test_runs_are_found_cancelled_and_retried_by_what_their_sender_knows(
    daemon: Daemon, command_line: CommandLine
):
    sent = await command_line.says(
        "send", "research", "n=1", "--key", "order-42", "--meta", '{"order": 42}', "--no-wait", "--json"
    )
    waiting = await run_in(daemon, "waiting_for_human")
    order = ("--filter", "meta.order=42")
    only_counted = await command_line.says("runs", "cancel", *order, "--filter", "since=2h", "--dry-run", "--json")
    cancelled = await command_line.says("runs", "cancel", *order, "--json")
    retried = await command_line.says("runs", "retry", waiting["run_id"][:13], "--json")
    once_more = await command_line.says("runs", "retry", waiting["run_id"], "--json")
    again = await command_line.says("runs", "retry", *order)
    on_purpose = await command_line.says("runs", "retry", waiting["run_id"], "--key", 'a "second" time', "--json")
    by_key, by_execution, by_error, by_meta = await asyncio.gather(
        command_line.says("runs", "list", "--key", "order-42", "--json"),
        command_line.says("runs", "list", "--kickoff-id", waiting["kickoff_id"], "--json"),
        command_line.says("runs", "list", "--error", "cancelled", "--until", "1h", "--json"),
        command_line.says("runs", "list", "--meta", "order=42", "--since", "2h", "--json"),
    )

    assert sent.json["run_id"] == waiting["run_id"] == retried.json["retry_of"]
    assert (only_counted.json, cancelled.json) == ({"matched": 1, "done": 0}, {"matched": 1, "done": 1})
    assert [warning["code"] for warning in retried.json["warnings"]] == ["paid_again"]
    assert once_more.json["run_id"] == retried.json["run_id"]
    assert "an earlier retry created this run" in once_more.err
    assert again.out == "1 matched, 0 done; each new run is paid for\n"
    assert on_purpose.json["run_id"] != retried.json["run_id"]
    for found in (by_key, by_execution):
        assert [run["run_id"] for run in found.json["runs"]] == [waiting["run_id"]]
    assert by_error.json["runs"] == []
    assert len(by_meta.json["runs"]) == 3


async def test_one_command_says_what_happened_to_order_42(tmp_path: Path):
    """In doubt, started again, refused, retried; and an event that its receiver got only when it was redelivered."""
    lost = {"on": "kickoff", "do": "hang_up_after"}
    refused = {"on": "kickoff", "do": "http", "code": 422}
    sandbox = SandboxSettings(run_time=parse_run_time("fixed:0.3"), inputs=("n",), faults=(lost, refused))
    async with running(sandbox) as crew_url, receiver_that_is_gone_once() as callback_url:
        daemon = Daemon(tmp_path, crew_url, callbacks={"allow_private": True})
        await daemon.start()
        shell = CommandLine(daemon.url)
        order = ("--meta", '{"order": 42}', "--key", "order-42", "--callback-url", callback_url)
        try:
            first = (await shell.says("send", "research", "n=1", *order, "--json", expect=1)).json["run_id"]
            why = ("--reason", "the crew shows no execution")
            (await shell.says("runs", "resolve", first[:13], "--retry", *why)).assert_done()
            await run_in(daemon, "failed")
            await eventually(lambda: has_delivery(daemon, "dead"), "the receiver is gone")
            (await shell.says("deliveries", "redeliver", f"{first}-failed-1")).assert_done()
            await eventually(lambda: has_delivery(daemon, "delivered"), "the event was redelivered")
            (await shell.says("runs", "retry", first)).assert_done()
            await eventually(lambda: has_ended(daemon, "succeeded"), "the retry has succeeded")
            await eventually(lambda: has_delivery(daemon, "delivered", 2), "both events are delivered")
            screen = (await shell.says("runs", "show", "--filter", "meta.order=42")).out
        finally:
            await daemon.close()
    print(screen)
    _, _, documented = SCREENS.read_text().partition("## What happened to order 42?")
    assert shape(screen) == shape(documented.partition("```text\n")[2].partition("```")[0])


async def test_mistakes_are_reported_in_one_line_with_the_documented_codes(command_line: CommandLine):
    nowhere = CommandLine(f"http://127.0.0.1:{free_port()}")
    unknown, undecided, missing, unreachable = await asyncio.gather(
        command_line.says("runs", "show", "01a20bad-e9b3-7480-9cfa-e67aac85af9d"),
        command_line.says("runs", "resume", "01a20bad-e9b3-7480-9cfa-e67aac85af9d"),
        command_line.says("send", "research", "--json"),
        nowhere.says("runs", "list"),
    )

    assert [output.code for output in (unknown, undecided, missing, unreachable)] == [64, 64, 64, 69]
    for output in (unknown, undecided, missing, unreachable):
        assert output.out == ""
        assert len(output.err.strip().splitlines()) <= 2
        assert "Traceback" not in output.err
    assert "n" in missing.err


async def test_runs_accepted_before_a_start_with_hold_wait_until_they_are_released(tmp_path: Path):
    async with running(SandboxSettings(run_time=parse_run_time("fixed:0.1"), inputs=("n",))) as crew_url:
        before = Daemon(tmp_path, f"http://127.0.0.1:{free_port()}")  # no crew answers there, so no run starts
        await before.start()
        sent = await CommandLine(before.url).says("send", "research", "n=1", "--no-wait", "--json")
        held = sent.json["run_id"]
        await before.close()
        daemon = Daemon(tmp_path, crew_url)
        daemon.options = ["--hold"]
        await daemon.start()
        commands = CommandLine(daemon.url)
        try:
            later = (await commands.says("send", "research", "n=2", "--json")).json
            waiting = (await commands.says("runs", "show", held, "--json")).json
            released = await commands.says("runs", "release")
            await run_in(daemon, "succeeded", number=2)
        finally:
            await daemon.close()
    assert (later["state"], waiting["state"], waiting["waiting"]["reason"]) == ("succeeded", "accepted", "held")
    assert released.out == "1 released\n"


async def test_events_are_printed_across_a_restart_until_ctrl_c(daemon: Daemon, command_line: CommandLine):
    following = await command_line.start("events", "--crew", "research", "--json")
    try:
        reading = asyncio.create_task(next_event(following))
        number = 0

        async def first_event() -> bool:  # what happened before the stream was open is not in it
            nonlocal number
            number += 1
            await command_line.says("send", "research", f"n={number}", "--no-wait")
            return reading.done()

        await eventually(first_event, "an event is printed")
        await daemon.close()
        await daemon.start()
        sent = (await command_line.says("send", "research", "n=0", "--no-wait", "--json")).json["run_id"]
        async with asyncio.timeout(PATIENCE):
            event = await reading
            while event["subject"] != sent:
                event = await next_event(following)
        following.send_signal(signal.SIGINT)
        _, err = await following.communicate()
    finally:
        if following.returncode is None:
            following.kill()
    assert event["type"] == "run.waiting_for_human"
    assert following.returncode == 130
    assert err.decode().splitlines()[-1] == "interrupted"


async def next_event(following: asyncio.subprocess.Process) -> Any:
    """The next event that the command prints."""
    assert following.stdout is not None
    return json.loads(await following.stdout.readline())


@asynccontextmanager
async def receiver_that_is_gone_once() -> AsyncIterator[str]:
    """A receiver that answers its first event with 410, which ends the delivery."""
    statuses = itertools.chain([410], itertools.repeat(204))

    async def respond(_: web.Request) -> web.Response:
        return web.Response(status=next(statuses))

    async with web_server(web.post("/", respond)) as url:
        yield f"{url}/"


async def has_delivery(daemon: Daemon, state: str, number: int = 1) -> bool:
    _, page = await daemon.get(f"/v1/deliveries?state={state}")
    return len(page["deliveries"]) == number


async def has_ended(daemon: Daemon, state: str) -> bool:
    """Whether the newest run has ended so."""
    runs = await daemon.all_runs()
    return bool(runs[0]["state"] == state)


def shape(screen: str) -> list[str]:
    """The lines of a screen without what differs from one to the next: ids, times, addresses, what polls saw."""
    volatile = (
        r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d{4}-\d\d-\d\dT[\d:.]+Z|\(\d+ \w+ ago\)|https?://[^\s,]+"
        r"|(?<=polls[=:])\s?\d+"
    )
    of_polls = re.compile(r"  usage:|    \w+_task  ")  # the tasks that a poll saw end, and their tokens
    return [re.sub(volatile, "…", line).rstrip() for line in screen.strip().splitlines() if not of_polls.match(line)]


async def run_in(daemon: Daemon, state: str, number: int = 1) -> Any:
    """The newest run, once all are in this state."""

    async def met() -> bool:
        return [run["state"] for run in await daemon.all_runs()] == [state] * number

    await eventually(met, f"a run is {state}")
    return (await daemon.all_runs())[0]
