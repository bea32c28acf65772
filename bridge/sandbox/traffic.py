"""Record the resumes, stops, and flow answers received, and the webhooks sent."""

from typing import Any

Record = dict[str, Any]


class Traffic:
    """Keeps lists of JSON objects in chronological order; they do not survive a restart."""

    def __init__(self) -> None:
        self.resumes: list[Record] = []
        self.stops: list[Record] = []
        self.flow_responses: list[Record] = []
        self.webhooks: list[Record] = []

    def report(self) -> dict[str, list[Record]]:
        """Return all lists by name."""
        return {
            "resumes": self.resumes,
            "stops": self.stops,
            "flow_responses": self.flow_responses,
            "webhooks": self.webhooks,
        }

    def clear(self) -> None:
        """Remove all records."""
        for records in self.report().values():
            records.clear()
