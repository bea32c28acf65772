"""Serve a real crew or flow of the crewai library as the crew API, and forward the library's events as webhooks.

    python server.py KIND [--questions URL] [--secret TEXT] [--capture FILE] [--status-lag SECONDS] [--reorder SECONDS]

KIND is a name in `deployments.KINDS`; questions of a flow go to URL, and every event to FILE. The script runs in
an environment of its own, with crewai and nothing of the bridge. It prints its URL and runs until its input ends.
`GET /_ledger` lists the runs; `POST /_lose` loses the responses of the next kickoffs.
"""

import argparse
import contextlib
import contextvars
import hashlib
import hmac
import json
import os
import random
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

os.environ |= {"CREWAI_DISABLE_TELEMETRY": "true", "CREWAI_TRACING_ENABLED": "false", "OTEL_SDK_DISABLED": "true"}

import deployments
from crewai.events.base_events import BaseEvent
from crewai.events.event_bus import crewai_event_bus
from crewai.flow import flow_config
from crewai.flow.async_feedback import HumanFeedbackPending

Response = tuple[int, Any]

ENDS = {"crew_kickoff_completed", "crew_kickoff_failed", "flow_finished", "flow_failed"}
NOT_FOUND = {"state": "NOT FOUND", "status": "Task not found or Invalid kickoff id", "result": None}


class Run:
    """One execution: what its kickoff asked for, its status, and when its last event said that it ended."""

    def __init__(self, body: dict[str, Any]) -> None:
        self.kickoff_id = self.execution_id = str(uuid.uuid4())
        self.body = body
        self.hooks = body.get("webhooks") or {}
        self.status: dict[str, Any] = {"state": "STARTED", "status": "Task is Started", "result": None}
        self.question: tuple[str, str] | None = None
        self.ended_at: float | None = None
        self.seen_at: float | None = None
        self.polls = 0
        self.own_webhooks_answered = 0  # those about the execution itself, not an inner one

    def post(self, url: str, body: Any, headers: Mapping[str, str] | None = None) -> None:
        """Send a webhook once, without a retry."""
        raw = body if isinstance(body, bytes) else json.dumps(body, default=str).encode()
        request = urllib.request.Request(url, raw, {"Content-Type": "application/json", **(headers or {})})
        try:
            with urllib.request.urlopen(request, timeout=5):
                events = body.get("events", ()) if isinstance(body, dict) else ()
                self.own_webhooks_answered += any(event["data"]["parent_event_id"] is None for event in events)
        except OSError:
            pass  # the receiver may be down: a webhook is sent once

    def report(self) -> dict[str, Any]:
        """Return its row of the ledger."""
        names = ("kickoff_id", "ended_at", "seen_at", "polls", "own_webhooks_answered", "status")
        return {"meta": self.body.get("meta"), **{name: getattr(self, name) for name in names}}


