"""What else the ledger tells: every resume, stop and answer to a flow that came in, every webhook that went out."""

from typing import Any

Note = dict[str, Any]


class Notes:
    """Lists of JSON objects, in the order in which things happened; not kept across restarts."""

    def __init__(self) -> None:
        self.resumes: list[Note] = []
        self.stops: list[Note] = []
        self.flow_answers: list[Note] = []
        self.webhooks: list[Note] = []

    def report(self) -> dict[str, list[Note]]:
        """Return all lists by name."""
        return {
            "resumes": self.resumes,
            "stops": self.stops,
            "flow_answers": self.flow_answers,
            "webhooks": self.webhooks,
        }

    def clear(self) -> None:
        """Forget everything."""
        for notes in self.report().values():
            notes.clear()
