"""Crews, receivers, and senders that quote secrets of the bridge: no part is stored, published, or returned."""

import asyncio
import base64
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web
from structlog.testing import capture_logs

from bridge import daemon
from bridge.config import load
from tests.system.acceptance.harness import eventually, free_port

CREW, CLIENT, HOOK = "canary-crew-token-5e1f0a77", "canary-client-token-9c2d4b88", "canary-hook-secret-6f2e1d99"
SIGNING = "whsec_" + base64.b64encode(b"canary-signing-secret-0123456789").decode()
SECRETS = (CREW, CLIENT, HOOK, SIGNING, SIGNING.removeprefix("whsec_").rstrip("="))


def quoting(request: web.Request, body: bytes) -> str:
    """Everything that the peer knows of the bridge, in several encodings."""
    basic = base64.b64encode(f"user:{CREW}".encode()).decode()
    return f"401 for {dict(request.headers)} {body.decode()} {basic} {SIGNING} {CREW.encode().hex()}"


@dataclass
class Peer:
    """A crew that refuses, fails, or succeeds depending on the input `how`, and a receiver.

    Both quote their requests.
    """

    url: str = ""
    hows: list[str] = field(default_factory=list)
    called: list[bytes] = field(default_factory=list)
    webhooks: list[str] = field(default_factory=list)
    quote: str = ""

    async def kickoff(self, request: web.Request) -> web.Response:
        body = await request.read()
        content = json.loads(body)
        self.webhooks.append(content["crewWebhookUrl"])
        self.quote = quoting(request, body)
        if content["inputs"]["how"] == "refuse":
            return web.json_response({"detail": self.quote}, status=422)
        how = content["inputs"]["how"]
        return web.json_response({"kickoff_id": f"run-{CREW}" if how == "id" else how})

    async def status(self, request: web.Request) -> web.Response:
        if request.match_info["id"] == "fail":
            return web.json_response({"state": "FAILED", "error": self.quote})
        return web.json_response({"state": "SUCCESS", "result": self.quote, "result_json": {self.quote: [self.quote]}})

    async def take(self, request: web.Request) -> web.Response:
        self.called.append(await request.read())
        return web.Response(status=500, text=f"bad {dict(request.headers)} {SIGNING} {CREW}")

    async def inputs(self, _: web.Request) -> web.Response:
        return web.json_response({"inputs": ["how"]})


@asynccontextmanager
async def listening() -> AsyncIterator[Peer]:
    peer, site = Peer(), web.Application()
    site.router.add_post("/kickoff", peer.kickoff)
    site.router.add_get("/status/{id}", peer.status)
    site.router.add_get("/inputs", peer.inputs)
    site.router.add_post("/done", peer.take)
    runner = web.AppRunner(site)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        peer.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield peer
    finally:
        await runner.cleanup()


def settings_file(folder: Path, peer: Peer) -> tuple[Path, str]:
    port = free_port()
    tree = {
        "public_url": f"http://127.0.0.1:{port}",
        "http": {"port": port, "clients": [{"name": "c", "token": CLIENT, "roles": ["operate"]}]},
        "store": {"url": f"sqlite:///{folder}/bridge.db"},
        "crews": {
            "research": {"url": peer.url, "token": CREW, "poll": {"min_interval": "100ms", "max_interval": "100ms"}}
        },
        "callbacks": {"secret": SIGNING, "allow_private": True},
        "hooks": {
            "shop": {
                "crew": "research",
                "verify": {"scheme": "github", "secret": HOOK},
                "inputs": {"how": "how", "all": "@.body", "headers": "headers"},
            }
        },
    }
    file = folder / "bridge.yaml"
    file.write_text(yaml.safe_dump(tree))
    return file, f"http://127.0.0.1:{port}"


