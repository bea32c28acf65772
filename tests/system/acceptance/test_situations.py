"""Twelve situations that an operator meets, staged in one daemon: what its runs, `/readyz`, and its metrics say.

The table in docs/observe.md must be what they say. That each of its alerts fires, and clears when its metric is back to
normal, is tested with recorded series (`tests/integration/alert_tests.yaml`).
"""

import contextlib
import io
import re
import sqlite3
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from bridge.cli._output import run_view
from bridge.core.crew.rate_limiter import FAILURES_UNTIL_BACKOFF
from bridge.core.delivery.receivers import PAUSE_AFTER
from bridge.sandbox import SandboxSettings, parse_run_time, running
from tests.system.acceptance.harness import Daemon, eventually, free_port
from tests.web_server import web_server

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "observe.md"
RULES = yaml.safe_load((ROOT / "deploy" / "prometheus" / "rules.yaml").read_text())["groups"][0]["rules"]

COMMITS = "kickoff_bridge_store_commit_seconds_count"
BUSY = {"on": "kickoff", "do": "http", "code": 429, "headers": {"Retry-After": "300"}, "times": None}
NO_RESPONSE = {"on": "kickoff", "do": "hang_up_before", "times": None}


@dataclass(frozen=True)
class Situation:
    """How a situation shows.

    `line`: how the line of `runs show` begins, about a run of `crew`. `part`: of `/readyz`; empty: it is not
    affected. `value` of the metric: a number, or more than one.
    """

    crew: str
    line: str
    part: str
    metric: str
    labels: Mapping[str, str] = field(default_factory=dict)
    value: str = "> 0"
    alert: str = "KickoffBridgeAcceptedRunsOld"

    def holds(self, value: float) -> bool:
        """Whether the metric has the value."""
        return value > 0 if self.value == "> 0" else value == float(self.value.removeprefix("= "))


def waits(crew: str, reason: str, part: str = "") -> Situation:
    """An accepted run that waits."""
    return Situation(crew, f"waiting: {reason} ", part, "oldest_run_seconds", {"crew": crew, "state": "accepted"})


def paused(crew: str) -> Situation:
    """A crew that is paused."""
    line, alert = "waiting: crew_paused ", "KickoffBridgeCrewPaused"
    return Situation(crew, line, "crews", "crew_paused", {"crew": crew}, "= 1", alert)


def in_state(crew: str, reason: str, state: str, alert: str) -> Situation:
    """A run in a state that others than the bridge must end."""
    return Situation(crew, f"waiting: {reason} ", "", "runs", {"crew": crew, "state": state}, alert=alert)


CALLBACKS = {"channel": "callback", "state": "pending"}
SITUATIONS = {
    "wrong token": paused("token"),
    "quota exhausted": paused("quota"),
    "budget spent": waits("budget", "budget"),
    "every slot taken": waits("full", "slot"),
    "crew unreachable": waits("unreachable", "retry", "crews"),
    "rate limited": waits("limited", "rate_limited"),
    "in doubt": in_state("doubt", "in_doubt", "in_doubt", "KickoffBridgeRunsInDoubt"),
    "waiting for a human": in_state("human", "human", "waiting_for_human", "none: a human answers"),
    "receiver paused": Situation(
        "ended", "ID-succeeded-2  pending  to http://HOST, attempts: 1, its receiver is paused", "",
        "oldest_delivery_seconds", CALLBACKS, alert="KickoffBridgePendingDeliveriesOld",
    ),
    "broker unavailable": Situation(
        "ended", "ID-succeeded-1  pending", "broker_out", "broker_connected", {"link": "publish"}, "= 0",
        "KickoffBridgeBrokerDisconnected",
    ),
    "crew not configured": waits("removed", "crew_not_configured", "crews"),
    "store unavailable": Situation(
        "full", "waiting: store ", "store", "store_commit_seconds_count", value="> 0",
        alert="KickoffBridgeStoreCommitsAbsent",
    ),
}  # fmt: skip


