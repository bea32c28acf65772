"""Build the parts that use RabbitMQ: the consumer, the publisher, and the worker that publishes deliveries."""

from dataclasses import dataclass

from bridge.adapters.amqp.consumer import AmqpConsumer
from bridge.adapters.amqp.messages import MessageRules
from bridge.adapters.amqp.publisher import AmqpPublisher
from bridge.composition.policies import build_topology, link_options
from bridge.composition.runtime import Runtime
from bridge.config import Amqp as AmqpSettings
from bridge.observability.metrics import CountedSender
from bridge.ports.deliveries import Sender
from bridge.steps.runs.input_check import BoundedInputCheck, CrewInputs

INPUT_CHECK_FRACTION = 4  # one in so many messages of the prefetch count may wait for a crew's inputs


@dataclass(frozen=True)
class Broker:
    """The parts that use RabbitMQ."""

    consumer: AmqpConsumer
    publisher: AmqpPublisher
    sender: Sender


def build_broker(runtime: Runtime, amqp: AmqpSettings, inputs: CrewInputs) -> Broker:
    """Build the parts and register their metrics."""
    steps, counters = runtime.steps, runtime.counters
    link, topology = link_options(amqp, runtime.process, counters.report), build_topology(amqp)
    rules = MessageRules(amqp.requests, amqp.max_message, amqp.reply_to)
    accept = steps.accept(BoundedInputCheck(inputs, max(1, amqp.prefetch // INPUT_CHECK_FRACTION)))
    consumer = AmqpConsumer(
        link, topology, rules, amqp.prefetch, accept, steps.refuse(amqp.dead), steps.accept_command,
        runtime.store.probe, runtime.values,
    )  # fmt: skip
    publisher = AmqpPublisher(link, topology, amqp.event_mode)
    counters.show_link("consume", lambda: consumer.ready)
    counters.show_link("publish", lambda: publisher.ready)
    return Broker(consumer, publisher, CountedSender(publisher, counters, runtime.redactor))
