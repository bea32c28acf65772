"""The OpenAPI and AsyncAPI documents are valid and match the code: routes, codes, fields, states, events."""

import json
import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, get_args

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from openapi_spec_validator import OpenAPIV31SpecValidator

from bridge.adapters.http import views
from bridge.config import Amqp
from bridge.core.crew.webhooks import Kind
from bridge.core.delivery.model import Attempt, DeliveryState
from bridge.core.errors import RefusalCode
from bridge.core.runs import request
from bridge.core.runs.history import HistoryEvent
from bridge.core.runs.model import RunError, State
from bridge.core.runs.waiting import Reason, Waiting
from bridge.documents import asyncapi, event_schema, openapi
from tests.fakes import NOW, a_delivery, a_run
from tests.test_docs import HTTP, REQUESTS, ROOT, STATES, _calls, _event_types, _has_row

BY_THE_LIBRARY = {"bad_request", "method_not_allowed", "expectation_failed", "request_header_fields_too_large"}
NOT_PUBLISHED = {"request.rejected"}
NOT_REPLIED = {"delivery.paused"}
SCHEMAS: dict[str, Any] = openapi()["components"]["schemas"]
VERBS = {"web.get": "get", "web.post": "post"}


@pytest.mark.parametrize("server", [None, "https://example.com/bridge"])
def test_the_openapi_document_is_valid(server: str | None) -> None:
    """Without the server, its readers called the API without the path prefix of the public URL."""
    assert [error.message for error in OpenAPIV31SpecValidator(openapi(server)).iter_errors()] == []
    assert openapi(server).get("servers") == (server and [{"url": server}])


def test_every_route_is_documented_and_no_other() -> None:
    served = {(VERBS[call.name], call.text) for call in _calls() if call.name in VERBS and "adapters" in call.where}
    written = {(verb, path) for path, item in openapi()["paths"].items() for verb in item if verb in VERBS.values()}
    assert served - written == set(), "routes that openapi.yaml does not describe"
    assert written - served == set(), "routes that do not exist"


def test_every_operation_has_a_unique_name_and_a_summary() -> None:
    operations = list(_operations())
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    assert all(operation["summary"] for operation in operations)


def test_operations_with_a_token_document_the_response_to_unauthenticated_callers() -> None:
    guarded = [operation for operation in _operations() if "security" not in operation]
    assert len(guarded) > 5
    assert [
        operation["operationId"] for operation in guarded if not {"401", "403", "429"} <= {*operation["responses"]}
    ] == []


def test_the_fields_of_a_request() -> None:
    assert set(SCHEMAS["KickoffRequest"]["properties"]) == request.FIELDS


def test_the_members_of_a_run_and_its_deliveries() -> None:
    run = views.run_detail(a_run(), [a_delivery()])
    in_full = SCHEMAS["RunInFull"]["allOf"][1]["required"]
    assert set(run) - {"waiting", *in_full} == set(SCHEMAS["Run"]["required"])
    not_always = {"question", "restore_from", "tasks"}  # only while there is one, if requested, not in lists
    assert set(SCHEMAS["Run"]["properties"]) == {*SCHEMAS["Run"]["required"], *not_always}
    assert set(run["deliveries"][0]) == set(SCHEMAS["Delivery"]["properties"]) == set(SCHEMAS["Delivery"]["required"])
    attempt = views.attempt(Attempt(1, NOW, 0.5))
    assert set(attempt) == set(SCHEMAS["Attempt"]["properties"]) == set(SCHEMAS["Attempt"]["required"])
    assert set(views.accepted(a_run())) == set(SCHEMAS["Accepted"]["required"])


def test_the_reasons_for_which_a_run_waits() -> None:
    _, added = SCHEMAS["RunAsListed"]["allOf"]
    _, with_members = added["properties"]["waiting"]["oneOf"]
    assert with_members["properties"]["reason"]["enum"] == list(Reason)
    assert [reason for reason in Reason if not _has_row(HTTP, reason)] == []
    shown = views.run_summary(a_run(), Waiting(Reason.RETRY, "an internal error", NOW, NOW + 5.0))
    assert set(shown["waiting"]) == set(with_members["required"])
    assert shown["waiting"]["reason"] == "retry"


def test_the_entries_of_a_history() -> None:
    entry = SCHEMAS["HistoryEntry"]
    assert entry["properties"]["event"]["enum"] == list(get_args(HistoryEvent))
    assert [event for event in get_args(HistoryEvent) if not _has_row(HTTP, event)] == []
    shown = views.run_history(a_run(), [a_delivery()])
    assert [one["event"] for one in shown] == ["accepted", "event_created"]
    assert {name for one in shown for name in one} <= set(entry["properties"])


