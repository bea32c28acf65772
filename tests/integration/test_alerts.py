"""deploy/prometheus/rules.yaml: each alert uses series that a new daemon has, and leads to its runbook."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from bridge.composition.build import open_bridge
from bridge.config import load

ROOT = Path(__file__).parents[2]
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((ROOT / "deploy" / "prometheus" / "rules.yaml").read_text())["groups"]
    for rule in group["rules"]
]
_SELECTOR = re.compile(r"(kickoff_bridge_\w+)(?:\{([^}]*)\})?")


@pytest.fixture
async def series(tmp_path: Path) -> AsyncIterator[list[tuple[str, dict[str, str]]]]:
    """The series of a daemon that has just started; its broker is unavailable."""
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
                url = f"http://127.0.0.1:{bridge.servers[0].port}/metrics"
                async with aiohttp.ClientSession() as http, http.get(url) as response:
                    families = list(text_string_to_metric_families(await response.text()))
                yield [(sample.name, sample.labels) for family in families for sample in family.samples]
            finally:
                await supervisor.stop(asyncio.Event())


async def test_every_alert_uses_series_of_a_new_daemon(series: list[tuple[str, dict[str, str]]]) -> None:
    """A name or label that no daemon has makes an alert that never fires."""
    for rule in RULES:
        selectors = _SELECTOR.findall(rule["expr"])
        assert selectors, rule["alert"]
        for name, labels in selectors:
            wanted = dict(re.findall(r'(\w+)="(\w+)"', labels))
            assert any(name == found and wanted.items() <= has.items() for found, has in series), (rule["alert"], name)


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
