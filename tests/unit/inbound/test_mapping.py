"""Mapping rules of hooks: the JMESPath expressions of a webhook, and limits on their cost for any content."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.errors import RequestRefused
from bridge.core.inbound.mapping import MAX_EXPRESSION, MAX_STEPS, Rule, compile_expression, scope
from bridge.core.json import MAX_DEPTH
from bridge.core.runs.model import KickoffRequest

ISSUE = {"action": "opened", "issue": {"title": "It breaks", "body": None, "labels": [{"name": "bug"}], "number": 7}}
HEADERS = {"x-github-delivery": "d-1", "x-github-event": "issues"}


def a_rule(**expressions: Any) -> Rule:
    """A rule from texts, as in the settings."""
    built: dict[str, Any] = {
        name: {key: compile_expression(text) for key, text in value.items()}
        if isinstance(value, dict)
        else compile_expression(value)
        for name, value in expressions.items()
    }
    return Rule(**built)


def mapped(rule: Rule, body: Any = ISSUE, headers: Any = HEADERS, query: Any = None) -> KickoffRequest | None:
    return rule.request(scope(body, headers, query=query or {}), "triage")


def made(rule: Rule, body: Any = ISSUE, **more: Any) -> KickoffRequest:
    request = mapped(rule, body, **more)
    assert request is not None
    return request


def refused(rule: Rule, body: Any = ISSUE) -> RequestRefused:
    with pytest.raises(RequestRefused) as caught:
        mapped(rule, body)
    return caught.value


class TestScope:
    def test_the_example_of_the_documentation(self):
        rule = a_rule(
            when="action == 'opened'",
            inputs={"title": "body.issue.title", "text": "body.issue.body || ''"},
            idempotency_key='headers."x-github-delivery"',
        )
        assert made(rule) == KickoffRequest("triage", {"title": "It breaks", "text": ""}, idempotency_key="d-1")
        assert mapped(rule, {**ISSUE, "action": "closed"}) is None

    @pytest.mark.parametrize("when", ["action == 'opened'", "body.action == 'opened'", "@.body.action == 'opened'"])
    def test_members_of_the_body_are_visible_with_and_without_a_prefix(self, when: str):
        assert mapped(a_rule(when=when)) is not None

    @pytest.mark.parametrize(
        "when",
        [
            "headers.\"X-GitHub-Event\" == 'issues'",
            "headers | \"X-GITHUB-EVENT\" == 'issues'",
            "@.headers.\"x-github-event\" == 'issues'",
        ],
    )
    def test_the_names_of_headers_match_in_any_case(self, when: str):
        assert mapped(a_rule(when=when)) is not None

    def test_the_names_of_members_of_the_body_match_exactly(self):
        assert mapped(a_rule(when="Action == 'opened'")) is None
        assert mapped(a_rule(when="body.headers.\"X-A\" == '1'"), {"headers": {"x-a": "1"}}) is None

    def test_a_body_cannot_replace_headers_or_the_query(self):
        body = {"headers": {"x": "forged"}, "query": {"x": "forged"}, "body": {"x": "forged"}}
        rule = a_rule(inputs={"seen": "[headers.x, query.x, body.x, body.headers.x]"})
        assert made(rule, body, headers={"x": "h"}, query={"x": "q"}).inputs["seen"] == ["h", "q", None, "forged"]

    @pytest.mark.parametrize("body", [[1, 2], "text", 5, None, True])
    def test_a_body_of_any_type_can_be_mapped(self, body: Any):
        assert made(a_rule(inputs={"all": "[body]"}), body).inputs == {"all": [body]}

    @pytest.mark.parametrize(
        ("when", "holds"),
        [("`0`", True), ("'x'", True), ("`false`", False), ("nothing", False), ("''", False), ("`[]`", False)],
    )
    def test_truth_follows_the_rules_of_jmespath(self, when: str, holds: bool):
        assert (mapped(a_rule(when=when)) is not None) is holds


class TestRequest:
    def test_without_expressions_the_request_is_empty(self):
        assert made(Rule()) == KickoffRequest("triage", {})

    def test_an_input_without_a_value_is_refused_by_name(self):
        found = refused(a_rule(inputs={"title": "issue.titel"}))
        assert (found.code, found.field) == ("invalid_request", "inputs.title")
        assert "issue.titel" in found.detail

    @pytest.mark.parametrize("value", ["", 0, False, [], {}])
    def test_an_empty_value_is_a_value(self, value: Any):
        assert made(a_rule(inputs={"x": "body.x"}), {"x": value}).inputs == {"x": value}

    def test_meta_without_a_value_is_null(self):
        assert made(a_rule(meta={"number": "issue.number", "no": "issue.no"})).meta == {"number": 7, "no": None}

    @pytest.mark.parametrize(("value", "key"), [("d-1", "d-1"), (42, "42"), (1.5, "1.5")])
    def test_a_key_is_text_or_a_number(self, value: Any, key: str):
        assert made(a_rule(idempotency_key="body.id"), {"id": value}).idempotency_key == key

    @pytest.mark.parametrize("value", [None, True, {}, ["a"], "", "x" * 256, "a\nb"])
    def test_any_other_key_is_refused(self, value: Any):
        assert refused(a_rule(idempotency_key="body.id"), {"id": value}).field == "idempotency_key"

    def test_the_key_of_a_scheme_is_optional_and_an_expression_overrides_it(self):
        rule = a_rule(default_key="body.id")
        assert made(rule, {}).idempotency_key is None
        assert made(rule, {"id": "evt_1"}).idempotency_key == "evt_1"
        both = a_rule(default_key="body.id", idempotency_key="body.order")
        assert made(both, {"id": "evt_1", "order": "o-1"}).idempotency_key == "o-1"
        assert refused(rule, {"id": []}).field == "idempotency_key"

    def test_a_callback_url_is_text_or_absent(self):
        rule = a_rule(callback_url="query.tell")
        assert made(rule, query={"tell": "https://a.example"}).callback_url == "https://a.example"
        assert made(rule).callback_url is None
        assert refused(a_rule(callback_url="issue.number")).field == "callback_url"


class TestBounds:
    def test_content_that_takes_too_many_steps_is_refused(self):
        found = refused(a_rule(when="body[*].a.b.c"), [{}] * MAX_STEPS)
        assert (found.code, found.field) == ("invalid_request", "when")
        assert "too many steps" in found.detail

    def test_the_steps_of_all_expressions_count_together(self):
        body = [0] * (MAX_STEPS // 3)
        assert made(a_rule(inputs={"a": "body[*] | length(@)"}), body).inputs == {"a": len(body)}
        assert refused(a_rule(inputs={str(n): "body[*] | length(@)" for n in range(3)}), body).field == "inputs.2"

    def test_a_list_that_grows_during_evaluation_is_refused(self):
        doubling = " | ".join(["[@, @][]"] * 60)
        assert "too many steps" in refused(a_rule(inputs={"x": f"body | {doubling}"}), [1]).detail

    def test_a_value_that_repeats_itself_is_refused_before_it_is_serialized(self):
        doubling = " | ".join(["[@, @]"] * 60)
        assert refused(a_rule(inputs={"x": f"body | {doubling}"})).code == "too_large"

    def test_nul_is_refused_from_any_source(self):
        with pytest.raises(RequestRefused, match="NUL"):
            mapped(a_rule(inputs={"x": "query.x"}), query={"x": "a\0"})

    @pytest.mark.parametrize("name", ["inputs", "meta"])
    def test_a_large_result_is_refused(self, name: str):
        rule = Rule(**{name: {"x": compile_expression("body.x")}}, max_bytes=1000)  # type: ignore[arg-type]
        assert made(rule, {"x": "a" * 800}).crew == "triage"
        for value in ("a" * 1000, ["a"] * 500, {str(n): n for n in range(100)}):
            assert refused(rule, {"x": value}).code == "too_large"

    def test_the_deepest_permitted_body_can_be_mapped(self):
        body: Any = 1
        for _ in range(MAX_DEPTH - 1):
            body = [body]
        assert made(a_rule(inputs={"x": "body"}), body).inputs == {"x": body}
        assert refused(a_rule(inputs={"x": "[[body]]"}), body).code == "too_large"

    @pytest.mark.parametrize(
        "expression",
        [
            "length(body.n)",
            "sum(body.mixed)",
            "to_number(body.nan)",
            "to_number(body.inf)",
            "ceil(to_number(body.inf))",
            "avg(body.big)",
            "body.n < 'a'",
            "body.list[::0]",
        ],
    )
    def test_an_expression_that_fails_on_the_content_is_refused_without_quoting_it(self, expression: str):
        body = {"n": 1, "mixed": [1, "canary"], "nan": "nan", "inf": "1e999", "big": [10**400, 0.5], "list": [1]}
        found = refused(a_rule(inputs={"x": expression}), body)
        assert found.code == "invalid_request"
        assert "canary" not in found.detail

    def test_a_text_becomes_a_number_only_if_nothing_is_rounded(self):
        rule = a_rule(inputs={"x": "to_number(body.n)"})
        for text, number in [("19.90", 19.9), ("1e2", 100.0), ("12345678901234567890", 12345678901234567890)]:
            assert made(rule, {"n": text}).inputs == {"x": number}
        for text in ("12345678901234567.89", "0.1e-400"):
            assert refused(rule, {"n": text}).field == "inputs.x"

    _json = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abxy"), inner, max_size=4),
        max_leaves=12,
    )

    @given(
        _json,
        st.sampled_from(
            ["a", "[*].a", "*.b[]", "sort_by(a, &b)", "join(',', a)", "keys(@)", "a[?b > `1`].x", "max(a)", "[@, a][]"]
        ),
    )
    def test_any_content_gives_json_or_a_refusal(self, body: Any, expression: str):
        rule = a_rule(
            when=f"body.{expression} || `true`" if expression[0].isalpha() else "`true`", meta={"x": expression}
        )
        try:
            request = mapped(rule, body)
        except RequestRefused:
            return
        assert request is None or json.dumps(request.meta, allow_nan=False)


class TestChecking:
    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("", "is not a JMESPath expression"),
            ("a ==", "is not a JMESPath expression"),
            ("a b", "is not a JMESPath expression, at character 3"),
            ("a # b", "is not a JMESPath expression, at character 3"),
            ("lenght(a)", r"calls lenght\(\), which JMESPath does not have"),
            ("a && b[?nope(x)]", r"calls nope\(\)"),
            ("length(a, b)", r"passes 2 arguments to length\(\) instead of 1"),
            ("not_null()", r"passes 0 arguments to not_null\(\) instead of 1 or more"),
            ("&a", "uses & outside"),
            ("[&a]", "uses & outside"),
            ("a" * (MAX_EXPRESSION + 1), "at most 1000 characters"),
            ("[" * 490 + "a" + "]" * 490, "nested too deeply"),
        ],
    )
    def test_an_invalid_expression_is_reported_when_compiled(self, text: str, sentence: str):
        with pytest.raises(ValueError, match=sentence) as caught:
            compile_expression(text)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("text", ["a[1:2]", "sort_by(a, &b)", "not_null(a, b, c)", "a.*.b", '`{"a": 1}`', "'x'"])
    def test_a_valid_expression_is_compiled(self, text: str):
        assert compile_expression(text).text == text