@pytest.mark.timeout(600)
async def test_a_quoted_secret_is_not_kept(tmp_path: Path) -> None:
    """A crew that responded with `401 for Authorization: Bearer …` put the token into runs, events, and the store."""
    async with listening() as peer, aiohttp.ClientSession(headers={"Authorization": f"Bearer {CLIENT}"}) as http:
        file, url = settings_file(tmp_path, peer)
        async with daemon.serving(load(file, {})):
            for how in ("refuse", "fail", "succeed"):
                body = {"crew": "research", "inputs": {"how": how, "note": CLIENT}, "callback_url": f"{peer.url}/done"}
                async with http.post(f"{url}/v1/runs", json=body) as response:
                    assert response.status == 202, await response.text()
            raw = json.dumps({"how": "from-a-hook", "token": HOOK, "deep": [{HOOK: CREW}]}).encode()
            proof = {"X-Hub-Signature-256": f"sha256={hmac.digest(HOOK.encode(), raw, 'sha256').hex()}", "X-Own": HOOK}
            async with http.post(f"{url}/hooks/shop", data=raw, headers=proof) as response:
                assert response.status == 202, await response.text()

            async def finished() -> bool:
                async with http.get(f"{url}/v1/runs") as response:
                    runs: list[dict[str, Any]] = (await response.json())["runs"]
                async with http.get(f"{url}/v1/deliveries") as response:
                    tried = [one["attempts"] for one in (await response.json())["deliveries"]]
                ended = {run["state"] for run in runs} == {"succeeded", "failed"}
                return len(runs) == 4 and ended and len(tried) >= 3 and all(tried)

            await eventually(finished, "four runs have ended and three callbacks were tried")
            responses = b""
            async with http.get(f"{url}/v1/runs") as response:
                shown = [f"/v1/runs/{run['run_id']}" for run in (await response.json())["runs"]]
            for path in ("/v1/runs", "/v1/deliveries", "/v1/crews", *shown):
                async with http.get(url + path) as response:
                    responses += await response.read()
    stored = await asyncio.to_thread(lambda: b"".join(path.read_bytes() for path in tmp_path.glob("bridge.db*")))
    tokens = [webhook.split("/")[-2] for webhook in peer.webhooks]
    for name, text in {"store": stored, "answers": responses, "callbacks": b"".join(peer.called)}.items():
        for secret in (*SECRETS, *tokens):
            for form in (secret, secret.encode().hex(), base64.b64encode(f"user:{secret}".encode()).decode()[8:-4]):
                assert form.encode() not in text, (name, secret)
    assert b"401 for" in stored
    assert b"from-a-hook" in responses  # with its inputs


@pytest.mark.timeout(600)
async def test_a_kickoff_id_that_contains_a_secret_is_not_used(tmp_path: Path) -> None:
    """It went into the run, its events and the log; redacted, it would name no execution."""
    async with listening() as peer, aiohttp.ClientSession(headers={"Authorization": f"Bearer {CLIENT}"}) as http:
        file, url = settings_file(tmp_path, peer)
        with capture_logs() as logs:
            async with daemon.serving(load(file, {})):
                async with http.post(f"{url}/v1/runs", json={"crew": "research", "inputs": {"how": "id"}}) as response:
                    run_id = (await response.json())["run_id"]

                async def run() -> dict[str, Any]:
                    async with http.get(f"{url}/v1/runs/{run_id}") as response:
                        return dict(await response.json())

                async def in_doubt() -> bool:
                    return bool((await run())["state"] == "in_doubt")

                await eventually(in_doubt, "the run is in doubt")
                async with http.post(peer.webhooks[0], json={"kickoff_id": f"run-{CREW}", "result": "x"}) as response:
                    assert response.status == 204
                shown = await run()
    assert (shown["state"], shown.get("kickoff_id")) == ("in_doubt", None)
    assert "the kickoff_id contains a secret of the bridge" in repr(logs)
    stored = await asyncio.to_thread(lambda: b"".join(path.read_bytes() for path in tmp_path.glob("bridge.db*")))
    for text in (stored, repr(logs).encode(), json.dumps(shown).encode()):
        assert CREW.encode() not in text
