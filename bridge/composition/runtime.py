"""What every part is built on: the settings, the store, the clock, the counters, and the signals."""

import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property

import uuid_utils
from prometheus_client import CollectorRegistry

from bridge.adapters.byte_budget import ByteBudget, values_budget
from bridge.adapters.clock import SteadyClock, steady_clock
from bridge.adapters.kickoff_journal import KickoffJournal, NullJournal, open_journal
from bridge.adapters.store import SqlStore, database, open_store
from bridge.composition.policies import step_rules
from bridge.composition.steps import Steps
from bridge.composition.tracing import open_tracing
from bridge.config import Settings, otel_variables
from bridge.core.redaction import Redactor
from bridge.core.runs.model import Run
from bridge.observability.metrics import Counters
from bridge.ports.tracing import NOT_TRACED, Tracing
from bridge.signals import Signals
from bridge.steps._crew import Crews

Renewal = Callable[[Settings], None]
"""Makes a part use these settings from now on."""


@dataclass
class Runtime:
    """Holds what the parts of one process share; `crews`, `own_ports`, and `renewals` are filled while it is built.

    A reload replaces `settings`.
    """

    settings: Settings
    process: str
    clock: SteadyClock
    counters: Counters
    store: SqlStore
    journal: KickoffJournal | NullJournal
    signals: Signals = field(default_factory=Signals)
    crews: Crews = field(default_factory=Crews)
    own_ports: set[int] = field(default_factory=set)
    redactor: Redactor = field(default_factory=Redactor)
    values: ByteBudget = field(default_factory=values_budget)
    renewals: list[Renewal] = field(default_factory=list)
    """Called with the new settings when they have changed."""
    tracing: Tracing = NOT_TRACED

    @cached_property
    def steps(self) -> Steps:
        """The builder of this process's steps."""
        rules = step_rules(self.settings)
        self.renewals.append(lambda renewed: rules.use(step_rules(renewed)))
        return Steps(
            self.store, self.crews, self.clock, new_id, self.journal, rules, self.signals, self.redactor,
            tracing=self.tracing,
        )  # fmt: skip


async def open_runtime(settings: Settings, stack: AsyncExitStack, *, migrate: bool) -> Runtime:
    """Open the export of traces, the store, and the kickoff journal; `stack` closes them."""
    tracing = open_tracing(otel_variables(), settings.amqp.results if settings.amqp else None, stack)
    process = f"{os.uname().nodename}-{os.getpid()}-{str(uuid_utils.uuid4())[:8]}"
    counters, url, clock = Counters(CollectorRegistry()), settings.store.url.get_secret_value(), steady_clock()
    opening = open_store(
        database(url, pooler=settings.store.pooler),
        process,
        clock(),
        migrate=migrate,
        crews=settings.crews,
        report=counters.report,
        metrics=replace(counters.store, ended=_both(counters.store.ended, tracing.ended)),
    )
    store = await stack.enter_async_context(opening)
    journal = await stack.enter_async_context(open_journal(url))
    return Runtime(settings, process, clock, counters, store, journal, tracing=tracing)


def _both(first: Callable[[Run], None], second: Callable[[Run], None]) -> Callable[[Run], None]:
    def call(run: Run) -> None:
        first(run)
        second(run)

    return call


def new_id() -> str:
    """Return a new UUIDv7."""
    return str(uuid_utils.uuid7())
