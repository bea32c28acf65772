"""What is wrong with the settings, in plain words and never with a value: the value may be a secret."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from bridge.config.names import siblings

UNREADABLE = object()
"""Stands where a value could not be had. That was told already, so what the model says about it is left out."""

UNKNOWN = "unknown setting"

SettingPath = tuple[str, ...]

_PRINTABLE_NAME = re.compile(r"[\w.-]{1,64}")
_SENTENCES = {
    "extra_forbidden": UNKNOWN,
    "invalid_key": UNKNOWN,
    "string_type": "must be text (a number that is meant as text goes in quotes)",
    "string_too_short": "must not be empty",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "literal_error": "must be {expected}",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "too_short": "must not be empty",
    "tuple_type": "must be a list",
    "frozen_set_type": "must be a list",
    "model_type": "must be a section of settings",
    "dict_type": "must be a section of settings",
    "value_error": "{error}",
}


class SettingsError(Exception):
    """The settings cannot be used; `problems` tells each reason in one line, `dotted.name: sentence`."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and where."""

    place: SettingPath
    sentence: str

    def line(self, variable: str | None) -> str:
        """The problem as it is shown; `variable`: the environment variable that the value came from."""
        name = ".".join(map(shown, self.place)) or "settings"
        return f"{name}: {self.sentence}" + (f" (from {variable})" if variable else "")


def shown(name: str) -> str:
    """A name fit to be printed; whatever does not look like one may be anything, even a password."""
    return name if _PRINTABLE_NAME.fullmatch(name) else "?"


def in_words(error: ValidationError) -> list[Problem]:
    """What the model has found, without values and without what was told already."""
    found = error.errors(include_url=False)
    return [_problem(one["type"], one["loc"], one.get("ctx", {})) for one in found if one["input"] is not UNREADABLE]


def _problem(kind: str, loc: tuple[int | str, ...], context: dict[str, Any]) -> Problem:
    place = tuple(str(step) for step in loc if step != "[key]")  # pydantic's mark for the key, not the value, of a map
    if kind == "missing":
        return Problem(place, _missing(place))
    sentence = _SENTENCES.get(kind, "is not valid").format(**context)
    return Problem(place, sentence + _hint(place) if kind == "extra_forbidden" else sentence)


def _missing(place: SettingPath) -> str:
    by_file = f"{place[-1]}_file"
    return f"is required (or {by_file})" if by_file in siblings(place) else "is required"


def _hint(place: SettingPath) -> str:
    close = get_close_matches(place[-1].lower(), siblings(place), n=1)
    return f"; did you mean {close[0]}?" if close else ""
