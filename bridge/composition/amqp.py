"""Build the parts that use RabbitMQ: the consumers, the publisher, and the worker that publishes deliveries."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from bridge.adapters.amqp.consumer import AmqpConsumer
from bridge.adapters.amqp.messages import MessageRules
from bridge.adapters.amqp.publisher import AmqpPublisher
from bridge.adapters.amqp.topology import Topology
from bridge.composition.policies import build_source, build_topology, link_options, source_topology
from bridge.composition.runtime import Runtime
from bridge.config import Amqp as AmqpSettings
from bridge.observability.metrics import CountedSender
from bridge.ports.deliveries import Sender
from bridge.steps.runs.input_check import BoundedInputCheck, CrewInputs

INPUT_CHECK_FRACTION = 4  # one in so many messages of the prefetch count may wait for a crew's inputs


@dataclass(frozen=True)
class Broker:
    """The parts that use RabbitMQ; `consumers` by their names in `/readyz`."""

    consumers: Mapping[str, AmqpConsumer]
    publisher: AmqpPublisher
    sender: Sender


def build_broker(runtime: Runtime, amqp: AmqpSettings, inputs: CrewInputs) -> Broker:
    """Build the parts and register their metrics."""
    steps, counters, sources = runtime.steps, runtime.counters, runtime.settings.sources
    link, topology = link_options(amqp, runtime.process, counters.report), build_topology(amqp, sources)

    def build_consumer(topology: Topology, rules: MessageRules) -> AmqpConsumer:
        via = "amqp" if rules.mapping is None else "source"
        accept = steps.accept(BoundedInputCheck(inputs, max(1, amqp.prefetch // INPUT_CHECK_FRACTION)))
        consumer = AmqpConsumer(
            link, topology, rules, amqp.prefetch, accept, steps.refuse(amqp.dead), steps.accept_command,
            runtime.store.probe, runtime.values, partial(counters.count_request, via),
        )  # fmt: skip
        counters.show_link(rules.link, lambda: consumer.ready)
        return consumer

    consumers = {"broker_in": build_consumer(topology, MessageRules(amqp.requests, amqp.max_message, amqp.reply_to))}
    for name, settings in sources.items():
        source = build_source(name, settings, amqp.max_message)
        rules = MessageRules(settings.queue, amqp.max_message, mapping=source)
        consumers[source.source] = build_consumer(source_topology(topology, settings), rules)
    publisher = AmqpPublisher(link, topology, amqp.event_mode)
    counters.show_link("publish", lambda: publisher.ready)
    return Broker(consumers, publisher, CountedSender(publisher, counters, runtime.redactor, runtime.clock))
