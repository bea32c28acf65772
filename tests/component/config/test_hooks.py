"""Settings of hooks: fields per scheme, and expressions that are checked at load time."""

from pathlib import Path
from typing import Any, get_args

import pytest

from bridge.adapters.callbacks.signing import build_checker
from bridge.config.hooks import Scheme
from bridge.core.inbound import signatures
from bridge.core.inbound.mapping import scope
from bridge.core.inbound.signatures import AllowAll, Basic, Bearer, HeaderToken, Hmac, StandardWebhooks, Stripe
from tests.component.config.settings_files import WEBHOOK_SECRET, SettingsFiles, with_settings

GITHUB = {"scheme": "github", "secret": "s"}


def hooks(verify: Any = GITHUB, name: str = "shop", **more: Any) -> dict[str, Any]:
    return with_settings(hooks={name: {"crew": "research", "verify": verify, **more}})


@pytest.fixture
def files(tmp_path: Path) -> SettingsFiles:
    return SettingsFiles(tmp_path)


VERIFIERS: list[tuple[dict[str, Any], signatures.Verifier]] = [
    (GITHUB, signatures.github((b"s",))),
    ({"scheme": "slack", "secret": ["new", "old"]}, signatures.slack((b"new", b"old"))),
    ({"scheme": "stripe", "secret": "whsec_x"}, Stripe((b"whsec_x",))),
    ({"scheme": "standard-webhooks", "secret": WEBHOOK_SECRET}, StandardWebhooks((bytes(range(32)),))),
    ({"scheme": "standard-webhooks", "secret": WEBHOOK_SECRET[6:-1]}, StandardWebhooks((bytes(range(32)),))),
    ({"scheme": "hmac", "secret": "a, b", "header": "X-Sig"}, Hmac((b"a, b",), "X-Sig")),
    (
        {
            "scheme": "hmac",
            "secret": "s",
            "header": "X-Sig",
            "algorithm": "sha512",
            "encoding": "base64",
            "prefix": "v=",
            "timestamp_header": "X-Time",
            "tolerance": "1m",
        },
        Hmac((b"s",), "X-Sig", "sha512", "base64", "v=", "X-Time", 60.0),
    ),
    ({"scheme": "basic", "username": "u", "password": "p"}, Basic("u", "p")),
    ({"scheme": "bearer", "token": ["new", "old"]}, Bearer(("new", "old"))),
    ({"scheme": "shopify", "secret": "s"}, signatures.shopify((b"s",))),
    (
        {"scheme": "token", "header": "X-Gitlab-Token", "token": ["new", "old"]},
        HeaderToken("X-Gitlab-Token", ("new", "old")),
    ),
    ({"scheme": "none", "allow_unverified": True}, AllowAll()),
]


class TestVerify:
    def test_no_scheme_is_untested(self):
        assert {verify["scheme"] for verify, _ in VERIFIERS} == set(get_args(Scheme))

    @pytest.mark.parametrize(("verify", "verifier"), VERIFIERS)
    def test_each_scheme_has_its_verifier(self, files: SettingsFiles, verify: dict[str, Any], verifier: Any):
        assert files.load(hooks(verify)).hooks["shop"].verify.verifier(build_checker) == verifier

    @pytest.mark.parametrize(
        ("verify", "start"),
        [
            ({"scheme": "github"}, "hooks.shop.verify.secret: is required for the scheme github (or secret_file)"),
            ({"scheme": "hmac", "secret": "s"}, "hooks.shop.verify.header: is required for the scheme hmac"),
            ({"scheme": "basic", "password": "p"}, "hooks.shop.verify.username: is required"),
            (
                {"scheme": "basic", "username": "a:b", "password": "p"},
                "hooks.shop.verify.username: must not contain a colon",
            ),
            ({"scheme": "basic", "username": "u"}, "hooks.shop.verify.password: is required"),
            ({"scheme": "bearer"}, "hooks.shop.verify.token: is required"),
            ({"scheme": "bearer", "token": ["t", "a b"]}, "hooks.shop.verify.token.1: must be printable ASCII"),
            (
                {"scheme": "standard-webhooks", "secret": ["whpk_AAAA"]},
                "hooks.shop.verify.secret: must be whpk_ followed by the base64 of 32 bytes",
            ),
            ({"scheme": "none"}, "hooks.shop.verify.allow_unverified: must be true for the scheme none"),
            ({**GITHUB, "allow_unverified": True}, "hooks.shop.verify.allow_unverified: does not apply"),
            ({**GITHUB, "header": "X-Sig"}, "hooks.shop.verify.header: does not apply to the scheme github"),
            ({**GITHUB, "tolerance": "1m"}, "hooks.shop.verify.tolerance: does not apply to the scheme github"),
            ({**GITHUB, "token": "t"}, "hooks.shop.verify.token: does not apply to the scheme github"),
            ({"scheme": "github", "secret": ["s", ""]}, "hooks.shop.verify.secret: must not be empty"),
            ({"scheme": "github", "secret": "\ufeffs"}, "hooks.shop.verify.secret: begins with a byte order mark"),
            ({"scheme": "github", "secret": "s "}, "hooks.shop.verify.secret: begins or ends with white space"),
            ({"scheme": "github", "secret": "\u200bs"}, "hooks.shop.verify.secret: begins or ends with white space"),
            ({"scheme": "github", "secret": "s\ufeff"}, "hooks.shop.verify.secret: begins or ends with white space"),
            (
                {"scheme": "basic", "username": "u ", "password": "p"},
                "hooks.shop.verify.username: begins or ends with white space",
            ),
            ({"scheme": "stripe", "secret": "s\n"}, "hooks.shop.verify.secret: begins or ends with white space"),
            (
                {"scheme": "basic", "username": "u", "password": "p\n"},
                "hooks.shop.verify.password: begins or ends with white space",
            ),
            ({"scheme": "token", "token": "t"}, "hooks.shop.verify.header: is required for the scheme token"),
            ({"scheme": "token", "header": "X-T"}, "hooks.shop.verify.token: is required for the scheme token"),
            ({"scheme": "standard-webhooks", "secret": "whsec_"}, "hooks.shop.verify.secret: must be whsec_"),
            ({"scheme": "hmac", "secret": "s", "header": "X Sig"}, "hooks.shop.verify.header: must be the name of"),
            ({"scheme": "gitlab", "secret": "s"}, "hooks.shop.verify.scheme: must be standard-webhooks, github"),
            ({"secret": "s"}, "hooks.shop.verify.scheme: is required"),
            ({**GITHUB, "secrets": "s"}, "hooks.shop.verify.secrets: unknown setting; did you mean secret?"),
        ],
    )
    def test_a_setting_that_does_not_fit_the_scheme_is_the_only_problem_reported(
        self, files: SettingsFiles, verify: Any, start: str
    ):
        (problem,) = files.problems(hooks(verify))
        assert problem.startswith(start)

    def test_a_secret_may_come_from_a_file_or_the_environment(self, files: SettingsFiles):
        filed = files.load(hooks({"scheme": "github", "secret_file": files.file("secret", "s\n")}))
        named = files.load(hooks({"scheme": "github"}), {"BRIDGE_HOOKS__SHOP__VERIFY__SECRET": "s"})
        listed = files.load(hooks({"scheme": "github"}), {"BRIDGE_HOOKS__SHOP__VERIFY__SECRET__0": "s"})
        for settings in (filed, named, listed):
            assert settings.hooks["shop"].verify.verifier(build_checker) == signatures.github((b"s",))


