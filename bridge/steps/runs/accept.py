"""Store each kickoff request once, and refused messages for the dead queue."""

from collections.abc import Awaitable, Callable, Mapping

import structlog

from bridge.core import callback_url
from bridge.core.delivery import events
from bridge.core.delivery.model import Channel, Delivery, Destination, Event
from bridge.core.errors import RequestRefused
from bridge.core.redaction import Redactor
from bridge.core.runs import restore, state_machine
from bridge.core.runs.model import Envelope, KickoffRequest, Run
from bridge.core.values import replace
from bridge.ports.deliveries import DeliveryStore
from bridge.ports.inbound import Accepted, RefusedMessage
from bridge.ports.lifecycle import Clock, NewId
from bridge.ports.queries import Queries
from bridge.ports.runs import RunStore
from bridge.ports.tracing import NOT_TRACED, Tracing
from bridge.signals import Signals
from bridge.steps._crew import Crew

log = structlog.get_logger()

CheckInputs = Callable[[KickoffRequest], Awaitable[None]]
"""Raises `RequestRefused` for a request that lacks an input of its crew."""


class AcceptRequest:
    """`ports.Accept`: every listener calls it with a request that it could parse."""

    def __init__(
        self,
        store: RunStore,
        queries: Queries,
        crews: Mapping[str, Crew],
        callbacks: Callable[[], callback_url.CallbackRules],
        clock: Clock,
        new_id: NewId,
        check_inputs: CheckInputs,
        signals: Signals,
        redactor: Redactor,
        tracing: Tracing = NOT_TRACED,
    ) -> None:
        self._tracing = tracing
        self._redactor = redactor
        self._store = store
        self._queries = queries
        self._crews = crews
        self._check_inputs = check_inputs
        self._callbacks = callbacks
        self._clock = clock
        self._new_id = new_id
        self._signals = signals

    async def __call__(self, request: KickoffRequest, envelope: Envelope) -> Accepted:
        """Store the request; the run is durable on return. Raise `RequestRefused` or `StoreUnavailable`.

        Inputs and meta are stored, and sent to the crew, with the bridge's own secrets redacted.
        """
        request = self._redacted(request)
        crew = self._crews.get(request.crew)  # None if another process serves it, as during the rollout of a new crew
        if crew is None and request.crew not in await self._queries.crews_served():
            raise RequestRefused("unknown_crew", f"no crew named {request.crew} is configured; check the name", "crew")
        start_by = None if crew is None else crew.policy.start_by
        warnings = restore.warnings(request, is_flow=crew is not None and crew.policy.is_flow)
        run_id = self._new_id()
        run = state_machine.accept(request, self._tracing.begin(run_id, envelope), run_id, self._clock(), start_by)
        try:
            checked = await self._checked(request, envelope)
        except RequestRefused:
            if (earlier := await self._find_earlier(run)) is None:
                raise
            return Accepted(earlier, replayed=True, warnings=warnings)
        accepted = await self._store.accept(run if checked is request else replace(run, request=checked))
        if not accepted.replayed:
            log.info("run_accepted", **accepted.run.log_fields, by=envelope.source)
            self._tracing.accepted(accepted.run, envelope.traceparent, self._clock())
        if warnings and not accepted.replayed:
            log.warning("inputs_id_sent", **accepted.run.log_fields)
        self._signals.kickoff(request.crew)
        return replace(accepted, warnings=warnings) if warnings else accepted

    def _redacted(self, request: KickoffRequest) -> KickoffRequest:
        inputs, meta = self._redactor.value(request.inputs), self._redactor.value(request.meta)
        same = inputs is request.inputs and meta is request.meta
        return request if same else replace(request, inputs=inputs, meta=meta)

    async def _checked(self, request: KickoffRequest, envelope: Envelope) -> KickoffRequest:
        """Return the request with the id of the state to restore, if any; raise `RequestRefused`."""
        if request.callback_url is not None:
            callback_url.check(request.callback_url, self._callbacks())
        if (crew := self._crews.get(request.crew)) is not None:
            if crew.policy.is_flow:
                restore.check_flow_inputs(request.inputs)
            elif request.restore_from is not None:
                raise RequestRefused("invalid_request", "only a flow can continue from an earlier run", "restore_from")
            await self._check_inputs(request)
        if (named := request.restore_from) is None or named.state_id is not None:
            return request  # a retry: the earlier run may have been deleted since
        if named.run_id is not None:
            return restore.with_state_id(request, await self._store.load(named.run_id), envelope)
        earlier = await self._store.find_execution(request.crew, named.kickoff_id or "")
        return restore.with_state_id(request, earlier, envelope)

    async def _find_earlier(self, run: Run) -> Run | None:
        """Return the run of the same request from when it was permitted, because rules and inputs change."""
        if (key := run.request.idempotency_key) is None:
            return None
        found = await self._store.find_key(run.envelope.source, run.crew, key)
        return found if found is not None and found.fingerprint == run.fingerprint else None


class RefuseMessage:
    """`ports.Refuse`: the consumer calls it with a message that cannot be accepted.

    The message reaches the dead queue through the store, like every event, so that no other message waits while the
    publisher is unavailable.
    """

    def __init__(self, store: DeliveryStore, dead_queue: str, clock: Clock, new_id: NewId, signals: Signals) -> None:
        self._store = store
        self._dead_queue = dead_queue
        self._clock = clock
        self._new_id = new_id
        self._signals = signals

    async def __call__(self, message: RefusedMessage) -> None:
        """Store the message for the dead queue, and a notice for its `reply_to`. Raise `StoreUnavailable`."""
        deliveries = [self._dead_letter(message)]
        if message.reply_to is not None:
            deliveries.append(self._notice(message, message.reply_to))
        await self._store.add(deliveries)
        self._signals.deliver()

    def _dead_letter(self, message: RefusedMessage) -> Delivery:
        headers = {**message.headers, "x-bridge-reason": message.code, "x-bridge-detail": message.detail}
        event = events.dead_letter(self._new_id(), message.body, message.content_type, headers, self._clock())
        return _delivery(event, Destination(Channel.DEAD_LETTER, self._dead_queue))

    def _notice(self, message: RefusedMessage, reply_to: str) -> Delivery:
        refusal = {
            "code": message.code,
            "message": message.detail,
            "crew": message.crew,
            "idempotency_key": message.idempotency_key,
        }
        event = events.rejected(self._new_id(), refusal, message.correlation_id, self._clock())
        return _delivery(event, Destination(Channel.QUEUE, reply_to))


def _delivery(event: Event, destination: Destination) -> Delivery:
    return Delivery(event.event_id, event, destination, due_at=event.created_at)
