"""Inputs and meta as a user types them: name=value, JSON, or a file; read as strictly as the bridge will read them."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bridge.cli._errors import CommandFailed, Exit
from bridge.core.errors import RequestRefused
from bridge.core.json import parse_object


def from_pairs(texts: Iterable[str]) -> dict[str, Any]:
    """Values given as name=value; they are text."""
    pairs = [text.partition("=") for text in texts]
    for name, equals, _ in pairs:
        if not equals or not name:
            raise CommandFailed(Exit.USAGE, f"{name!r} is not name=value")
    return {name: value for name, _, value in pairs}


def from_json(option: str, text: str | None) -> dict[str, Any]:
    """A JSON object given in place, or in a file after an @."""
    if text is None:
        return {}
    try:
        return parse_object(Path(text[1:]).read_bytes() if text.startswith("@") else os.fsencode(text))
    except OSError as error:
        raise CommandFailed(Exit.USAGE, f"{option}: {error}") from None
    except RequestRefused as refused:
        # The sentence is made for a request's body; here the option's name stands in its place.
        raise CommandFailed(Exit.USAGE, f"{option}: {refused.detail.removeprefix('the body ')}") from None
