"""Build the parts that use RabbitMQ: the consumer, the publisher, and the worker that publishes deliveries."""

from dataclasses import dataclass
from functools import partial

from bridge.adapters.amqp.consumer import AmqpConsumer
from bridge.adapters.amqp.messages import MessageRules
from bridge.adapters.amqp.publisher import AmqpPublisher
from bridge.composition.policies import build_topology, link_options
from bridge.composition.runtime import Runtime, new_id
from bridge.composition.workers import build_accept
from bridge.config import Amqp as AmqpSettings
from bridge.core.delivery.model import Channel
from bridge.observability.metrics import CountedSender
from bridge.ports.inbound import ApplyCommand
from bridge.ports.lifecycle import Service
from bridge.steps.delivery import DeliverEvents
from bridge.steps.runs.accept import RefuseMessage
from bridge.steps.runs.deferred_commands import AcceptCommand
from bridge.steps.runs.input_check import BoundedInputCheck, CrewInputs

MAX_UNCONFIRMED_PUBLISHES = 100
INPUT_CHECK_FRACTION = 4  # one in so many messages of the prefetch count may wait for a crew's inputs
BROKER_CHANNELS = (Channel.EXCHANGE, Channel.QUEUE, Channel.DEAD_LETTER)


@dataclass(frozen=True)
class Broker:
    """The parts that use RabbitMQ."""

    consumer: AmqpConsumer
    publisher: AmqpPublisher
    deliverer: Service


def build_broker(runtime: Runtime, amqp: AmqpSettings, inputs: CrewInputs, apply_command: ApplyCommand) -> Broker:
    """Build the parts and register their metrics."""
    store, clock, counters, deliver = runtime.store, runtime.clock, runtime.counters, runtime.signals.deliver
    link, topology = link_options(amqp, runtime.process, counters.report), build_topology(amqp)
    rules = MessageRules(amqp.requests, amqp.max_message, amqp.reply_to)
    accept = build_accept(runtime, BoundedInputCheck(inputs, max(1, amqp.prefetch // INPUT_CHECK_FRACTION)))
    accept_command = AcceptCommand(apply_command, store.commands, clock)
    refuse = RefuseMessage(store, amqp.dead, clock, new_id, deliver)
    consumer = AmqpConsumer(
        link, topology, rules, amqp.prefetch, accept, refuse, accept_command, store.probe, runtime.values
    )
    publisher = AmqpPublisher(link, topology, amqp.event_mode)
    counters.show_link("consume", lambda: consumer.ready)
    counters.show_link("publish", lambda: publisher.ready)
    publish = DeliverEvents(
        "deliver-broker", partial(store.claim_deliveries, BROKER_CHANNELS),
        CountedSender(publisher, counters, runtime.redactor), store, clock, deliver,
    )  # fmt: skip
    return Broker(consumer, publisher, runtime.worker(publish, MAX_UNCONFIRMED_PUBLISHES))
