"""Apply changed settings to a running bridge: crews and sources come and go, every other part gets its new values."""

from dataclasses import dataclass, field

from bridge.composition.amqp import Broker
from bridge.composition.crews import CrewBuilder, connection
from bridge.composition.runtime import Renewal, Runtime
from bridge.composition.steps import build_crew_workers
from bridge.config import Settings
from bridge.config.changes import SettingsChange, plan_change
from bridge.core.runs.quarantine import Quarantined
from bridge.ports.lifecycle import HealthCheck, Service
from bridge.supervisor import Supervisor


@dataclass
class Reload:
    """Applies changed settings, one change at a time.

    `listeners`, `steps`: the phases of their stop; `workers`: by crew; `checks`: what `/readyz` shows.
    """

    runtime: Runtime
    crews: CrewBuilder
    broker: Broker | None
    supervisor: Supervisor
    listeners: list[Service]
    steps: list[Service]
    checks: dict[str, HealthCheck]
    workers: dict[str, list[Service]] = field(default_factory=dict)

    async def __call__(self, wanted: Settings) -> SettingsChange:
        """Apply the settings; return what changed. What is removed finishes its work in progress first.

        Raise `OSError` or `StoreUnavailable`; nothing has changed then.
        """
        former = self.runtime.settings
        change = plan_change(former, wanted)
        settings = change.settings
        connections = {name: connection(settings, name) for name in settings.crews}
        if settings.crews.keys() != former.crews.keys():
            await self.runtime.store.cluster.serve(settings.crews)
        self.runtime.settings = settings
        for name, connected in connections.items():
            if name in former.crews:
                self.crews.update(name, settings, connected)
            else:
                self.crews.add(name, settings, connected)
        for renew in self.runtime.renewals:
            self._renew(renew, settings)
        await self._change_crews(former, settings)
        await self._change_sources(former, settings)
        return change

    def _renew(self, renew: Renewal, settings: Settings) -> None:
        try:
            renew(settings)
        except Exception as error:  # noqa: BLE001 - the other parts still get their new settings
            self.runtime.counters.report(Quarantined.TASK, error, task="settings")

    async def _change_crews(self, former: Settings, settings: Settings) -> None:
        removed = [self.runtime.crews.remove(name) for name in former.crews.keys() - settings.crews.keys()]
        for name in settings.crews.keys() - former.crews.keys():
            steps = self.runtime.steps
            self.workers[name] = build_crew_workers(steps, steps.crews[name], self.runtime.counters.report)
            for worker in self.workers[name]:
                self.supervisor.add(worker, self.steps)
        await self.supervisor.remove([worker for crew in removed for worker in self.workers.pop(crew.name)])
        for crew in removed:
            crew.tracker.forget_everything()
            self.runtime.counters.hide_crew(crew.name)
        if removed:
            self.runtime.store.cluster.release_crews([crew.name for crew in removed])
        self.runtime.signals.recover()

    async def _change_sources(self, former: Settings, settings: Settings) -> None:
        if self.broker is None:
            return
        changed = [
            name
            for name in {*former.sources, *settings.sources}
            if former.sources.get(name) != settings.sources.get(name)
        ]
        ended = [self.broker.remove_source(name) for name in changed if name in former.sources]
        await self.supervisor.remove(ended)
        for name in changed:
            self.checks.pop(f"source/{name}", None)
            if name in settings.sources:
                consumer = self.broker.add_source(name, settings.sources[name])
                self.checks[f"source/{name}"] = consumer.health
                self.supervisor.add(consumer, self.listeners)
            else:
                self.runtime.counters.hide_link(f"source/{name}")
