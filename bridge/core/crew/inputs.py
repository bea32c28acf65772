"""The inputs of a crew, as `GET /inputs` lists them, and which of them a request lacks (crew API contract, section 2).

`InputCache` is a mutable object that lives as long as the process.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.core.crew.api_json import read_json
from bridge.core.crew.reply import Reply

CACHE_FOR = 600.0  # seconds
ASK_AGAIN_AFTER = 10.0  # seconds after a question that the crew did not answer
_INPUT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class ListedInputs:
    """What a crew's API lists: all inputs that may be sent, and those without which it refuses a kickoff.

    `required` is None for a deployment that does not list them apart.
    """

    names: tuple[str, ...]
    required: tuple[str, ...] | None = None


def read_inputs(reply: Reply) -> ListedInputs | None:
    """Return what `GET /inputs` lists, in any of the known shapes; None for anything else."""
    try:
        body = read_json(reply.body) if reply.code == 200 else None
    except ValueError:
        return None
    listed = body if isinstance(body, dict) else {"inputs": body}
    names, required = listed.get("inputs"), listed.get("required_inputs")
    if isinstance(names, dict):
        names = list(names)
    if not isinstance(names, list):
        return None
    return ListedInputs(_names(names), _names(required) if isinstance(required, list) else None)


def required_inputs(listed: ListedInputs, *, is_flow: bool) -> tuple[str, ...]:
    """Return the inputs that every request must have: those listed as required; otherwise all of a crew.

    If a prompt contains a JSON sample, the crew API lists the text between its braces as an input; names that cannot be
    those of an input are therefore left out.
    """
    required = (() if is_flow else listed.names) if listed.required is None else listed.required
    return tuple(name for name in required if _INPUT_NAME.fullmatch(name))


def missing_inputs(required: Sequence[str], given: Mapping[str, Any]) -> list[str]:
    """Return the required inputs that a request lacks."""
    return [name for name in required if name not in given]


class InputCache:
    """The last answer of one crew. Questions are numbered, so that a caller can ask for an answer newer than its call.

    A question that the crew did not answer counts as answered with `listed = None`, but for a shorter time.
    """

    def __init__(self) -> None:
        self.listed: ListedInputs | None = None
        self.asked = 0
        self.forgotten = 0
        self._answered = 0
        self._answered_at = float("-inf")

    def begin(self) -> int:
        """Return the number of a new question."""
        self.asked += 1
        return self.asked

    def store(self, number: int, listed: ListedInputs | None, now: float) -> None:
        """Store the answer to a question; None: the crew did not answer."""
        self.listed, self._answered, self._answered_at = listed, number, now

    def forget(self) -> None:
        """Use no answer so far for another request, because the crew has refused a kickoff."""
        self.forgotten = self.asked

    def is_current(self, now: float, after: int) -> bool:
        """Return whether the last answer may be used: recent enough, and to a question after number `after`.

        A failure may be used regardless of its number, so that callers stop waiting for a crew that does not answer.
        """
        age = now - self._answered_at
        return age <= ASK_AGAIN_AFTER if self.listed is None else age <= CACHE_FOR and self._answered > after


def _names(listed: Sequence[Any]) -> tuple[str, ...]:
    names = (item.get("name") if isinstance(item, dict) else item for item in listed)
    return tuple(name for name in names if isinstance(name, str))
