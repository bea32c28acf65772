"""Build the webhooks of an execution from its current position to its next pause or its end.

The live shapes are in crew API contract 6.1 to 6.4. A crew sends task, step, crew, and human-input webhooks.
Whether a flow does is unknown, so it sends only stream events and its questions. A failure sends no crew webhook.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from bridge.sandbox import flow_question
from bridge.sandbox.execution import TASKS, Execution
from bridge.sandbox.hooks import Hook, Hooks
from bridge.sandbox.milestones import Milestone, milestones
from bridge.sandbox.outputs import TOKENS, describe, output_of, results_of
from bridge.sandbox.settings import SandboxSettings
from bridge.sandbox.stream import batches

Sign = Callable[[bytes, float], Mapping[str, str]]
"""Return the signature headers for a body and the time of sending."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook due at `at`; `kind` is its name in the ledger."""

    at: float
    kind: str
    hook: Hook
    body: Mapping[str, object]
    sign: Sign | None = None


class Writer:
    """Builds the webhooks of a deployment; keeps its base URL."""

    def __init__(self, settings: SandboxSettings) -> None:
        self._settings = settings
        self.base_url = ""
        """The base URL for answers to a flow's questions; set once the sandbox listens."""

    def webhooks(self, execution: Execution, hooks: Hooks) -> list[Webhook]:
        """Return the webhooks until the next pause or the end, in chronological order."""
        asks = self._settings.kind == "flow" and self._settings.flow_hitl_url and execution.questions
        if hooks == Hooks() and not asks:
            return []
        path = milestones(execution)
        plain = [webhook for milestone in path for webhook in self._plain(execution, hooks, milestone)]
        return sorted([*plain, *self._streamed(execution, hooks, path)], key=lambda webhook: webhook.at)

    def _streamed(self, execution: Execution, hooks: Hooks, path: list[Milestone]) -> Iterator[Webhook]:
        if stream := hooks.stream:
            nested, parents = self._settings.stream_nested, self._settings.stream_parents
            for batch in batches(execution, self._settings.kind, stream, path, nested=nested, parents=parents):
                yield Webhook(batch.at, "stream", stream.hook, batch.body)

    def _plain(self, execution: Execution, hooks: Hooks, milestone: Milestone) -> Iterator[Webhook]:
        if self._settings.kind == "flow":
            yield from self._flow_question(execution, milestone)
            return
        match milestone.what:
            case "step":
                yield from _to(hooks.step, "step", milestone, _step(execution, milestone.task))
            case "task_done":
                yield from _to(hooks.task, "task", milestone, _task(execution, milestone.task))
            case "pause":
                yield from _to(hooks.human, "human_input", milestone, _human_input(execution, milestone.task))
            case "end" if execution.failure is None:
                yield from _to(hooks.crew, "crew", milestone, crew_webhook(execution))
            case _:
                return

    def _flow_question(self, execution: Execution, milestone: Milestone) -> Iterator[Webhook]:
        url, shape = self._settings.flow_hitl_url, self._settings.flow_hitl_shape
        if milestone.what == "pause" and url:
            body = flow_question.question(execution, milestone.task, milestone.at, self.base_url, shape)

            def sign(raw: bytes, now: float) -> Mapping[str, str]:
                return flow_question.signature(self._settings.signing_key, raw, now, shape)

            yield Webhook(milestone.at, "flow_question", Hook(url), body, sign)


def _to(hook: Hook | None, kind: str, milestone: Milestone, body: Mapping[str, object]) -> Iterator[Webhook]:
    if hook is not None:
        yield Webhook(milestone.at, kind, hook, body)


def _task(execution: Execution, index: int) -> dict[str, object]:
    task = describe(execution, index)
    return {**task, "summary": f"{task['description']}...", "output_json": None}


def _step(execution: Execution, index: int) -> dict[str, object]:
    # Documented only; an agent without a tool sends none (observed live).
    return {
        "prompt": f"The {TASKS[index].name} of the sandbox.",
        "thought": "There may be more to find.",
        "tool": TASKS[index].tool,
        "tool_input": f"{execution.topic()}",
        "result": "3 hits",
        "kickoff_id": execution.kickoff_id,
        "meta": execution.meta,
    }


def crew_webhook(execution: Execution) -> dict[str, object]:
    """Return the crew webhook of a success."""
    return {
        "kickoff_id": execution.kickoff_id,
        **results_of(execution, "crew"),
        "token_usage": TOKENS,
        "meta": execution.meta,
    }


def _human_input(execution: Execution, index: int) -> dict[str, object]:
    return {
        "kickoff_id": execution.kickoff_id,
        "execution_id": execution.kickoff_id,
        "task_id": execution.question_id,
        "task_output": f"Draft: {output_of(execution, index)} Approve?",
        "meta": execution.meta,
    }