class Staged:
    """A daemon with a crew for each situation."""

    def __init__(self, daemon: Daemon, crews: dict[str, Any], callback_url: str, store: Path) -> None:
        self.daemon = daemon
        self.crews = crews
        self.callback_url = callback_url
        self.store = store

    async def send(self, crew: str, **inputs: Any) -> int:
        callback = {"callback_url": self.callback_url} if crew == "ended" else {}
        body = {"crew": crew, "inputs": {"n": "1", **inputs}, **callback}
        async with aiohttp.ClientSession() as http, http.post(f"{self.daemon.url}/v1/runs", json=body) as response:
            return response.status

    async def row(self, name: str) -> str | None:
        """The row of the table; None as long as something does not show the situation."""
        situation = SITUATIONS[name]
        line = await self._find_line(situation)
        _, ready = await self.daemon.get("/readyz")
        part = ready["parts"].get(situation.part)
        problems = [each for each in (part["detail"] if part else "").split("; ") if self._is_about(situation, each)]
        value = await self._value(situation)
        if line is None or (part is not None and (part["ok"] or not problems)) or not situation.holds(value or 0.0):
            return None
        health = f"{ready['status']}, `{situation.part}`: {masked(problems[0])}" if part else "not affected"
        labels = ",".join(f'{label}="{text}"' for label, text in situation.labels.items() if label != "crew")
        metric = f"`{situation.metric}{{{labels}}}`" if labels else f"`{situation.metric}`"
        value_text = "no longer grows" if situation.part == "store" else situation.value
        return f"| {name} | `{line}` | {health} | {metric} {value_text} | {situation.alert} |"

    def _is_about(self, situation: Situation, problem: str) -> bool:
        return situation.part != "crews" or re.match(rf"{situation.crew}\b", problem) is not None

    async def _find_line(self, situation: Situation) -> str | None:
        """The line that `runs show` prints about a run of the crew, the newest first."""
        _, page = await self.daemon.get(f"/v1/runs?crew={situation.crew}")
        for listed in page["runs"]:
            _, run = await self.daemon.get(f"/v1/runs/{listed['run_id']}")
            out = io.StringIO()
            Console(file=out, width=1000, color_system=None).print(run_view(run, time.time()))
            lines = [masked(line.strip()) for line in out.getvalue().splitlines()]
            if found := next((line for line in lines if line.startswith(situation.line)), None):
                return found
        return None

    async def _value(self, situation: Situation) -> float | None:
        _, text = await self.daemon.get("/metrics")
        families = text_string_to_metric_families(text)
        for sample in (sample for family in families for sample in family.samples):
            if (
                sample.name == f"kickoff_bridge_{situation.metric}"
                and situation.labels.items() <= sample.labels.items()
            ):
                return sample.value
        return None

    @contextlib.contextmanager
    def locked_store(self) -> Any:
        """Another program holds the lock for writes."""
        with closing(sqlite3.connect(self.store, isolation_level=None, timeout=30)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield


def masked(line: str) -> str:
    """Replace times, ids, ports, and the number of an attempt."""
    line = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", line)
    line = re.sub(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:[\d.]+Z| UTC)?( \([^)]*\))?", "…", line)
    line = re.sub(r"(?<=attempt )\d+", "N", line)
    line = re.sub(r", next .*", "", line)
    return re.sub(r"127\.0\.0\.1:\d+", "HOST", line)


@asynccontextmanager
async def refusing_receiver() -> AsyncIterator[str]:
    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=503)

    async with web_server(web.post("/", refuse)) as url:
        yield url


