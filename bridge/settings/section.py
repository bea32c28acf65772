"""What every section of the settings has in common, and the one thing that sections know of each other."""

from contextvars import ContextVar
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

known_crews: ContextVar[frozenset[str] | None] = ContextVar("known_crews", default=None)
"""The crews that the settings being read name, sound or not; None: not known."""


class Section(BaseModel):
    """One block of settings: frozen, strict about names, silent about values."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _nothing_is_absent(cls, data: Any) -> Any:
        """A name with nothing behind it (`ops_port:`) counts as left out."""
        if not isinstance(data, dict):
            return data
        return {name: value for name, value in data.items() if value is not None or name not in cls.model_fields}
