"""Build the parts that use RabbitMQ: the consumers, the publisher, and the worker that publishes deliveries."""

from functools import partial

from bridge.adapters.amqp.consumer import AmqpConsumer
from bridge.adapters.amqp.messages import MessageRules
from bridge.adapters.amqp.publisher import AmqpPublisher
from bridge.adapters.amqp.topology import Topology
from bridge.composition.policies import build_source, build_topology, link_options, source_topology
from bridge.composition.runtime import Runtime
from bridge.config import Amqp as AmqpSettings
from bridge.config import Source as SourceSettings
from bridge.observability.metrics import CountedSender
from bridge.steps.runs.input_check import BoundedInputCheck, CrewInputs

INPUT_CHECK_FRACTION = 4  # one in so many messages of the prefetch count may wait for a crew's inputs


class Broker:
    """The parts that use RabbitMQ; `consumers` by their names in `/readyz`."""

    def __init__(self, runtime: Runtime, amqp: AmqpSettings, inputs: CrewInputs) -> None:
        """Build the parts and register their metrics."""
        self._runtime, self._amqp, self._inputs = runtime, amqp, inputs
        self._link = link_options(amqp, runtime.process, runtime.counters.report)
        self._topology = build_topology(amqp, {})
        rules = MessageRules(amqp.requests, amqp.max_message, amqp.reply_to)
        self.consumers = {"broker_in": self._build_consumer(self._topology, rules)}
        for name, source in runtime.settings.sources.items():
            self.add_source(name, source)
        publisher = self.publisher = AmqpPublisher(self._link, self._topology, amqp.event_mode)
        runtime.counters.show_link("publish", lambda: publisher.ready)
        self.sender = CountedSender(publisher, runtime.counters, runtime.redactor, runtime.clock)

    def add_source(self, name: str, settings: SourceSettings) -> AmqpConsumer:
        """Build the consumer of a source."""
        source = build_source(name, settings, self._amqp.max_message)
        rules = MessageRules(settings.queue, self._amqp.max_message, mapping=source)
        consumer = self._build_consumer(source_topology(self._topology, settings), rules)
        self.consumers[f"source/{name}"] = consumer
        return consumer

    def remove_source(self, name: str) -> AmqpConsumer:
        """Return the consumer of a source, which is to be stopped."""
        return self.consumers.pop(f"source/{name}")

    def _build_consumer(self, topology: Topology, rules: MessageRules) -> AmqpConsumer:
        runtime, amqp = self._runtime, self._amqp
        steps, counters = runtime.steps, runtime.counters
        via = "amqp" if rules.mapping is None else "source"
        accept = steps.accept(BoundedInputCheck(self._inputs, max(1, amqp.prefetch // INPUT_CHECK_FRACTION)))
        consumer = AmqpConsumer(
            self._link, topology, rules, amqp.prefetch, accept, steps.refuse(amqp.dead), steps.accept_command,
            runtime.store.probe, runtime.values, partial(counters.count_request, via),
        )  # fmt: skip
        counters.show_link(rules.link, lambda: consumer.ready)
        return consumer
