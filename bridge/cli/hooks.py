"""The verb hooks test: what a webhook would become, without sending anything to anyone."""

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


def try_hook(
    name: Annotated[str, typer.Argument(help="The hook's name in the settings.")],
    body: Annotated[str, typer.Option(metavar="FILE", help="The body, byte for byte; - for standard input.")],
    header: Annotated[list[str] | None, typer.Option(help="A header, as 'Name: value'; may be repeated.")] = None,
    query: Annotated[list[str] | None, typer.Option(help="A parameter, as name=value; may be repeated.")] = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Show what a request to a hook would become. Nothing is sent, stored or started.

    A signature is checked as if the request came now. Ends with 1 if the request would be refused.
    """
    settings = load_settings(config)
    hooks = policies.build_hooks(settings)
    if name not in hooks:
        raise CommandFailed(Exit.USAGE, f"there is no hook {name!r}; there are: {', '.join(sorted(hooks)) or 'none'}")
    headers = _grouped((given.lower(), value) for given, value in _pairs(header or [], ":", "--header"))
    webhook = InboundWebhook(headers, _grouped(_pairs(query or [], "=", "--query")), _bytes(body))
    judged = _verdict(hooks[name], webhook) | _content(hooks[name], webhook, policies.callback_rules(settings))
    if not judged["verified"]:
        judged["answer"] = 401
    _print(name, judged, as_json=as_json)
    if judged["answer"] >= 400:  # noqa: PLR2004  (an HTTP code is its own name)
        raise CommandFailed(Exit.RUN_NOT_SUCCESSFUL)


def _verdict(found: Hook, webhook: InboundWebhook) -> dict[str, Any]:
    try:
        found.verifier(webhook.headers, webhook.body, wall_clock())
    except NotVerified as error:
        return {"verified": False, "reason": str(error)}
    return {"verified": True, "reason": None}


def _content(found: Hook, webhook: InboundWebhook, rules: CallbackRules) -> dict[str, Any]:
    """What the content becomes, whoever sent it, and how that is answered."""
    try:
        outcome = hook.read(found, webhook, None)
        match outcome:
            case Challenge(answer):
                return {"becomes": "a greeting's answer", "answer": 200 if answer else 204}
            case Ignored():
                return {"becomes": "nothing: `when` does not hold", "answer": 204}
            case Kickoff(request):
                if request.callback_url is not None:
                    callback_url.check(request.callback_url, rules)
                content = asdict(request)
                return {"becomes": "a run", "answer": 202, **{name: content[name] for name in _SHOWN}}
    except RequestRefused as refused:
        told = problems.of(refused)
        at = f" at {refused.field}" if refused.field else ""
        return {"becomes": f"{refused.code}{at}: {refused.detail}", "answer": told.status if told else 422}


def _print(name: str, judged: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"hook": name, **judged}))
        return
    out = Console(soft_wrap=True, highlight=False)
    verified = "yes" if judged["verified"] else f"no: {judged['reason']}"
    lines = {"verified": verified, "becomes": judged["becomes"], "answer": judged["answer"]}
    lines |= {shown: _text(judged[shown]) for shown in _SHOWN if judged.get(shown) is not None}
    for label, text in lines.items():
        out.print(f"{label}: {text}", markup=False)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _pairs(given: Iterable[str], mark: str, option: str) -> list[tuple[str, str]]:
    parts = [text.partition(mark) for text in given]
    for name, separator, _ in parts:
        if not separator or not name.strip():
            raise CommandFailed(Exit.USAGE, f"{option}: {name!r} is not name{mark}value")
    return [(name.strip(), value.strip()) for name, _, value in parts]


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Names with all their values, in the order in which they were given."""
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found


def _bytes(body: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if body == "-" else Path(body).read_bytes()
    except OSError as error:
        raise CommandFailed(Exit.USAGE, f"--body: {error}") from None
