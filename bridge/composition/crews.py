"""Build the crews: their API clients, limits, and planners."""

import ssl
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from bridge.adapters.crew_api import LIMITS, CrewSessions, HttpCrewApi, Limits, crew_sessions
from bridge.adapters.http_client import ProxyRule
from bridge.composition.policies import build_budgets, crew_policy, proxy_rule
from bridge.composition.runtime import Runtime
from bridge.config import Settings
from bridge.core.crew.fair_share import FairShare
from bridge.core.crew.payloads import Webhooks
from bridge.core.crew.rate_limiter import RateLimiter
from bridge.core.polling import PollPlanner
from bridge.ports.cluster import Cluster
from bridge.ports.crew_api import CrewInfo
from bridge.ports.lifecycle import Clock, Health, HealthCheck
from bridge.steps._crew import Crew

SHOWN_SETTINGS: Mapping[str, Any] = dict.fromkeys(
    (
        "url", "kind", "max_running", "requests_per_second", "deadline", "start_by", "in_doubt", "in_doubt_after",
        "human_input", "budget", "events", "max_response", "poll",
    ),
    True,
) | {"human": {"deadline": True, "default": True}}  # fmt: skip
"""The settings of a crew that the HTTP API shows: none that contains, or may contain, a secret."""


class Connection(NamedTuple):
    """How a crew is called."""

    url: str
    token: str
    limits: Limits
    proxy: ProxyRule
    tls: ssl.SSLContext | None


def connection(settings: Settings, name: str) -> Connection:
    """Return how to call a crew. Raise `OSError` if a file that its settings name cannot be read."""
    crew = settings.crews[name]
    return Connection(
        crew.url,
        crew.token.get_secret_value(),
        replace(LIMITS, response=crew.max_response),
        proxy_rule(settings.proxy),
        None if crew.tls is None else crew.tls.context(),
    )


class CrewBuilder:
    """Builds the crews of a process into `runtime.crews`, and updates them; their calls share the `sessions`."""

    def __init__(self, runtime: Runtime, sessions: CrewSessions) -> None:
        self._runtime = runtime
        self._sessions = sessions
        self._apis: dict[str, HttpCrewApi] = {}
        public_url = runtime.settings.public_url
        self._webhooks = None if public_url is None else Webhooks(public_url, runtime.store.key)

    def add(self, name: str, settings: Settings, connection: Connection) -> Crew:
        """Build a crew."""
        runtime, share = self._runtime, FairShare()
        rate_limiter = RateLimiter(settings.crews[name].requests_per_second, share)
        api = self._apis[name] = HttpCrewApi(
            connection.url,
            connection.token,
            rate_limiter,
            self._sessions,
            runtime.clock,
            connection.limits,
            runtime.redactor,
            partial(runtime.counters.count_response, name),
            connection.proxy,
            connection.tls,
            partial(runtime.counters.observe_crew_request, name),
        )
        policy = crew_policy(settings, name)
        crew = runtime.crews[name] = Crew(
            name,
            api,
            policy,
            settings.crews[name].max_running,
            PollPlanner(policy),
            rate_limiter=rate_limiter,
            share=share,
            budgets=build_budgets(settings, name),
            webhooks=self._webhooks,
        )
        runtime.counters.show_crew(name, partial(crew.figures, runtime.clock))
        return crew

    def update(self, name: str, settings: Settings, connection: Connection) -> None:
        """Apply changed settings to a crew."""
        crew = settings.crews[name]
        self._apis[name].use(*connection)
        self._runtime.crews[name].use(
            crew_policy(settings, name), crew.max_running, crew.requests_per_second, build_budgets(settings, name)
        )


async def build_crews(runtime: Runtime, stack: AsyncExitStack) -> CrewBuilder:
    """Build every configured crew; `stack` closes their sessions."""
    builder = CrewBuilder(runtime, await stack.enter_async_context(crew_sessions()))
    for name in runtime.settings.crews:
        builder.add(name, runtime.settings, connection(runtime.settings, name))
    return builder


def crews_check(crews: Mapping[str, Crew], store: Cluster, clock: Clock) -> HealthCheck:
    """Build the check that names crews that cannot be used, and crews with runs that no process serves."""

    async def check() -> Health:
        now = clock()
        problems = [
            f"{name}{' paused' * crew.breaker.is_open}: {problem}"
            for name, crew in crews.items()
            if (problem := crew.problem(now))
        ]
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
            crew.problem(runtime.clock()),
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
