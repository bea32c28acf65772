"""Crew webhooks: store each one before acknowledging it, then apply it to its run.

A webhook can identify the execution of a run in doubt, ask a question, or trigger a poll. It waits in the inbox while
the POST of its run is in progress, until the process that owns the run handles it, and across restarts.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import structlog

from bridge.core.crew import webhook_tokens
from bridge.core.crew import webhooks as crew_webhooks
from bridge.core.crew.flow_questions import FlowQuestion
from bridge.core.crew.tasks import read_task
from bridge.core.crew.webhooks import CrewWebhook, Kind
from bridge.core.errors import StoreUnavailable
from bridge.core.human_input import rules
from bridge.core.human_input.model import QuestionContent
from bridge.core.runs import late_results, webhooks
from bridge.core.runs.model import TRACKED_STATES, Decision, Run, State
from bridge.core.runs.quarantine import Quarantined
from bridge.ports.lifecycle import Clock, NewId
from bridge.ports.queries import Queries
from bridge.ports.runs import RunStore
from bridge.ports.webhook_inbox import InboxEntry, WebhookInbox
from bridge.signals import Signals
from bridge.steps._conflicts import adopt, retry_on_conflict
from bridge.steps._crew import Crew

TICK = 1.0
QUESTION_TTL = 3600.0  # seconds that a flow's question waits until its run is known
RETRY_AFTER_FAULT = 60.0  # seconds, after an unexpected exception

log = structlog.get_logger()


class ReceiveWebhooks:
    """`ports.ReceiveCrewWebhook` and `ports.ReceiveFlowQuestion`; `shared`: other processes may serve other crews."""

    def __init__(
        self,
        key: bytes,
        crews: Mapping[str, Crew],
        queries: Queries,
        inbox: WebhookInbox,
        clock: Clock,
        new_id: NewId,
        signals: Signals,
        *,
        shared: bool,
    ) -> None:
        self._key = key
        self._crews = crews
        self._queries = queries
        self._shared = shared
        self._inbox = inbox
        self._clock = clock
        self._new_id = new_id
        self._signals = signals

    async def crew_webhook(self, token: str, kind: Kind, read: Callable[[], Awaitable[Any]]) -> bool:
        """Store a webhook; return False if its token is forged, which costs one hash, or its run is unknown.

        Raise `StoreUnavailable` if the run has too many webhooks that wait.
        """
        attempt = webhook_tokens.read(self._key, token)
        if attempt is None:
            return False
        content = await read()
        run = await self._queries.peek(attempt.run_id)  # after the body, which may arrive slowly
        if run is None or (run.crew not in self._crews and not self._shared):
            return False
        if (crew := self._crews.get(run.crew)) is not None and run.run_id in crew.tracker:
            crew.tracker.mark_webhook_seen(run.run_id)
        webhook = crew_webhooks.read(kind, content, is_flow=None if crew is None else crew.policy.is_flow)
        if webhooks.is_relevant(run, attempt.number, webhook):
            now = self._clock()
            entry = InboxEntry(self._new_id(), run.crew, kind, content, now, run.run_id, attempt.number)
            if not await self._add(entry, run.log_fields):
                raise StoreUnavailable("too many webhooks of the run are waiting; retry later")
        return True

    async def flow_question(self, crew: str, question: FlowQuestion) -> None:
        """Store a question; its deployment sends it only once."""
        kickoff_id, content = question.kickoff_id, asdict(question.content)
        entry = InboxEntry(self._new_id(), crew, Kind.HUMAN, content, self._clock(), kickoff_id=kickoff_id)
        await self._add(entry, {"crew": crew})

    async def _add(self, entry: InboxEntry, about: Mapping[str, str]) -> bool:
        if not await self._inbox.add(entry):
            log.warning("crew_webhook_discarded", **about, reason="the inbox is full")
            return False
        self._signals.inbox()
        return True


class HandleWebhooks:
    """Applies the webhooks in the inbox to their runs."""

    name = "webhook-inbox"
    kind = Quarantined.WEBHOOK

    def __init__(
        self,
        crews: Mapping[str, Crew],
        store: RunStore,
        inbox: WebhookInbox,
        clock: Clock,
        signals: Signals,
    ) -> None:
        self._crews = crews
        self._store = store
        self._inbox = inbox
        self._clock = clock
        self._signals = signals
        self._handling: set[str] = set()

    async def claim(self, limit: int) -> Sequence[InboxEntry]:
        """Return entries that this process can handle now; they are not claimed, because handling one is idempotent."""
        entries = await self._inbox.due(limit, self._clock(), self._handling)
        self._handling.update(entry.entry_id for entry in entries)
        return entries

    async def handle(self, entry: InboxEntry) -> None:
        """Apply the webhook to its run as now stored, and remove the entry, unless it has to wait."""
        try:
            if entry.run_id is None:
                await self._handle_flow_question(entry)
            else:
                await self._handle_crew_webhook(entry, entry.run_id)
        finally:
            self._handling.discard(entry.entry_id)

    def about(self, entry: InboxEntry) -> dict[str, object]:
        """Identify the webhook."""
        return {"run_id": entry.run_id, "crew": entry.crew, "webhook": entry.kind.value}

    async def quarantine(self, entry: InboxEntry) -> None:
        """Handle the webhook later."""
        await self._inbox.postpone(entry.entry_id, self._clock() + RETRY_AFTER_FAULT)

    def pause(self) -> float:
        """Seconds until the next claim."""
        return TICK

    async def _handle_flow_question(self, entry: InboxEntry) -> None:
        """Store the question once its run is known; retry with growing pauses, until the question expires."""
        now, kickoff_id = self._clock(), entry.kickoff_id
        assert kickoff_id is not None
        run = await self._find_execution(entry.crew, kickoff_id)
        if run is not None:
            await self._ask(run, QuestionContent(**entry.content | {"options": tuple(entry.content["options"])}))
        elif now - entry.received_at < QUESTION_TTL:
            await self._postpone(entry)
            return
        else:
            log.warning("human_input_unmatched", crew=entry.crew, kickoff_id=kickoff_id)
        await self._inbox.remove(entry.entry_id)

    async def _find_execution(self, crew: str, flow_id: str) -> Run | None:
        """Return the run of a flow's execution: by its kickoff id, or by the id that the request set for its state."""
        if (run := await self._store.find_execution(crew, flow_id)) is not None:
            return run
        run_id = self._crews[crew].tracker.find_state(flow_id)
        return None if run_id is None else await self._store.load(run_id)

    async def _postpone(self, entry: InboxEntry) -> None:
        """Postpone an entry, with growing pauses; otherwise the oldest entries would delay all others."""
        now = self._clock()
        await self._inbox.postpone(entry.entry_id, now + max(TICK, (now - entry.received_at) / 10))

    async def _handle_crew_webhook(self, entry: InboxEntry, run_id: str) -> None:
        run = await self._store.load(run_id)
        if run is None:
            await self._inbox.remove(entry.entry_id)
            return
        webhook = crew_webhooks.read(
            entry.kind,
            entry.content,
            is_flow=self._crews[run.crew].policy.is_flow,
            state_id=run.request.inputs.get("id"),
        )
        if webhooks.is_superseded(run, entry.attempt, webhook):
            log.error("execution_superseded", **run.log_fields, kickoff_id=webhook.kickoff_id)
        elif run.state is State.STARTING or self._store.owned_elsewhere(run):
            return  # the entry waits for the response to the POST, or for the process that owns the run
        elif webhook.kickoff_id and (run.kickoff_id is None or webhooks.disproves(run, webhook)):
            await self._adopt(run, entry, webhook)
            return
        elif run.state in TRACKED_STATES:
            await self._apply_to_tracked(run, entry, webhook)
            return
        elif webhooks.reports_late_end(run, webhook):
            await self._poll_ended(run)
        await self._inbox.remove(entry.entry_id)

    async def _apply_to_tracked(self, run: Run, entry: InboxEntry, webhook: CrewWebhook) -> None:
        """Store a question or record activity; then update the tracker, if this process tracks the run.

        An end waits for the process that will track the run. If it has a result, it is retained for the next one as
        well, because that counts if the API forgets the execution.
        """
        if webhook.question is not None:
            await self._ask(run, webhook.question)
        elif webhook.resumed or entry.kind is Kind.CREW:
            await self._write(run, rules.on_activity)
        elif entry.kind is Kind.TASK:
            run = await self._store_task(run, entry)
        tracked = run.run_id in self._crews[run.crew].tracker
        if tracked:
            self._update_tracker(run, webhook)
        if webhook.ended and not tracked:
            await self._postpone(entry)
        elif webhook.webhook_result is not None:
            await self._inbox.retain(entry.entry_id)
        else:
            await self._inbox.remove(entry.entry_id)

    def _update_tracker(self, run: Run, webhook: CrewWebhook) -> None:
        crew = self._crews[run.crew]
        crew.tracker.mark_webhook_seen(run.run_id)
        if webhook.task is not None:
            crew.tracker.count_task(run.run_id, webhook.task, len(run.tasks))
        if webhook.ended:
            crew.tracker.signal_completion(run.run_id, webhook.webhook_result, self._clock())
        if webhook.poll_now or (webhook.task is not None and "progress" in crew.policy.optional_events):
            crew.tracker.queue.expedite(run.run_id)
            self._signals.poll(run.crew)

    async def _poll_ended(self, run: Run) -> None:
        """Poll the execution of an ended run at short intervals, until the status confirms its end."""
        if run.kickoff_id is None or run.due_at is None:
            return
        self._crews[run.crew].tracker.signal_late_end(run.run_id, self._clock())
        await retry_on_conflict(self._store, run, lambda latest: late_results.on_end_signalled(latest, self._clock()))
        self._signals.recover()

    async def _adopt(self, run: Run, entry: InboxEntry, webhook: CrewWebhook) -> None:
        """Give a run its execution; then apply the rest of the webhook to it."""
        crew = self._crews[run.crew]
        if run.final and webhook.ended:
            crew.tracker.signal_late_end(run.run_id, self._clock())
        adopted = await adopt(run, entry.attempt, webhook, crew.policy, self._store, self._clock)
        if adopted is not None:
            crew.tracker.forget(run.run_id)  # it may have been tracked with another execution
            self._signals.recover()
        latest = adopted or await self._store.load(run.run_id)  # another webhook may have named the execution first
        if latest is not None and latest.state in TRACKED_STATES:
            await self._apply_to_tracked(latest, entry, webhook)
        else:
            await self._inbox.remove(entry.entry_id)

    async def _store_task(self, run: Run, entry: InboxEntry) -> Run:
        """Store the finished task that a webhook reports; return the run, polled now only if it confirms an answer."""
        content = entry.content if isinstance(entry.content, dict) else {}
        task = read_task(content, entry.received_at)
        written = await retry_on_conflict(self._store, run, lambda latest: webhooks.on_task(latest, task))
        if not isinstance(written, Run):
            return run
        if written.human_input != run.human_input:
            self._poll_changed(written)
        elif run.run_id in self._crews[run.crew].tracker:
            self._crews[run.crew].tracker.cache_written(written)
        return written

    async def _ask(self, run: Run, content: QuestionContent) -> None:
        """Store a run's question, and make the process that tracks the run poll it."""
        policy = self._crews[run.crew].policy
        if await self._write(run, lambda latest: rules.on_question(latest, content, policy, self._clock())):
            log.info("question_stored", **run.log_fields)
            self._signals.deliver()

    async def _write(self, run: Run, decide: Callable[[Run], Decision | None]) -> bool:
        """Write the decision, if any, and return whether there was one; poll the run now if it is tracked here."""
        written = await retry_on_conflict(self._store, run, decide)
        if not isinstance(written, Run):
            return False
        self._poll_changed(written)
        return True

    def _poll_changed(self, written: Run) -> None:
        if not self._store.owned_elsewhere(written):
            self._crews[written.crew].tracker.mark_changed(written)
            self._signals.poll(written.crew)
