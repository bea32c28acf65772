"""Find required inputs that a request lacks, before it is accepted."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def missing(needed: Sequence[str], given: Mapping[str, Any]) -> list[str]:
    """Return the inputs that a crew needs and the request lacks.

    Given a JSON sample in a prompt, the crew API lists the text between its braces as an input; text that cannot be a
    name is therefore ignored here.
    """
    return [name for name in needed if name not in given and _NAME.fullmatch(name)]