@pytest.fixture
async def staged(tmp_path: Path) -> AsyncIterator[Staged]:
    """The daemon, whose broker is unavailable, and whose receiver of callbacks has failed for days."""
    async with AsyncExitStack() as stack:

        async def sandbox(**options: Any) -> str:
            settings = SandboxSettings(run_time=parse_run_time("fixed:600"), inputs=("n",), **options)
            return await stack.enter_async_context(running(settings))

        works, nowhere = await sandbox(), f"http://127.0.0.1:{free_port()}"
        urls = {
            "token": works, "quota": await sandbox(quota=0), "budget": works, "full": works, "unreachable": nowhere,
            "limited": await sandbox(faults=(BUSY,)), "doubt": await sandbox(faults=(NO_RESPONSE,)), "human": works,
            "ended": works, "removed": nowhere,
        }  # fmt: skip
        poll = {"min_interval": "300ms", "max_interval": "300ms"}
        crews: dict[str, dict[str, Any]] = {
            name: {"url": url, "token": "sandbox-token", "poll": poll} for name, url in urls.items()
        }
        crews["token"] |= {"token": "a-wrong-token"}
        crews["budget"] |= {"budget": {"runs": 2, "per": "1d"}}
        crews["full"] |= {"max_running": 2}
        port, callback_url = free_port(), await stack.enter_async_context(refusing_receiver())
        daemon = Daemon(
            tmp_path, works, port=port, crews=crews, public_url=f"http://127.0.0.1:{port}",
            callbacks={"allow_private": True}, amqp={"url": f"amqp://guest:guest@127.0.0.1:{free_port()}/"},
        )  # fmt: skip
        found = Staged(daemon, crews, callback_url, tmp_path / "bridge.db")
        await daemon.spawn()
        stack.push_async_callback(daemon.close)
        await eventually(lambda: store_works(daemon), "the daemon works")
        with closing(sqlite3.connect(found.store, timeout=30)) as connection, connection:
            since = time.time() - PAUSE_AFTER - 60
            connection.execute("INSERT INTO receivers VALUES (?, ?, NULL)", (callback_url, since))
        yield found


async def store_works(daemon: Daemon) -> bool:
    with contextlib.suppress(aiohttp.ClientError):
        return (await daemon.get("/readyz"))[0] == 200
    return False


async def test_twelve_situations_show_as_documented(staged: Staged):
    rows: dict[str, str | None] = {}

    async def shown(*names: str) -> None:
        async def all_shown() -> bool:
            for name in names:
                if rows.get(name) is None:
                    rows[name] = await staged.row(name)
            return all(rows[name] for name in names)

        try:
            await eventually(all_shown, f"{names} show")
        except AssertionError:
            print(*staged.daemon.log().splitlines()[-30:], sep="\n")
            raise

    for crew in (
        "token",
        "quota",
        "doubt",
        "removed",
        "limited",
        *("budget", "full") * 2,
        *("unreachable",) * FAILURES_UNTIL_BACKOFF,
    ):
        assert await staged.send(crew) == 202
    assert await staged.send("human", sandbox_seconds=0.1, sandbox_human_questions=1) == 202
    assert await staged.send("ended", sandbox_seconds=0.1) == 202
    await eventually(lambda: one_is_refused(staged.daemon), "a kickoff was refused with 429")
    for crew in ("budget", "full", "limited"):
        assert await staged.send(crew) == 202
    await shown(*(SITUATIONS.keys() - {"crew not configured", "store unavailable"}))
    remaining = {name: crew for name, crew in staged.crews.items() if name != "removed"}
    assert (await staged.daemon.reload(crews=remaining))["event"] == "settings_reloaded"
    await shown("crew not configured")
    with staged.locked_store():
        commits = await staged.daemon.metric(COMMITS)
        await shown("store unavailable")
        assert await staged.daemon.metric(COMMITS) == commits
        assert (await staged.daemon.get("/readyz"))[0] == 503
    await eventually(lambda: store_works(staged.daemon), "the store works again")

    table = [f"{rows[name]}" for name in SITUATIONS]
    print(*table, sep="\n")
    page = PAGE.read_text().splitlines()
    assert [row for row in table if row not in page] == []


async def one_is_refused(daemon: Daemon) -> bool:
    _, page = await daemon.get("/v1/runs?crew=limited")
    return [run["waiting"] and run["waiting"]["reason"] for run in page["runs"]] == ["retry"]


def test_each_situation_with_an_alert_has_one_whose_metric_shows_it():
    expressions = {rule["alert"]: rule["expr"] for rule in RULES}
    for situation in SITUATIONS.values():
        if not situation.alert.startswith("none"):
            assert f"kickoff_bridge_{situation.metric}" in expressions[situation.alert]
