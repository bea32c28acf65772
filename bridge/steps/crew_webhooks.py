"""Take a hint from the crew API's webhooks."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog

from bridge.core.crew import webhook_tokens
from bridge.core.crew import webhooks as crew_webhooks
from bridge.core.crew.flow_questions import FlowQuestion
from bridge.core.human_input import rules
from bridge.core.human_input.model import QuestionContent
from bridge.core.runs.model import Decision, Run, State
from bridge.ports.lifecycle import Clock, Notify
from bridge.ports.store import RelayedWebhook, Store
from bridge.steps._conflicts import adopt, retry_on_conflict
from bridge.steps._crew import Crew

log = structlog.get_logger()


class HandleCrewWebhook:
    """`ports.HandleCrewWebhook`: brings lost executions back, asks humans, and makes us look when it is worth it."""

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
        """Whether the token was one of ours; a forged one costs a hash and nothing else."""
        attempt = webhook_tokens.read(self._key, token)
        if attempt is None:
            return False
        content = await read()
        webhook = crew_webhooks.read(kind, content)
        run = await self._store.load(attempt.run_id)  # after the body, however slowly that came
        if run is None or (run.crew not in self._crews and not self._store.shared):
            return False
        if run.crew in self._crews and not self._elsewhere(run):
            await self._take(run, attempt, kind, webhook)
        elif webhook.concerns_tracked_run or run.state is State.STARTING:
            await self._store.relay_webhook(RelayedWebhook(attempt.run_id, attempt.number, kind, content))
        return True

    def _elsewhere(self, run: Run) -> bool:
        """Whether another process has it in hand, or may be the one that takes up an interrupted start."""
        orphan = run.state is State.STARTING and run.owner is None
        return self._store.owned_elsewhere(run) or (orphan and self._store.shared)

    async def handle_relayed(self, passed: RelayedWebhook) -> None:
        """A hint for a run of this process that reached another one."""
        run = await self._store.load(passed.run_id)
        if run is not None and run.crew in self._crews:
            attempt = webhook_tokens.Attempt(passed.run_id, passed.attempt)
            await self._take(run, attempt, passed.kind, crew_webhooks.read(passed.kind, passed.content))

    async def take_flow_question(self, crew: str, question: FlowQuestion) -> None:
        """`ports.TakeFlowQuestion`: nobody sends it again, so one that comes before its run is known is kept."""
        run = await self._store.find_execution(crew, question.kickoff_id)
        if run is None:
            self._keep(self._crews[crew], question.kickoff_id, question.content)
        else:
            await self.ask(run, question.content)

    def _keep(self, crew: Crew, kickoff_id: str, content: QuestionContent) -> None:
        for gone in crew.questions.keep(kickoff_id, content, self._clock()):
            log.warning("human_input_unmatched", crew=crew.name, kickoff_id=gone)

    async def _take(
        self, run: Run, attempt: webhook_tokens.Attempt, kind: crew_webhooks.Kind, webhook: crew_webhooks.CrewWebhook
    ) -> None:
        crew = self._crews[run.crew]
        if _is_superseded(run, attempt, webhook.kickoff_id):
            log.error("execution_superseded", run_id=run.run_id, crew=run.crew, kickoff_id=webhook.kickoff_id)
            return
        if not run.final:
            crew.tracker.mark_webhook_seen(run.run_id)
        if run.state in rules.TRACKED_STATES:
            await self._apply_to_tracked(crew, run, kind, webhook)
            await self._forget_if_ended(crew, run)
        elif webhook.kickoff_id is None:
            return
        elif run.state is State.STARTING:
            await self._keep_evidence(crew, run, attempt, webhook.kickoff_id, webhook.question)
        else:
            await self._adopt(run, attempt, webhook.kickoff_id, webhook.question)

    async def _keep_evidence(
        self, crew: Crew, run: Run, attempt: webhook_tokens.Attempt, kickoff_id: str, content: QuestionContent | None
    ) -> None:
        """The answer to the POST is still awaited."""
        crew.tracker.keep_evidence(run.run_id, kickoff_id)
        if content is not None:
            self._keep(crew, kickoff_id, content)
        await self._adopt_if_answered(crew, run, attempt, content)

    async def _forget_if_ended(self, crew: Crew, run: Run) -> None:
        """What is kept in mind of a run that ended after it was read here would be kept for ever."""
        if run.run_id not in crew.tracker:
            latest = await self._store.load(run.run_id)
            if latest is None or latest.final:
                crew.tracker.forget(run.run_id)

    async def _adopt_if_answered(
        self, crew: Crew, run: Run, attempt: webhook_tokens.Attempt, content: QuestionContent | None
    ) -> None:
        """Evidence for a run whose POST was answered after it was read here would be looked for by nobody."""
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
        found = await adopt(run, attempt.number, kickoff_id, policy, self._store, self._clock)
        if found is None:
            return
        if content is not None and not found.final:
            await self.ask(found, content)
        self._notify_recover()

    async def _apply_to_tracked(
        self, crew: Crew, run: Run, kind: crew_webhooks.Kind, webhook: crew_webhooks.CrewWebhook
    ) -> None:
        """A run that is being followed: a question, a sign of life, or something to look at."""
        if webhook.question is not None:
            await self.ask(run, webhook.question)
        elif kind in {crew_webhooks.Kind.TASK, crew_webhooks.Kind.CREW}:
            await self._write(run, rules.on_activity)
        if webhook.task is not None:
            crew.tracker.count_task(run.run_id, webhook.task)
        if webhook.poll_now or (webhook.task is not None and "progress" in crew.policy.extra_events):
            if kind is not crew_webhooks.Kind.HUMAN and webhook.poll_now:
                crew.tracker.signal_completion(run.run_id, webhook.webhook_result)
            crew.tracker.queue.expedite(run.run_id)
            self._notify_poll(run.crew)

    async def ask(self, run: Run, content: QuestionContent) -> None:
        """Put a question to a run; whoever follows it hears of that."""
        policy = self._crews[run.crew].policy
        if await self._write(run, lambda latest: rules.on_question(latest, content, policy, self._clock())):
            log.info("question_stored", run_id=run.run_id, crew=run.crew)
            self._notify_deliveries()

    async def _write(self, run: Run, decide: Callable[[Run], Decision | None]) -> bool:
        """Whether there was anything to write; if this process follows the run, it looks at it now."""
        written = await retry_on_conflict(self._store, run, decide)
        if written is None:
            return False
        if not self._store.owned_elsewhere(written):
            self._crews[run.crew].tracker.mark_changed(written)
            self._notify_poll(run.crew)
        return True


def _is_superseded(run: Run, attempt: webhook_tokens.Attempt, kickoff_id: str | None) -> bool:
    """Whether a webhook is about an execution that an earlier attempt has started beside the run's own."""
    if kickoff_id is None or attempt.number == run.attempt:
        return False
    return run.state is State.STARTING or run.kickoff_id not in {None, kickoff_id}