class TestHook:
    @pytest.mark.parametrize(
        ("more", "start"),
        [
            ({"crew": "none"}, "hooks.shop.crew: must name a crew that is configured"),
            ({"when": "action = 'opened'"}, "hooks.shop.when: is not a JMESPath expression, at character"),
            ({"when": True}, "hooks.shop.when: must be a string"),
            ({"inputs": {"title": "nope(a)"}}, "hooks.shop.inputs.title: calls nope()"),
            ({"inputs": ["a"]}, "hooks.shop.inputs: must be a section of settings"),
            ({"meta": {"n": 5}}, "hooks.shop.meta.n: must be a string"),
            ({"idempotency_key": "a ||"}, "hooks.shop.idempotency_key: is not a JMESPath expression"),
            ({"callback_url": "https://a.example"}, "hooks.shop.callback_url: is not a JMESPath expression"),
            ({"input": {}}, "hooks.shop.input: unknown setting; did you mean inputs?"),
        ],
    )
    def test_an_invalid_rule_is_the_only_problem_reported(self, files: SettingsFiles, more: dict[str, Any], start: str):
        (problem,) = files.problems(hooks(**more))
        assert problem.startswith(start)

    @pytest.mark.parametrize("name", ["a/b", "a.b", "", "x" * 65])
    def test_the_name_of_a_hook_is_a_valid_path_segment(self, files: SettingsFiles, name: str):
        (problem,) = files.problems(hooks(name=name))
        assert "a hook's name is 1 to 64 letters" in problem

    def test_names_of_inputs_keep_their_case_in_the_environment(self, files: SettingsFiles):
        environ = {"BRIDGE_HOOKS__SHOP__INPUTS__Order": "body.o", "BRIDGE_HOOKS__SHOP__META__Who": "body.w"}
        hook = files.load(hooks(inputs={"text": "body.t"}), environ).hooks["shop"]
        assert (hook.inputs, hook.meta) == ({"text": "body.t", "Order": "body.o"}, {"Who": "body.w"})

    @pytest.mark.parametrize(
        ("scheme", "headers", "body", "key"),
        [
            ("github", {"x-github-delivery": "d-1"}, {}, "d-1"),
            ("standard-webhooks", {"webhook-id": "msg_1"}, {}, "msg_1"),
            ("stripe", {}, {"id": "evt_1"}, "evt_1"),
            ("slack", {}, {"event_id": "Ev1"}, "Ev1"),
        ],
    )
    def test_a_scheme_with_ids_has_a_key_of_its_own(
        self, files: SettingsFiles, scheme: str, headers: Any, body: Any, key: str
    ):
        hook = files.load(hooks({"scheme": scheme, "secret": WEBHOOK_SECRET})).hooks["shop"]
        request = hook.rule(1000).request(scope(body, headers, query={}), "research")
        assert request is not None
        assert request.idempotency_key == key

    def test_a_hook_maps_as_configured(self, files: SettingsFiles):
        more: dict[str, Any] = {
            "when": "a",
            "inputs": {"x": "a"},
            "meta": {"y": "b"},
            "idempotency_key": "b",
            "callback_url": "c",
        }
        rule = files.load(hooks(**more)).hooks["shop"].rule(1000)
        request = rule.request(scope({"a": 1, "b": "k", "c": "https://c.example"}, {}, query={}), "research")
        assert request is not None
        found = (request.inputs, request.meta, request.idempotency_key, request.callback_url)
        assert found == ({"x": 1}, {"y": "k"}, "k", "https://c.example")
        assert rule.max_bytes == 1000
