"""Which changed settings apply to a running bridge, and which keep their former values until a restart."""

from typing import Any

import pytest

from bridge.config import Settings
from bridge.config.changes import plan_change
from tests.component.config.settings_files import with_settings

CREW = {"url": "http://127.0.0.1:9", "token": "t"}


def settings(**sections: Any) -> Settings:
    return Settings(**with_settings(**sections))


def test_unchanged_settings_change_nothing():
    change = plan_change(settings(), settings())
    assert (change.changed, change.needs_restart) == ((), ())


@pytest.mark.parametrize(
    ("sections", "changed"),
    [
        ({"crews": {"research": CREW | {"max_running": 3}, "triage": CREW}}, ("crews.research", "crews.triage")),
        ({"log": {"level": "debug"}}, ("log.level",)),
        ({"callbacks": {"allow": ["https://a.example"]}}, ("callbacks.allow",)),
        (
            {"http": {"clients": [{"name": "shop", "token": "x" * 32, "roles": ["submit"]}]}},
            ("http.clients",),
        ),
    ],
)
def test_these_apply(sections: dict[str, Any], changed: tuple[str, ...]):
    wanted = settings(**sections)
    change = plan_change(settings(), wanted)
    assert (change.changed, change.needs_restart, change.settings) == (changed, (), wanted)


@pytest.mark.parametrize(
    ("sections", "kept"),
    [
        ({"http": {"port": 9999}}, ("http.port",)),
        ({"store": {"url": "sqlite:///other.db"}}, ("store.url",)),
        ({"amqp": {"url": "amqp://other"}}, ("amqp",)),
        ({"public_url": "https://bridge.example.com"}, ("public_url",)),
        ({"reload": "watch"}, ("reload",)),
        ({"log": {"format": "json"}}, ("log.format",)),
    ],
)
def test_these_need_a_restart(sections: dict[str, Any], kept: tuple[str, ...]):
    current = settings()
    change = plan_change(current, settings(**sections))
    assert (change.changed, change.needs_restart, change.settings) == ((), kept, current)


def test_a_section_may_apply_in_part():
    change = plan_change(settings(), settings(log={"level": "debug", "format": "json"}))
    assert (change.changed, change.needs_restart) == (("log.level",), ("log.format",))
    assert (change.settings.log.level, change.settings.log.format) == ("debug", settings().log.format)


def test_sources_wait_for_a_restart_with_their_broker():
    source = {"queue": "orders", "crew": "research", "inputs": {"topic": "body.topic"}}
    change = plan_change(settings(), settings(amqp={"url": "amqp://broker"}, sources={"orders": source}))
    assert (change.changed, change.needs_restart, dict(change.settings.sources)) == ((), ("amqp",), {})


def test_settings_that_do_not_fit_those_in_use_wait_for_a_restart_with_them():
    """A budget that needs the longer retention would be counted too low, because ended runs are deleted before."""
    budget = {"budget": {"runs": 9, "per": "60d"}}
    wanted = settings(crews={"research": CREW | budget}, store={"retention": "90d"}, log={"level": "debug"})
    current = settings()
    change = plan_change(current, wanted)
    assert (change.settings, change.changed) == (current, ())
    assert change.needs_restart == ("crews.research", "log.level", "store.retention")
