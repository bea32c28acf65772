"""Handle crew webhooks, from the HTTP API or relayed by another process, and flow questions."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import structlog

from bridge.core.crew import webhook_tokens
from bridge.core.crew import webhooks as crew_webhooks
from bridge.core.crew.flow_questions import FlowQuestion
from bridge.core.human_input import rules
from bridge.core.human_input.model import QuestionContent
from bridge.core.runs import late_results
from bridge.core.runs.model import TRACKED_STATES, Decision, Run, State
from bridge.core.runs.quarantine import Quarantined
from bridge.ports.lifecycle import Clock, Notify
from bridge.ports.store import RelayedWebhook, Store
from bridge.steps._conflicts import adopt, retry_on_conflict
from bridge.steps._crew import Crew

TICK = 1.0

log = structlog.get_logger()


class HandleCrewWebhook:
    """`ports.HandleCrewWebhook`: adopts lost executions, asks humans, and expedites polls."""

    def __init__(
        self,
        key: bytes,
        crews: Mapping[str, Crew],
        store: Store,
        clock: Clock,
        notify_poll: Callable[[str], None],
        notify_recover: Notify,
        notify_deliveries: Notify,
    ) -> None:
        self._key = key
        self._crews = crews
        self._store = store
        self._clock = clock
        self._notify_poll = notify_poll
        self._notify_recover = notify_recover
        self._notify_deliveries = notify_deliveries

    async def __call__(self, token: str, kind: crew_webhooks.Kind, read: Callable[[], Awaitable[Any]]) -> bool:
        """Handle a webhook; return False if its token is forged, which costs one hash, or its run is unknown."""
        attempt = webhook_tokens.read(self._key, token)
        if attempt is None:
            return False
        content = await read()
        webhook = crew_webhooks.read(kind, content)
        run = await self._store.load(attempt.run_id)  # after the body, which may arrive slowly
        if run is None or (run.crew not in self._crews and not self._store.shared):
            return False
        if run.crew in self._crews and not self._elsewhere(run):
            await self._apply(run, attempt, kind, webhook)
        elif webhook.concerns_tracked_run or run.state is State.STARTING:
            await self._store.relay_webhook(RelayedWebhook(attempt.run_id, attempt.number, kind, content))
        return True

    def _elsewhere(self, run: Run) -> bool:
        """Return whether another process owns the run, or may be about to recover its interrupted start."""
        orphan = run.state is State.STARTING and run.owner is None
        return self._store.owned_elsewhere(run) or (orphan and self._store.shared)

    async def handle_relayed(self, relayed: RelayedWebhook) -> None:
        """Handle a webhook that another process received for a run of this one."""
        run = await self._store.load(relayed.run_id)
        if run is not None and run.crew in self._crews:
            attempt = webhook_tokens.Attempt(relayed.run_id, relayed.attempt)
            await self._apply(run, attempt, relayed.kind, crew_webhooks.read(relayed.kind, relayed.content))

    async def handle_flow_question(self, crew: str, question: FlowQuestion) -> None:
        """`ports.HandleFlowQuestion`: a question is sent once, so it is kept if its run is not known yet."""
        run = await self._store.find_execution(crew, question.kickoff_id)
        if run is None:
            self._keep_question(self._crews[crew], question.kickoff_id, question.content)
        else:
            await self.ask(run, question.content)

    def _keep_question(self, crew: Crew, kickoff_id: str, content: QuestionContent) -> None:
        for dropped in crew.questions.add(kickoff_id, content, self._clock()):
            log.warning("human_input_unmatched", crew=crew.name, kickoff_id=dropped)

    async def _apply(
        self, run: Run, attempt: webhook_tokens.Attempt, kind: crew_webhooks.Kind, webhook: crew_webhooks.CrewWebhook
    ) -> None:
        crew = self._crews[run.crew]
        if _is_superseded(run, attempt, webhook.kickoff_id):
            log.error("execution_superseded", run_id=run.run_id, crew=run.crew, kickoff_id=webhook.kickoff_id)
            return
        if not run.final:
            crew.tracker.mark_webhook_seen(run.run_id)
        if run.state in TRACKED_STATES:
            await self._apply_to_tracked(crew, run, kind, webhook)
            await self._forget_if_ended(crew, run)
        elif run.final and webhook.poll_now and webhook.kickoff_id in {None, run.kickoff_id}:
            await self._expect_late_end(crew, run)
        elif webhook.kickoff_id is None:
            return
        elif run.state is State.STARTING:
            await self._keep_evidence(crew, run, attempt, webhook.kickoff_id, webhook.question)
        else:
            if run.final and webhook.poll_now:
                crew.tracker.announce_late_end(run.run_id, self._clock())
            await self._adopt(run, attempt, webhook.kickoff_id, webhook.question)

    async def _expect_late_end(self, crew: Crew, run: Run) -> None:
        """The execution of a run that has ended is over as well: poll it soon, until the status says so."""
        if run.kickoff_id is None or run.due_at is None:
            return
        crew.tracker.announce_late_end(run.run_id, self._clock())
        await retry_on_conflict(self._store, run, lambda latest: late_results.on_announced_end(latest, self._clock()))
        self._notify_recover()

    async def _keep_evidence(
        self, crew: Crew, run: Run, attempt: webhook_tokens.Attempt, kickoff_id: str, content: QuestionContent | None
    ) -> None:
        """Keep what a webhook says of a run while the response to its POST is awaited."""
        crew.tracker.keep_evidence(run.run_id, kickoff_id)
        if content is not None:
            self._keep_question(crew, kickoff_id, content)
        await self._adopt_if_started(crew, run, attempt, content)

    async def _forget_if_ended(self, crew: Crew, run: Run) -> None:
        """Forget a run that ended after it was loaded here; otherwise the tracker would keep it forever."""
        if run.run_id not in crew.tracker:
            latest = await self._store.load(run.run_id)
            if latest is None or latest.final:
                crew.tracker.forget(run.run_id)

    async def _adopt_if_started(
        self, crew: Crew, run: Run, attempt: webhook_tokens.Attempt, content: QuestionContent | None
    ) -> None:
        """Adopt now if the POST was answered after the run was loaded here, because no step would use the evidence."""
        latest = await self._store.load(run.run_id)
        if latest is None or latest.state is State.STARTING:
            return
        kickoff_id = crew.tracker.take_evidence(run.run_id)
        if kickoff_id is not None:
            await self._adopt(latest, attempt, kickoff_id, content)

    async def _adopt(
        self, run: Run, attempt: webhook_tokens.Attempt, kickoff_id: str, content: QuestionContent | None
    ) -> None:
        policy = self._crews[run.crew].policy
        adopted = await adopt(run, attempt.number, kickoff_id, policy, self._store, self._clock)
        if adopted is None:
            return
        if content is not None and not adopted.final:
            await self.ask(adopted, content)
        self._notify_recover()

    async def _apply_to_tracked(
        self, crew: Crew, run: Run, kind: crew_webhooks.Kind, webhook: crew_webhooks.CrewWebhook
    ) -> None:
        """Apply a webhook to a tracked run: ask its question, record activity, or expedite its poll."""
        if webhook.question is not None:
            await self.ask(run, webhook.question)
        elif kind in {crew_webhooks.Kind.TASK, crew_webhooks.Kind.CREW}:
            await self._write(run, rules.on_activity)
        if webhook.task is not None:
            crew.tracker.count_task(run.run_id, webhook.task)
        if webhook.poll_now or (webhook.task is not None and "progress" in crew.policy.extra_events):
            if kind is not crew_webhooks.Kind.HUMAN and webhook.poll_now:
                crew.tracker.signal_completion(run.run_id, webhook.webhook_result, self._clock())
            crew.tracker.queue.expedite(run.run_id)
            self._notify_poll(run.crew)

    async def ask(self, run: Run, content: QuestionContent) -> None:
        """Store a run's question, and make the process that tracks the run poll it."""
        policy = self._crews[run.crew].policy
        if await self._write(run, lambda latest: rules.on_question(latest, content, policy, self._clock())):
            log.info("question_stored", run_id=run.run_id, crew=run.crew)
            self._notify_deliveries()

    async def _write(self, run: Run, decide: Callable[[Run], Decision | None]) -> bool:
        """Write if there is anything to write, and return whether there was; poll the run now if it is tracked here."""
        written = await retry_on_conflict(self._store, run, decide)
        if written is None:
            return False
        if not self._store.owned_elsewhere(written):
            self._crews[run.crew].tracker.mark_changed(written)
            self._notify_poll(run.crew)
        return True


