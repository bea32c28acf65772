"""The command `hooks test`: show what a webhook would become, without sending anything."""

import json
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from bridge.adapters.clock import wall_clock
from bridge.adapters.http import problems
from bridge.cli._errors import CommandFailed, Exit
from bridge.cli._options import AsJson, Config
from bridge.cli._preview import IGNORED, pairs, preview_run, print_lines, read_body, refusal_text
from bridge.cli._settings import load_settings
from bridge.composition import policies
from bridge.core.callback_url import CallbackRules
from bridge.core.errors import NotVerified, RequestRefused
from bridge.core.inbound import hook
from bridge.core.inbound.hook import Challenge, Hook, Ignored, InboundWebhook, Kickoff

app = typer.Typer(name="hooks", help="Test hook settings.", no_args_is_help=True)


@app.command("test", epilog="Example: kickoff-bridge hooks test github-issues --body issue.json")
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
    headers = _grouped((given.lower(), value) for given, value in pairs(header or [], ":", "--header"))
    webhook = InboundWebhook(headers, _grouped(pairs(query or [], "=", "--query")), read_body(body))
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
                return {"becomes": IGNORED, "status": 204}
            case Kickoff(request):
                return {"status": 202, **preview_run(request, rules)}
    except RequestRefused as refused:
        problem = problems.from_exception(refused)
        return {"becomes": refusal_text(refused), "status": problem.status if problem else 422}


def _print(name: str, result: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"hook": name, **result}))
        return
    verified = "yes" if result["verified"] else f"no: {result['reason']}"
    print_lines({"verified": verified, "becomes": result["becomes"], "status": result["status"]}, result)


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Group values by name, in the order in which they were given."""
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found
