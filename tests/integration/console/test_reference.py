"""The API reference at `/docs` in a browser: nothing is blocked or loaded, and axe finds nothing serious."""

from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import Browser, Page

from tests.integration.console.conftest import serving
from tests.integration.console.test_accessibility import AXE, RUN, SIZES
from tests.system.interop.javascript import why_not


async def opened(browser: Browser, url: str, complaints: list[str], **options: object) -> Page:
    """The page; `complaints` contains what the browser reports, and every request for something else."""
    context = await browser.new_context(**options)  # type: ignore[arg-type]  # as `Browser.new_context`
    page = await context.new_page()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: complaints.append(request.url) if "data:" not in request.url else None)
    await page.goto(f"{url}/docs")
    assert complaints.pop(0) == f"{url}/docs"
    return page


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize(
    ("viewport", "scheme"), [SIZES[0], *(pytest.param(*size.values, marks=pytest.mark.nightly) for size in SIZES[1:])]
)
async def test_the_reference_is_styled_and_has_no_serious_finding(
    browser: Browser, tmp_path: Path, viewport: dict[str, int], scheme: str
):
    complaints = list[str]()
    async with serving(tmp_path, ops_port=0) as ops:
        page = await opened(browser, ops, complaints, viewport=viewport, color_scheme=scheme)
        background = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        await page.get_by_role("navigation").get_by_role("link", name="POST /v1/runs", exact=True).click()
        assert await page.locator("article:target h3").inner_text() == "POST /v1/runs"
        found = None
        if why_not() is None:
            await page.evaluate(AXE.read_text())
            found = await page.evaluate(RUN)
        await page.context.close()
    assert background == {"light": "rgb(245, 246, 249)", "dark": "rgb(17, 20, 26)"}[scheme]
    assert complaints == []
    serious = [(one["id"], [node["html"] for node in one["nodes"]]) for one in found or ()]
    assert serious == []
    if found is None:
        pytest.skip(f"without axe: {why_not()}")


async def test_the_reference_needs_no_token_and_is_not_sent_again(tmp_path: Path):
    async with serving(tmp_path, console=False) as url, aiohttp.ClientSession(url) as http:
        async with http.get("/docs") as response:
            assert (response.status, response.content_type) == (200, "text/html")
            assert response.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'sha256-")
            assert "Set-Cookie" not in response.headers
            tag = response.headers["ETag"]
        async with http.get("/docs", headers={"If-None-Match": tag}) as response:
            assert (response.status, await response.read()) == (304, b"")
