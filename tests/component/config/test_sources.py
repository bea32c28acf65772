"""Settings of sources: their queues, and expressions that are checked at load time."""

from pathlib import Path
from typing import Any

import pytest

from bridge.composition.policies import build_topology, source_topology
from tests.component.config.settings_files import SettingsFiles, with_settings

ORDERS = {"queue": "kickoff.orders", "crew": "research"}


def sources(amqp: Any = (), **named: Any) -> dict[str, Any]:
    return with_settings(sources=named, **({} if amqp is None else {"amqp": dict(amqp)}))


@pytest.fixture
def files(tmp_path: Path) -> SettingsFiles:
    return SettingsFiles(tmp_path)


def test_a_source_has_a_queue_with_its_own_bindings(files: SettingsFiles):
    bound = {**ORDERS, "bind": [{"exchange": "shop.events", "key": "order.#"}, {"exchange": "crm"}]}
    settings = files.load(sources({"bind": [{"exchange": "others"}]}, orders=bound))
    assert settings.amqp is not None
    topology = build_topology(settings.amqp, settings.sources)
    found = source_topology(topology, settings.sources["orders"])
    assert topology.sources == {"kickoff.orders"}
    assert (found.requests, found.dead, found.is_source) == ("kickoff.orders", "kickoff.dead", True)
    assert [(one.exchange, one.key) for one in found.bindings] == [("shop.events", "order.#"), ("crm", "#")]


@pytest.mark.parametrize(
    ("tree", "start"),
    [
        (sources(None, orders=ORDERS), "sources: requires `amqp`"),
        (sources(orders={"crew": "research"}), "sources.orders.queue: is required"),
        (sources(orders={**ORDERS, "queue": "kickoff.requests"}), "sources: must have separate queues; orders names"),
        (sources(orders={**ORDERS, "queue": "kickoff.dead"}), "sources: must have separate queues; orders names"),
        (sources(orders=ORDERS, sales=ORDERS), "sources: must have separate queues; sales names that of orders"),
        (sources(orders={**ORDERS, "crew": "none"}), "sources.orders.crew: must name a crew that is configured"),
        (sources(orders={**ORDERS, "when": "a = b"}), "sources.orders.when: is not a JMESPath expression"),
        (sources(orders={**ORDERS, "verify": {}}), "sources.orders.verify: unknown setting"),
        (sources(**{"a b": ORDERS}), "sources.?: a source's name is 1 to 64 letters"),
    ],
)
def test_a_source_that_cannot_work_is_reported(files: SettingsFiles, tree: dict[str, Any], start: str):
    (problem,) = files.problems(tree)
    assert problem.startswith(start)


def test_an_invalid_broker_is_the_only_problem_reported(files: SettingsFiles):
    (problem,) = files.problems(sources({"prefetch": 0}, orders=ORDERS))
    assert problem.startswith("amqp.prefetch")


def test_a_source_may_come_from_the_environment(files: SettingsFiles):
    settings = files.load(sources(orders=ORDERS), {"BRIDGE_SOURCES__ORDERS__INPUTS__topic": "order.title"})
    assert settings.sources["orders"].inputs == {"topic": "order.title"}
