"""What every section of the settings has in common, and the one thing that sections know of each other."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


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


class Whole(Section):
    """All sections together: while they are validated, `info.context` is what `crews` names, sound or not.

    It is None where that is not known. To be inherited behind `BaseSettings`, which takes no context and hands its
    values on to here.
    """

    def __init__(self, /, **values: Any) -> None:  # a setting may be called `self`, and is unknown then
        crews = values.get("crews")
        names = frozenset(map(str, crews)) if isinstance(crews, Mapping) else None
        self.__pydantic_validator__.validate_python(values, self_instance=self, context=names)
