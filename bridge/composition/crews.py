"""Build the crews: their API clients, limits, and planners."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import Any

from bridge.adapters.crew_api import LIMITS, HttpCrewApi, crew_sessions
from bridge.composition.policies import build_budgets, crew_policy, proxy_rule
from bridge.composition.runtime import Runtime
from bridge.config import Settings
from bridge.core.crew.fair_share import FairShare
from bridge.core.crew.payloads import Webhooks
from bridge.core.crew.rate_limiter import RateLimiter
from bridge.core.polling import PollPlanner
from bridge.ports.cluster import Cluster
from bridge.ports.crew_api import CrewInfo
from bridge.ports.lifecycle import Health, HealthCheck
from bridge.steps._crew import Crew

SHOWN_SETTINGS: Mapping[str, Any] = dict.fromkeys(
    (
        "url", "kind", "max_running", "requests_per_second", "deadline", "start_by", "in_doubt", "in_doubt_after",
        "human_input", "budget", "events", "max_response", "poll",
    ),
    True,
) | {"human": {"deadline": True, "default": True}}  # fmt: skip
"""The settings of a crew that the HTTP API shows: none that contains, or may contain, a secret."""


async def add_crews(runtime: Runtime, stack: AsyncExitStack) -> None:
    """Build every configured crew into `runtime.crews`; `stack` closes their sessions."""
    settings = runtime.settings
    webhooks = None if settings.public_url is None else Webhooks(settings.public_url, runtime.store.key)
    sessions = await stack.enter_async_context(crew_sessions())
    for name, crew in settings.crews.items():
        share = FairShare()
        rate_limiter = RateLimiter(crew.requests_per_second, share)
        api = HttpCrewApi(
            crew.url,
            crew.token.get_secret_value(),
            rate_limiter,
            sessions,
            runtime.clock,
            replace(LIMITS, response=crew.max_response),
            runtime.redactor,
            partial(runtime.counters.count_response, name),
            proxy_rule(settings.proxy),
            None if crew.tls is None else crew.tls.context(),
            partial(runtime.counters.observe_crew_request, name),
        )
        runtime.renewals.append(partial(_renew_token, api, name))
        policy = crew_policy(settings, name)
        runtime.crews[name] = Crew(
            name,
            api,
            policy,
            crew.max_running,
            PollPlanner(policy),
            rate_limiter=rate_limiter,
            share=share,
            budgets=build_budgets(settings, name),
            webhooks=webhooks,
        )
        runtime.counters.show_crew(name, partial(runtime.crews[name].figures, runtime.clock))


def _renew_token(api: HttpCrewApi, name: str, renewed: Settings) -> None:
    api.use_token(renewed.crews[name].token.get_secret_value())


def crews_check(crews: Mapping[str, Crew], store: Cluster) -> HealthCheck:
    """Build the check that names paused crews, and crews with runs that no process serves."""

    async def check() -> Health:
        problems = [f"{name} paused: {crew.paused}" for name, crew in crews.items() if crew.paused]
        unserved = sorted((await store.unserved()).items())
        problems += [f"{name} is in no bridge's settings, runs waiting: {runs}" for name, runs in unserved]
        return Health(ok=not problems, detail="; ".join(problems) or "all usable")

    return check


def crew_infos(runtime: Runtime) -> list[CrewInfo]:
    """Return what the HTTP API shows about the crews."""
    return [
        CrewInfo(
            name,
            configured.kind,
            crew.paused,
            crew.figures(runtime.clock),
            crew.max_running,
            configured.requests_per_second,
            crew.budgets.crew,
            crew.planner.run_time_stats(),
            configured.model_dump(mode="json", include=SHOWN_SETTINGS),
        )
        for name, crew in runtime.crews.items()
        for configured in [runtime.settings.crews[name]]
    ]
