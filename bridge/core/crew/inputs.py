"""Which inputs a crew needs, and what of that can be told at the door."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def missing(needed: Sequence[str], given: Mapping[str, Any]) -> list[str]:
    """The inputs that a crew needs and the request lacks.

    A sample of JSON in a prompt makes the crew API list the text between its braces as an input; what cannot be a name
    is left for the API to judge.
    """
    return [name for name in needed if name not in given and _NAME.fullmatch(name)]
