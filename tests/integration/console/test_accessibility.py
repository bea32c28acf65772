"""Every view, checked by axe: no serious or critical violation, in light and dark, wide and narrow."""

from typing import Any

import pytest

from tests.integration.console.conftest import Console
from tests.system.interop.javascript import FOLDER, why_not

AXE = FOLDER / "node_modules" / "axe-core" / "axe.min.js"
RUN = "async () => (await axe.run(document, {resultTypes: ['violations']})).violations"
SIZES = [
    pytest.param({"width": 1280, "height": 800}, "light", id="wide-light"),
    pytest.param({"width": 360, "height": 740}, "dark", id="narrow-dark"),
]
pytestmark = pytest.mark.asyncio(loop_scope="session")  # that of the browser


@pytest.mark.nightly
@pytest.mark.parametrize(("viewport", "scheme"), SIZES)
async def test_no_view_has_a_serious_finding(console: Console, viewport: dict[str, int], scheme: str):
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    succeeded = await console.submit("research", {"order": 42})
    failed = await console.submit("research", sandbox_outcome="failure")
    doubtful, asked = await console.submit("doubtful"), await console.submit("reviewed")
    for run_id, state in (
        (succeeded, "succeeded"), (failed, "failed"), (doubtful, "in_doubt"), (asked, "waiting_for_human"),
    ):  # fmt: skip
        await console.reached(run_id, state)
    page = await console.open(viewport=viewport, color_scheme=scheme)
    await page.evaluate(AXE.read_text())
    found: dict[str, list[Any]] = {}
    for view, text in (
        ("overview", "All parts work"),
        ("runs", succeeded[:18]),
        (f"runs/{succeeded}", "What happened"),
        (f"runs/{asked}", "Output to judge"),
        ("questions", asked[:18]),
        ("in-doubt", doubtful[:18]),
        ("deliveries?state=delivered", "run.succeeded"),
        ("crews", "reviewed"),
        ("crews/research", "requests_per_second"),
        ("nowhere", "no such page"),
    ):
        await page.evaluate("(hash) => { location.hash = hash; }", f"#/{view}")
        await page.get_by_role("main").get_by_text(text).first.wait_for()
        found[view] = await page.evaluate(RUN)
    await page.evaluate("(hash) => { location.hash = hash; }", f"#/runs/{doubtful}")
    await page.get_by_role("button", name="Abandon").click()
    found["dialog"] = await page.evaluate(RUN)
    serious = [
        (view, each["id"], [node["html"] for node in each["nodes"]])
        for view, violations in found.items()
        for each in violations
        if each["impact"] in ("serious", "critical")
    ]
    assert serious == []
