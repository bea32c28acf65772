"""Describe what is wrong with the settings, without ever showing a value: it may be a secret."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from bridge.config.names import siblings

UNREADABLE = object()
"""Replaces a value that could not be read. That problem is already reported, so the model's findings are omitted."""

UNKNOWN = "unknown setting"

SettingPath = tuple[str, ...]

_PRINTABLE_NAME = re.compile(r"[\w.-]{1,64}")
_SENTENCES = {
    "extra_forbidden": UNKNOWN,
    "invalid_key": UNKNOWN,
    "string_type": "must be a string; put a number that is meant as a string in quotes",
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
    """The settings are not valid; `problems` has one line per problem, `dotted.name: sentence`."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem, and the path of the setting that has it."""

    path: SettingPath
    sentence: str

    def line(self, variable: str | None) -> str:
        """Return the problem as one line; `variable`: the environment variable that the value came from."""
        name = ".".join(map(shown, self.path)) or "settings"
        return f"{name}: {self.sentence}" + (f" (from {variable})" if variable else "")


def shown(name: str) -> str:
    """Return a name if it is safe to print; text that does not look like a name may be a password."""
    return name if _PRINTABLE_NAME.fullmatch(name) else "?"


def describe(error: ValidationError) -> list[Problem]:
    """Return the model's findings as problems, without values and without those reported before."""
    found = error.errors(include_url=False)
    return [
        _problem(item["type"], item["loc"], item.get("ctx", {})) for item in found if item["input"] is not UNREADABLE
    ]


def _problem(kind: str, loc: tuple[int | str, ...], context: dict[str, Any]) -> Problem:
    path = tuple(str(step) for step in loc if step != "[key]")  # pydantic marks a mapping's key this way
    if kind == "missing":
        return Problem(path, _missing(path))
    if kind == "literal_error":
        context = {"expected": _unquoted(context["expected"])}
    sentence = _SENTENCES.get(kind, "is not valid").format(**context)
    return Problem(path, sentence + _hint(path) if kind == "extra_forbidden" else sentence)


def _unquoted(values: str) -> str:
    """Return a list such as `'a', 'b' or 'c'` without quotes, and with a comma before `or`."""
    text = values.replace("'", "")
    return text.replace(" or ", ", or ") if ", " in text else text


def _missing(path: SettingPath) -> str:
    by_file = f"{path[-1]}_file"
    return f"is required (or {by_file})" if by_file in siblings(path) else "is required"


def _hint(path: SettingPath) -> str:
    close = get_close_matches(path[-1].lower(), siblings(path), n=1)
    return f"; did you mean {close[0]}?" if close else ""
