"""Parse inputs and meta from options: name=value, JSON, or a file; as strictly as the bridge does."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bridge.cli._errors import CommandFailed, Exit
from bridge.core.errors import RequestRefused
from bridge.core.json import parse_object


def from_pairs(texts: Iterable[str]) -> dict[str, Any]:
    """Parse name=value arguments; values are strings."""
    pairs = [text.partition("=") for text in texts]
    for name, equals, _ in pairs:
        if not equals or not name:
            raise CommandFailed(Exit.USAGE, f"'{name}': must have the form name=value")
    return {name: value for name, _, value in pairs}


def from_json(option: str, text: str | None) -> dict[str, Any]:
    """Parse a JSON object given inline, or as @FILE."""
    if text is None:
        return {}
    try:
        return parse_object(Path(text[1:]).read_bytes() if text.startswith("@") else os.fsencode(text))
    except OSError as error:
        raise CommandFailed(Exit.USAGE, f"{option}: cannot read {text[1:]}: {error.strerror}") from None
    except RequestRefused as refused:
        # The detail is about a request's body; here the option's name takes its place.
        raise CommandFailed(Exit.USAGE, f"{option}: {refused.detail.removeprefix('the body ')}") from None
