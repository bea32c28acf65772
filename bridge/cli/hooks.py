"""The command `hooks test`: show what a webhook would become, without sending anything."""

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bridge.adapters.clock import wall_clock
from bridge.adapters.http import problems
from bridge.cli._errors import CommandFailed, Exit
from bridge.cli._options import AsJson, Config, load_settings
from bridge.composition import policies
from bridge.core import callback_url
from bridge.core.callback_url import CallbackRules
from bridge.core.errors import NotVerified, RequestRefused
from bridge.core.inbound import hook
from bridge.core.inbound.hook import Challenge, Hook, Ignored, InboundWebhook, Kickoff

_SHOWN = ("crew", "inputs", "meta", "idempotency_key", "callback_url")


def preview_hook(
    name: Annotated[str, typer.Argument(help="Name of the hook in the settings.")],
    body: Annotated[str, typer.Option(metavar="FILE", help="File with the raw body; - for standard input.")],
    header: Annotated[list[str] | None, typer.Option(help="A header, as 'Name: value'; repeatable.")] = None,
    query: Annotated[list[str] | None, typer.Option(help="A query parameter, as name=value; repeatable.")] = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Show what a request to a hook would become. Nothing is sent, stored, or started.

    The signature is verified as if the request arrived now. Exits with 1 if the request would be refused.
    """
    settings = load_settings(config)
    hooks = policies.build_hooks(settings)
    if name not in hooks:
        raise CommandFailed(Exit.USAGE, f"unknown hook {name}; configured: {', '.join(sorted(hooks)) or 'none'}")
    headers = _grouped((given.lower(), value) for given, value in _pairs(header or [], ":", "--header"))
    webhook = InboundWebhook(headers, _grouped(_pairs(query or [], "=", "--query")), _read_body(body))
    result = _verification(hooks[name], webhook) | _content(hooks[name], webhook, policies.callback_rules(settings))
    if not result["verified"]:
        result["status"] = 401
    _print(name, result, as_json=as_json)
    if result["status"] >= 400:  # noqa: PLR2004  (an HTTP code is its own name)
        raise CommandFailed(Exit.RUN_NOT_SUCCESSFUL)


def _verification(found: Hook, webhook: InboundWebhook) -> dict[str, Any]:
    try:
        found.verifier(webhook.headers, webhook.body, wall_clock())
    except NotVerified as error:
        return {"verified": False, "reason": str(error)}
    return {"verified": True, "reason": None}


def _content(found: Hook, webhook: InboundWebhook, rules: CallbackRules) -> dict[str, Any]:
    """Return what the content becomes and the response's status, whether the request is verified or not."""
    try:
        outcome = hook.read(found, webhook, None)
        match outcome:
            case Challenge(echo):
                return {"becomes": "the response to a challenge", "status": 200 if echo else 204}
            case Ignored():
                return {"becomes": "nothing: `when` is false", "status": 204}
            case Kickoff(request):
                if request.callback_url is not None:
                    callback_url.check(request.callback_url, rules)
                content = asdict(request)
                return {"becomes": "a run", "status": 202, **{name: content[name] for name in _SHOWN}}
    except RequestRefused as refused:
        problem = problems.from_exception(refused)
        at = f" at {refused.field}" if refused.field else ""
        return {"becomes": f"{refused.code}{at}: {refused.detail}", "status": problem.status if problem else 422}


def _print(name: str, result: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"hook": name, **result}))
        return
    out = Console(soft_wrap=True, highlight=False)
    verified = "yes" if result["verified"] else f"no: {result['reason']}"
    lines = {"verified": verified, "becomes": result["becomes"], "status": result["status"]}
    lines |= {shown: _text(result[shown]) for shown in _SHOWN if result.get(shown) is not None}
    for label, text in lines.items():
        out.print(f"{label}: {text}", markup=False)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _pairs(given: Iterable[str], mark: str, option: str) -> list[tuple[str, str]]:
    parts = [text.partition(mark) for text in given]
    for name, separator, _ in parts:
        if not separator or not name.strip():
            raise CommandFailed(Exit.USAGE, f"{option}: '{name}': must have the form name{mark}value")
    return [(name.strip(), value.strip()) for name, _, value in parts]


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Group values by name, in the order in which they were given."""
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found


def _read_body(body: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if body == "-" else Path(body).read_bytes()
    except OSError as error:
        raise CommandFailed(Exit.USAGE, f"--body: cannot read {body}: {error.strerror}") from None
