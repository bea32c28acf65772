"""What `hooks test` and `sources test` share: options, and how the resulting request is checked and shown."""

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from bridge.cli._errors import CommandFailed, Exit
from bridge.core import callback_url
from bridge.core.callback_url import CallbackRules
from bridge.core.errors import RequestRefused
from bridge.core.runs.model import KickoffRequest

IGNORED = "nothing: `when` is false"

_SHOWN = ("crew", "inputs", "meta", "idempotency_key", "callback_url")


def preview_run(request: KickoffRequest, rules: CallbackRules) -> dict[str, Any]:
    """Return what the run of a request would contain. Raise `RequestRefused` for a callback URL that is not allowed."""
    if request.callback_url is not None:
        callback_url.check(request.callback_url, rules)
    content = asdict(request)
    return {"becomes": "a run", **{name: content[name] for name in _SHOWN}}


def refusal_text(refused: RequestRefused) -> str:
    """Return a refusal in one line."""
    at = f" at {refused.field}" if refused.field else ""
    return f"{refused.code}{at}: {refused.detail}"


def print_lines(lines: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """Print labeled lines, then those of the run, if there is one."""
    out = Console(soft_wrap=True, highlight=False)
    for label, value in {**lines, **{name: result[name] for name in _SHOWN if result.get(name) is not None}}.items():
        out.print(f"{label}: {value if isinstance(value, str) else json.dumps(value)}", markup=False)


def pairs(given: Iterable[str], mark: str, option: str) -> list[tuple[str, str]]:
    """Return names and values; exit with 64 unless each has the form of a name, the mark, and a value."""
    parts = [text.partition(mark) for text in given]
    for name, separator, _ in parts:
        if not separator or not name.strip():
            raise CommandFailed(Exit.USAGE, f"{option}: '{name}': must have the form name{mark}value")
    return [(name.strip(), value.strip()) for name, _, value in parts]


def read_body(body: str) -> bytes:
    """Return the content of a file, or of standard input for `-`; exit with 64 if it cannot be read."""
    try:
        return sys.stdin.buffer.read() if body == "-" else Path(body).read_bytes()
    except OSError as error:
        raise CommandFailed(Exit.USAGE, f"--body: cannot read {body}: {error.strerror}") from None