def _is_superseded(run: Run, attempt: webhook_tokens.Attempt, kickoff_id: str | None) -> bool:
    """Return whether an earlier attempt has started this execution beside the run's own."""
    if kickoff_id is None or attempt.number == run.attempt:
        return False
    return run.state is State.STARTING or run.kickoff_id not in {None, kickoff_id}


class ProcessRelayedWebhooks:
    """Where processes share a store, handles the webhooks that others relayed for runs of this process.

    `handle_relayed` is `HandleCrewWebhook.handle_relayed`.
    """

    name = "webhook-relay"
    kind = Quarantined.WEBHOOK

    def __init__(self, store: Store, handle_relayed: Callable[[RelayedWebhook], Awaitable[None]]) -> None:
        self._store = store
        self._handle_relayed = handle_relayed

    async def claim(self, room: int) -> Sequence[RelayedWebhook]:
        """Take webhooks for this process's runs; if one is lost with the process, polls still find the outcome."""
        return await self._store.collect_webhooks(room)

    async def handle(self, webhook: RelayedWebhook) -> None:
        """Handle it as if it had arrived here."""
        await self._handle_relayed(webhook)

    def about(self, webhook: RelayedWebhook) -> dict[str, object]:
        """Identify the webhook."""
        return {"run_id": webhook.run_id, "webhook": webhook.kind.value}

    async def quarantine(self, webhook: RelayedWebhook) -> None:
        """Do nothing: the webhook is already gone, and polls find what it said."""

    def pause(self) -> float:
        """Seconds until the next claim."""
        return TICK
