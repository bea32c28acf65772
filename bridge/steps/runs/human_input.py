"""Submit each human's answer to the crew API at most once."""

from collections.abc import Sequence
from typing import Any

import structlog

from bridge.core.crew.payloads import resume_body
from bridge.core.crew.responses import ResumeResponse
from bridge.core.human_input import rules
from bridge.core.human_input.model import Question
from bridge.core.runs import state_machine
from bridge.core.runs.model import Decision, Run, State
from bridge.core.values import kind_name
from bridge.ports.runs import Conflict
from bridge.steps._conflicts import retry_on_conflict
from bridge.steps._run_step import CrewStep

log = structlog.get_logger()


class SubmitHumanInput(CrewStep[Run]):
    """Marks an answer as sent immediately before its POST; a marked answer is never sent again."""

    work = "human-input"

    async def claim(self, limit: int) -> Sequence[Run]:
        """Claim runs of the crew whose question has an answer to submit."""
        return await self._store.claim({State.WAITING_FOR_HUMAN}, self._crews, limit, self._clock())

    async def handle(self, run: Run) -> None:
        """Mark, POST, and store the outcome. The mark is durable before the first byte of the POST."""
        crew = self._crew
        if not rules.has_pending_answer(run):  # it was deferred, and its next poll is due
            await self._apply(run, Decision(state_machine.clear_deferral(run)))
            return
        if crew.breaker.is_open:
            await self._apply(run, rules.postpone_submission(run, self._clock()))
            return
        await crew.api.acquire()
        beginning = rules.begin_submission(run, self._clock())
        body = resume_body(beginning.run, crew.webhooks)  # before the mark, because it may raise
        sending = await self._apply(run, beginning)
        if sending is None:
            crew.rate_limiter.return_permit()
            return
        question = sending.human_input.question
        assert question is not None
        response = await self._submit_answer(question, body)
        log.info("human_input_submitted", **run.log_fields, response=kind_name(type(response)))
        crew.pause_if_unavailable(response, self._clock())
        await self._store_change(sending, question.number, response)

    async def _apply(self, run: Run, decision: Decision) -> Run | None:
        """Write, and track the run, because this process has owned it since the claim; None after a conflict."""
        match await self._store.apply(decision):
            case Run() as written:
                self._track(written)
                return written
            case Conflict():
                if not self._store.owned_elsewhere(run):  # by the name of this process at the time of the claim
                    self._track(run)
                    self._crew.tracker.mark_changed(run)
                return None

    async def _submit_answer(self, question: Question, body: dict[str, Any]) -> ResumeResponse:
        assert question.feedback is not None
        if question.content.callback_url is not None:
            return await self._crew.api.answer_flow(question.content.callback_url, question.feedback)
        return await self._crew.api.resume(body)

    async def _store_change(self, run: Run, number: int, response: ResumeResponse) -> None:
        """Store the outcome on the run as stored by then: a webhook of the resumed execution may have come first."""
        written = await retry_on_conflict(
            self._store,
            run,
            lambda latest: rules.on_submitted(latest, number, response, self._crew.policy, self._clock()),
        )
        if isinstance(written, Run):
            self._crew.tracker.mark_changed(written)
            self._signals.deliver()

    def _track(self, run: Run) -> None:
        """Track the run from now on, even if another process tracked it before."""
        if run.run_id not in self._crew.tracker.queue:
            self._crew.track(run, self._clock())
