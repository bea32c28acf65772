"""A crew with memory, and flows that run a crew, use threads, wait for a human, or fail; their model is scripted."""

import contextvars
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crewai import Agent, Crew, Task
from crewai.flow import Flow, human_feedback, listen, start
from crewai.flow.persistence import SQLiteFlowPersistence
from crewai.llms.base_llm import BaseLLM
from crewai.memory.unified_memory import Memory
from pydantic import BaseModel

RUN: contextvars.ContextVar[Any] = contextvars.ContextVar("run", default=None)
PAUSE = float(os.environ.get("MODEL_SECONDS", "0.2"))
FOLDER = Path(tempfile.mkdtemp(prefix="crewai-"))
PERSISTENCE = SQLiteFlowPersistence(str(FOLDER / "flows.db"))


class ScriptedModel(BaseLLM):
    """Gives the same answer to every prompt, after a while."""

    answer: str = "Tides are useful."

    def call(self, messages: Any, *arguments: Any, **more: Any) -> str:
        time.sleep(PAUSE)
        return f"Thought: I now can give a great answer\nFinal Answer: {self.answer}"

    async def acall(self, messages: Any, *arguments: Any, **more: Any) -> str:
        return self.call(messages, *arguments, **more)

    def supports_function_calling(self) -> bool:
        return False


def embed(texts: list[str]) -> list[list[float]]:
    """Return a vector per text, without a model."""
    return [[float(len(text) % 7), float(text.count("e")), 1.0, 0.5] for text in texts]


MODEL = ScriptedModel(model="scripted")
LONG_WINDED = ScriptedModel(model="scripted", answer='"A line" that JSON escapes.\n' * 120_000)  # 3.2 MB


def crew(*, memory: bool = False, model: BaseLLM = MODEL) -> Crew:
    """Build a crew of two tasks; the first has no name, so that the library calls it by its whole description."""
    agent = Agent(role="Writer", goal="Write", backstory="Poet.", llm=model)
    notes = Task(description="Collect notes on {topic}.\n\nUse:\n- short lines", expected_output="Notes.", agent=agent)
    verdict = Task(
        name="verdict_task", description="Say the verdict on {topic}.", expected_output="A verdict.", agent=agent
    )
    kept = Memory(llm=MODEL, embedder=embed, storage=str(FOLDER / "memory")) if memory else False
    return Crew(name="TideCrew", agents=[agent], tasks=[notes, verdict], memory=kept)


class State(BaseModel):
    id: str = ""
    topic: str = "nothing"
    count: int | None = None
    draft: str = ""


class ChildFlow(Flow[State]):
    @start()
    def check(self) -> str:
        time.sleep(PAUSE)
        return "checked"


class CrewFlow(Flow[State]):
    """Runs a crew and another flow, and returns an object."""

    @start()
    def research(self) -> str:
        self.state.draft = crew().kickoff({"topic": self.state.topic}).raw
        return self.state.draft

    @listen(research)
    def finish(self, draft: str) -> dict[str, object]:
        return {"topic": self.state.topic, "draft": draft, "check": ChildFlow().kickoff()}


class ThreadsFlow(Flow[State]):
    """Runs a crew and another flow in threads, which do not know the context that names their parent."""

    @start()
    def research(self) -> dict[str, object]:
        inputs = {"topic": self.state.topic}
        with ThreadPoolExecutor(initializer=RUN.set, initargs=(RUN.get(),)) as threads:
            check = threads.submit(ChildFlow().kickoff, inputs)
            draft = threads.submit(crew().kickoff, inputs)
            return {"topic": self.state.topic, "draft": draft.result().raw, "check": check.result()}


class ReviewFlow(Flow[State]):
    """Waits for a human, then works on."""

    @start()
    @human_feedback(message="Please review.")
    def review(self) -> str:
        time.sleep(PAUSE)
        return "a draft"

    @listen(review)
    def publish(self, result: Any) -> dict[str, object]:
        time.sleep(PAUSE)
        return {"published": True, "feedback": str(getattr(result, "feedback", result))}


class FailingFlow(Flow[State]):
    @start()
    def begin(self) -> None:
        time.sleep(PAUSE)

    @listen(begin)
    def fail(self) -> None:
        raise ValueError("bad customer id 17\nsecond line")


@dataclass(frozen=True)
class Deployment:
    """How one kind of deployment is started, and what its status shows of a result."""

    inputs: list[str]
    required: list[str]
    kickoff: Callable[[Mapping[str, Any], str], Any]
    resume: Callable[[str, str], Any]
    status: Callable[[Any], dict[str, Any]]
    is_crew: bool = False


def of_flow(flow: type[Flow[State]]) -> Deployment:
    def kickoff(inputs: Mapping[str, Any], kickoff_id: str) -> Any:
        return flow(persistence=PERSISTENCE).kickoff({**inputs, "id": kickoff_id})

    def resume(kickoff_id: str, feedback: str) -> Any:
        return flow.from_pending(kickoff_id, PERSISTENCE).resume(feedback)

    def status(result: Any) -> dict[str, Any]:
        return {"result": result, "result_json": result if isinstance(result, dict) else None}

    return Deployment(["topic", "count"], ["topic"], kickoff, resume, status)


def of_crew(**options: Any) -> Deployment:
    def kickoff(inputs: Mapping[str, Any], _kickoff_id: str) -> Any:
        return crew(**options).kickoff(dict(inputs))

    def resume(_kickoff_id: str, _feedback: str) -> Any:
        raise NotImplementedError

    def status(output: Any) -> dict[str, Any]:
        last = output.tasks_output[-1]
        return {
            "result": output.raw,
            "result_json": output.json_dict,
            "usage_metrics": output.token_usage.model_dump(),
            "last_executed_task": {"name": last.name, "agent": last.agent, "output": last.raw},
        }

    return Deployment(["topic"], ["topic"], kickoff, resume, status, is_crew=True)


KINDS = {
    "crew": of_crew(),
    "crew_with_memory": of_crew(memory=True),
    "crew_with_long_result": of_crew(model=LONG_WINDED),
    "flow": of_flow(CrewFlow),
    "flow_with_threads": of_flow(ThreadsFlow),
    "review_flow": of_flow(ReviewFlow),
    "failing_flow": of_flow(FailingFlow),
}