class Server:
    """The deployment, its runs, and the number of responses to lose. The library asks it for human feedback."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.deployment = deployments.KINDS[options.kind]
        self.options = options
        self.runs: dict[str, Run] = {}
        self.lose = 0
        self.base_url = ""
        flow_config.hitl_provider = self
        for event_type in _event_types(BaseEvent):
            crewai_event_bus.on(event_type)(self._forward)

    def get(self, path: str) -> Response:
        if path == "/inputs":
            return 200, {"inputs": self.deployment.inputs, "required_inputs": self.deployment.required}
        if path == "/_ledger":
            return 200, {"runs": [run.report() for run in self.runs.values()]}
        run = self.runs.get(path.removeprefix("/status/"))
        if run is None:
            return 200, NOT_FOUND
        run.polls += 1
        if run.status["state"] in {"SUCCESS", "FAILED"}:
            run.seen_at = run.seen_at or time.time()
        return 200, run.status

    def post(self, path: str, body: dict[str, Any]) -> Response | None:
        """Return the response to a POST; None to close the connection without one."""
        if path == "/kickoff":
            return self._kickoff(body)
        if path == "/_lose":
            self.lose = body["times"]
            return 200, {}
        asking = next((run for run in self.runs.values() if run.question and path == _path(*run.question)), None)
        if asking is None:
            return 404, {"detail": "Not Found"}
        asking.question, asking.execution_id = None, str(uuid.uuid4())
        asking.status = {"state": "RUNNING", "status": "Task is Running", "result": None}
        self._start(asking, lambda: self.deployment.resume(asking.kickoff_id, str(body["feedback"])))
        return 200, {"status": "received"}

    def request_feedback(self, context: Any, flow: Any) -> str:
        """Send the question of a flow; the exception pauses it."""
        run = deployments.RUN.get()
        run.question = request_id, token = str(uuid.uuid4()), uuid.uuid4().hex
        asked_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        body = {
            "event_type": "new_request",
            "id": request_id,
            "status": "pending",
            "flow_id": run.kickoff_id,
            "flow_class": context.flow_class,
            "method_name": context.method_name,
            "message": context.message,
            "output": str(context.method_output),
            "emit": context.emit or [],
            "state": flow.state.model_dump(),
            "metadata": {},
            "created_at": asked_at,
            "callback_url": self.base_url + _path(request_id, token),
            "response_token": token,
            "deployment_id": 1,
            "deployment_name": "interop",
            "assigned_at": asked_at,
        }
        if self.options.questions is not None:
            raw, timestamp = json.dumps(body).encode(), str(int(time.time()))
            digest = hmac.new(self.options.secret.encode(), timestamp.encode() + b"." + raw, hashlib.sha256).hexdigest()
            signed = {"X-Crewai-Signature": f"sha256={digest}", "X-Crewai-Timestamp": timestamp}
            self._send(run, self.options.questions, raw, signed)
        raise HumanFeedbackPending(context)

    def _kickoff(self, body: dict[str, Any]) -> Response | None:
        inputs = body["inputs"]
        if missing := [name for name in self.deployment.required if name not in inputs]:
            return 422, {"detail": f"Missing inputs: {', '.join(missing)}"}
        run = Run(body)
        self.runs[run.kickoff_id] = run
        self._start(run, lambda: self.deployment.kickoff(inputs, run.kickoff_id))
        if self.lose:
            self.lose -= 1
            return None
        return 200, {"kickoff_id": run.kickoff_id}

    def _start(self, run: Run, work: Callable[[], Any]) -> None:
        context = contextvars.Context()  # the library hands it on to the threads that emit and handle events
        context.run(deployments.RUN.set, run)
        threading.Thread(target=context.run, args=(self._execute, run, work), daemon=True).start()

    def _execute(self, run: Run, work: Callable[[], Any]) -> None:
        try:
            result = work()
        except Exception as error:  # noqa: BLE001  (whatever a crew raises is the reason of its failure)
            status = {"state": "FAILED", "status": f"{type(error).__name__}: {error}", "result": None}
        else:
            status = self._status_of(run, result)
        time.sleep(self.options.status_lag)
        if status["state"] == "PAUSED" and run.question is None:
            return  # the answer came first
        run.status = status
        if self.deployment.is_crew and status["state"] == "SUCCESS" and (url := run.body.get("crewWebhookUrl")):
            body = {"kickoff_id": run.kickoff_id, "meta": run.body.get("meta"), **self.deployment.status(result)}
            self._send(run, url, body)

    def _status_of(self, run: Run, result: Any) -> dict[str, Any]:
        if isinstance(result, HumanFeedbackPending):
            paused = {"state": "PAUSED", "status": "awaiting_human_feedback", "flow_id": run.kickoff_id}
            return {**paused, "result": None}
        return {"state": "SUCCESS", "status": None, **self.deployment.status(result)}

    def _send(self, run: Run, *webhook: Any) -> None:
        threading.Timer(self.options.reorder * random.random(), run.post, webhook).start()

    def _forward(self, source: Any, event: BaseEvent) -> None:
        run = deployments.RUN.get()
        if run is None:
            return
        if event.type in ENDS and event.parent_event_id is None:
            run.ended_at = event.timestamp.timestamp()
        if event.type in run.hooks.get("events", ()):
            self._send(run, run.hooks["url"], {"events": [self._streamed(run, source, event)]})
        if self.options.capture is not None:
            with self.options.capture.open("a") as file:
                file.write(json.dumps(self._streamed(run, source, event), default=str) + "\n")

    def _streamed(self, run: Run, source: Any, event: BaseEvent) -> dict[str, Any]:
        own_id = str(getattr(source, "flow_id", None) or getattr(source, "id", None) or run.execution_id)
        in_thread = not self.deployment.is_crew and own_id != run.kickoff_id  # and therefore without a parent
        inner = event.type.startswith(("crew_", "flow_")) and (event.parent_event_id is not None or in_thread)
        return {
            "id": event.event_id,
            "execution_id": own_id if inner else run.execution_id,  # inner executions have ids of their own
            "timestamp": event.timestamp.isoformat(timespec="microseconds"),
            "type": event.type,
            "data": event.to_json(),
        }


def _path(request_id: str, token: str) -> str:
    return f"/human_feedback_requests/{request_id}/respond?token={token}"


def _event_types(base: type[BaseEvent]) -> set[type[BaseEvent]]:
    return {each for sub in base.__subclasses__() for each in (sub, *_event_types(sub))}


class Handler(BaseHTTPRequestHandler):
    """Calls the deployment; `server` is set by `main`."""

    protocol_version = "HTTP/1.1"
    deployment: Server

    def do_GET(self) -> None:
        self._respond(self.deployment.get(self.path))

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._respond(self.deployment.post(self.path, json.loads(raw)))

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing about requests."""

    def _respond(self, response: Response | None) -> None:
        if response is None:
            self.close_connection = True
            return
        code, body = response
        raw = json.dumps(body, default=str).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


def main() -> None:
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the library prints what its flows do
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=deployments.KINDS)
    parser.add_argument("--questions")
    parser.add_argument("--secret", default="whsec_interop")
    parser.add_argument("--capture", type=Path)
    parser.add_argument("--status-lag", type=float, default=0.2, help="a platform writes its status after the events")
    parser.add_argument("--reorder", type=float, default=0.0, help="the longest delay of a webhook")
    deployment = Handler.deployment = Server(parser.parse_args())
    with contextlib.suppress(Exception):  # the first execution imports half of the library, which takes seconds
        deployment.deployment.kickoff({"topic": "warm-up"}, str(uuid.uuid4()))
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    deployment.base_url = f"http://127.0.0.1:{http.server_port}"
    threading.Thread(target=http.serve_forever, daemon=True).start()
    print(json.dumps(deployment.base_url), file=output, flush=True)
    sys.stdin.read()
    os._exit(0)  # the library's threads would keep the process alive


if __name__ == "__main__":
    main()
