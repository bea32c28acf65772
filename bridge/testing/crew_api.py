"""A stand-in for the crew API in a thread of its own, controlled from a test."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bridge.sandbox import SandboxSettings, parse_run_time, running
from bridge.testing._http import call
from bridge.testing._thread import in_thread

_RUN_TIME = parse_run_time("fixed:0.05")


@dataclass(frozen=True, slots=True)
class CrewApi:
    """A running stand-in: its `url`, and the `token` that a client must send. docs/sandbox.md describes what it does.

    Its methods block for a moment, and may be called from any thread, with or without an event loop.
    """

    url: str
    token: str

    def respond(self, result: object, to: Mapping[str, object] | None = None) -> None:
        """Let executions succeed with this result, text or any JSON; `to`: only those with these inputs."""
        self.script({"inputs": to or {}, "outcome": "success", "result": result})

    def fail(self, error: str, to: Mapping[str, object] | None = None) -> None:
        """Let executions fail with this exception, such as `ValueError: hot`; `to`: only those with these inputs."""
        self.script({"inputs": to or {}, "error": error})

    def script(self, *entries: Mapping[str, object]) -> None:
        """Say what executions with certain inputs do, in the form of `/_script`; what is added last comes first."""
        self._control("POST", "/_script", list(entries))

    def inject(self, *rules: Mapping[str, object]) -> None:
        """Inject faults into the next calls, in the form of `/_faults`."""
        self._control("POST", "/_faults", list(rules))

    @property
    def kickoffs(self) -> list[dict[str, Any]]:
        """The kickoffs that it has received, each with its `inputs`, `meta`, `kickoff_id`, and the code `answered`."""
        kickoffs: list[dict[str, Any]] = self.ledger()["kickoffs"]
        return kickoffs

    def ledger(self) -> dict[str, Any]:
        """Return everything that it has received and sent, in the form of `/_ledger`."""
        ledger: dict[str, Any] = self._control("GET", "/_ledger")
        return ledger

    def _control(self, method: str, path: str, body: object = None) -> Any:
        status, answer = call(method, self.url + path, body)
        if status >= 400:  # noqa: PLR2004 - the codes of errors
            raise ValueError(answer["detail"])
        return answer


@contextmanager
def running_crew_api(**settings: Any) -> Iterator[CrewApi]:
    """Run a stand-in with these `SandboxSettings`; by default, an execution takes 0.05 s."""
    sandbox = SandboxSettings(**{"run_time": _RUN_TIME, **settings})
    with in_thread(running(sandbox)) as url:
        yield CrewApi(url, sandbox.token)