def test_the_states() -> None:
    assert SCHEMAS["State"]["enum"] == list(State)
    assert SCHEMAS["DeliveryState"]["enum"] == list(DeliveryState)


def test_the_codes_of_problems() -> None:
    written = set(SCHEMAS["Problem"]["properties"]["code"]["enum"])
    assert written == set(get_args(RefusalCode)) | _problem_codes() | BY_THE_LIBRARY
    assert [
        code for code in sorted(written) if not any(_has_row(page, code) for page in (REQUESTS, HTTP, STATES))
    ] == []


def test_the_codes_of_errors() -> None:
    used = {call.text for call in _calls() if call.name == RunError.__name__}
    assert used <= set(SCHEMAS["RunError"]["properties"]["code"]["enum"])


def test_the_kinds_of_webhooks() -> None:
    parameters = {each["name"]: each for each in openapi()["paths"]["/amp/{token}/{kind}"]["parameters"]}
    assert parameters["kind"]["schema"]["enum"] == list(Kind)


@pytest.mark.parametrize("document", [openapi(), asyncapi()], ids=["openapi", "asyncapi"])
def test_every_reference_resolves(document: dict[str, Any]) -> None:
    references = [value for value in _values(document, "$ref") if isinstance(value, str)]
    assert len(references) > 20
    for reference in references:
        target: Any = document
        for step in reference.removeprefix("#/").split("/"):
            target = target[step.replace("~1", "/").replace("~0", "~")]


@pytest.mark.parametrize("document", [openapi(), asyncapi()], ids=["openapi", "asyncapi"])
def test_every_component_is_used(document: dict[str, Any]) -> None:
    used = {value for value in _values(document, "$ref") if isinstance(value, str)}
    defined = [f"#/components/{kind}/{name}" for kind, all_ in document["components"].items() for name in all_]
    assert [name for name in defined if name not in used and "securitySchemes" not in name] == []


@pytest.mark.parametrize("document", [openapi(), asyncapi()], ids=["openapi", "asyncapi"])
def test_the_documents_are_json(document: dict[str, Any]) -> None:
    assert json.loads(json.dumps(document)) == document


def test_the_event_types() -> None:
    channels, messages = asyncapi()["channels"], asyncapi()["components"]["messages"]
    assert set(channels["results"]["messages"]) == _event_types() - NOT_PUBLISHED
    assert set(channels["replies"]["messages"]) == _event_types() - NOT_REPLIED
    assert all(messages[name]["name"] == name for name in messages)


def test_the_names_on_the_broker() -> None:
    amqp, channels = Amqp(), asyncapi()["channels"]
    bindings = {name: channel.get("bindings", {}).get("amqp", {}) for name, channel in channels.items()}
    assert bindings["requests"]["exchange"]["name"] == bindings["requestsQueue"]["queue"]["name"] == amqp.requests
    assert bindings["results"]["exchange"]["name"] == amqp.results
    assert channels["dead"]["address"] == bindings["dead"]["queue"]["name"] == amqp.dead


def test_every_operation_uses_a_channel_and_every_channel_is_used() -> None:
    operations, channels = asyncapi()["operations"].values(), asyncapi()["channels"]
    assert {operation["channel"]["$ref"].removeprefix("#/channels/") for operation in operations} == set(channels)
    assert {operation["action"] for operation in operations} == {"send", "receive"}


def test_the_event_schema_is_valid_and_names_the_types_of_the_channels() -> None:
    """`tests/component/steps/test_published_events.py` compares it with real events."""
    Draft202012Validator.check_schema(event_schema())
    references = [one["$ref"].removeprefix("#/$defs/") for one in event_schema()["oneOf"]]
    types = {event_schema()["$defs"][name]["properties"]["type"]["const"] for name in references}
    assert types == _event_types()
    assert "#/components" not in json.dumps(event_schema())


def _operations() -> Iterator[dict[str, Any]]:
    for item in openapi()["paths"].values():
        yield from (operation for verb, operation in item.items() if verb in VERBS.values())


def _problem_codes() -> set[str]:
    """Codes of problems from the adapters: by their HTTP status, or by name."""
    sources = "".join(path.read_text("utf-8") for path in ROOT.glob("bridge/adapters/http/**/*.py"))
    by_status = {HTTPStatus(int(status)).name.lower() for status in re.findall(r"\bfrom_status\(\s*(\d{3})", sources)}
    return by_status | set(re.findall(r'\bProblem\(\s*\d{3}, "(\w+)"', sources))


def _values(node: Any, key: str) -> Iterator[Any]:
    if isinstance(node, dict):
        for name, value in node.items():
            if name == key:
                yield value
            yield from _values(value, key)
    elif isinstance(node, list):
        for item in node:
            yield from _values(item, key)
