"""Define the three tasks of every execution, all of the same length."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Task:
    """One task and its agent; an agent without a `tool` reports no steps."""

    name: str
    agent: str
    tool: str | None


TASKS = (
    Task("collect_task", "Researcher", "web_search"),
    Task("draft_task", "Writer", "notebook"),
    Task("review_task", "Editor", None),
)
