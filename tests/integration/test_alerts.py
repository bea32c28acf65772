"""The alerts and the dashboard in deploy/: every series exists in a new daemon, and Prometheus accepts every query."""

import asyncio
import json
import re
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from bridge.composition.build import open_bridge
from bridge.config import load
from tests.broker import free_ports
from tests.system.acceptance.harness import eventually

ROOT = Path(__file__).parents[2]
PROGRAMS = ROOT / "build" / "prometheus" / "usr" / "bin"  # where tests/need-servers.sh puts them if none is installed
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((ROOT / "deploy" / "prometheus" / "rules.yaml").read_text())["groups"]
    for rule in group["rules"]
]
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy" / "grafana" / "kickoff-bridge.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
PANEL_QUERIES = {
    (panel["title"], target["expr"].replace("$__rate_interval", "1m").replace("$crew", ".*"))
    for panel in PANELS
    for target in panel["targets"]
}
_SELECTOR = re.compile(r"(kickoff_bridge_\w+)(?:\{([^}]*)\})?")


@pytest.fixture
async def metrics_url(tmp_path: Path) -> AsyncIterator[str]:
    """The metrics of a daemon that has just started; its broker is unavailable."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        document = {
            "http": {"port": 0},
            "amqp": {"url": f"amqp://guest:guest@127.0.0.1:{unused.getsockname()[1]}/"},
            "store": {"url": f"sqlite:///{tmp_path}/bridge.db"},
            "crews": {"research": {"url": "http://127.0.0.1:9", "token": "t", "budget": {"runs": 5, "per": "1d"}}},
        }
        (tmp_path / "bridge.yaml").write_text(yaml.safe_dump(document))
        async with open_bridge(load(tmp_path / "bridge.yaml", environ={}), migrate=True) as bridge:
            supervisor = await bridge.start()
            try:
                yield f"http://127.0.0.1:{bridge.servers[0].port}/metrics"
            finally:
                await supervisor.stop(asyncio.Event())


@pytest.fixture
async def series(metrics_url: str) -> list[tuple[str, dict[str, str]]]:
    """Name and labels of each series of the daemon."""
    async with aiohttp.ClientSession() as http, http.get(metrics_url) as response:
        families = list(text_string_to_metric_families(await response.text()))
    return [(sample.name, sample.labels) for family in families for sample in family.samples]


def program(name: str) -> str:
    """The path of a program of Prometheus."""
    found = shutil.which(name) or shutil.which(name, path=str(PROGRAMS))
    assert found, f"the tests need {name}: run tests/need-servers.sh"
    return found


async def test_every_alert_uses_series_of_a_new_daemon(series: list[tuple[str, dict[str, str]]]) -> None:
    """A name or label that no daemon has makes an alert that never fires."""
    for rule in RULES:
        selectors = _SELECTOR.findall(rule["expr"])
        assert selectors, rule["alert"]
        for name, labels in selectors:
            wanted = dict(re.findall(r'(\w+)="(\w+)"', labels))
            assert any(name == found and wanted.items() <= has.items() for found, has in series), (rule["alert"], name)


async def test_every_panel_uses_series_of_a_new_daemon(series: list[tuple[str, dict[str, str]]]) -> None:
    for title, query in PANEL_QUERIES:
        selectors = _SELECTOR.findall(query)
        assert selectors, title
        for name, labels in selectors:
            wanted = {*re.findall(r"(\w+)=", labels)}
            assert any(name == found and wanted <= has.keys() for found, has in series), (title, name)


def test_every_metric_has_a_panel() -> None:
    names = {name for _, query in PANEL_QUERIES for name, _ in _SELECTOR.findall(query)}
    page = (ROOT / "docs" / "observe.md").read_text()
    documented = {*re.findall(r"^\| `(kickoff_bridge_\w+)`", page, re.MULTILINE)}
    assert {re.sub("_(bucket|count)$", "", name) for name in names} == documented


def test_each_alert_fires_and_clears() -> None:
    recorded = (ROOT / "tests" / "integration" / "alert_tests.yaml").resolve()
    done = subprocess.run(
        [program("promtool"), "test", "rules", str(recorded)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    tested = yaml.safe_load(recorded.read_text())["tests"]
    cases = [case for test in tested for case in test["alert_rule_test"]]
    for expects in (True, False):
        assert {case["alertname"] for case in cases if bool(case["exp_alerts"]) is expects} == {
            rule["alert"] for rule in RULES
        }


async def test_prometheus_scrapes_a_daemon_and_accepts_every_query(tmp_path: Path, metrics_url: str) -> None:
    (port,) = free_ports(1)
    address = metrics_url.removeprefix("http://").removesuffix("/metrics")
    settings = {
        "global": {"scrape_interval": "200ms"},
        "rule_files": [str(ROOT / "deploy" / "prometheus" / "rules.yaml")],
        "scrape_configs": [{"job_name": "kickoff-bridge", "static_configs": [{"targets": [address]}]}],
    }
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(settings))
    options = [f"--web.listen-address=127.0.0.1:{port}", f"--storage.tsdb.path={tmp_path}/series"]
    process = await asyncio.create_subprocess_exec(
        program("prometheus"), f"--config.file={tmp_path}/prometheus.yaml", *options, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:

            async def query(text: str) -> list[Any]:
                async with http.get("/api/v1/query", params={"query": text}) as response:
                    found = await response.json()
                    assert found["status"] == "success", (text, found)
                    return list(found["data"]["result"])

            async def scraped() -> bool:
                try:
                    return bool(await query("kickoff_bridge_build_info"))
                except (aiohttp.ClientError, AssertionError):
                    return False

            await eventually(scraped, "Prometheus has scraped the daemon")
            (paused,) = await query('kickoff_bridge_crew_paused{crew="research"}')
            assert paused["value"][1] == "0"
            for _, text in PANEL_QUERIES:
                await query(text)
            for rule in RULES:
                await query(rule["expr"])
    finally:
        process.terminate()
        await process.wait()


async def test_every_series_that_exists_only_with_a_setting_is_there(series: list[tuple[str, dict[str, str]]]) -> None:
    names = {name for name, _ in series}
    assert {"kickoff_bridge_budget_used_ratio", "kickoff_bridge_broker_connected"} <= names


def test_every_alert_has_a_severity_a_sentence_and_a_runbook() -> None:
    incidents = (ROOT / "docs" / "incidents.md").read_text()
    sections = {heading.lower().replace(" ", "-") for heading in re.findall(r"^#+ (.+)$", incidents, re.MULTILINE)}
    assert len(RULES) > 7
    for rule in RULES:
        page, _, section = rule["annotations"]["runbook_url"].partition("#")
        assert rule["labels"]["severity"] in {"warning", "critical"}, rule["alert"]
        assert rule["annotations"]["summary"].endswith("."), rule["alert"]
        assert page == "docs/incidents.md"
        assert section in sections, rule["alert"]
