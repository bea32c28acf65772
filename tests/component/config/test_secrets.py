"""Secrets in settings: no message and no repr contains one; names and values of loaded settings."""

import json
from pathlib import Path
from typing import Any

import pytest

from bridge.config import secret_values, setting_names
from tests.component.config.settings_files import SMALLEST, WEBHOOK_SECRET, SettingsFiles, with_crew, with_settings

CANARY = "canary-7f3a9"
MISTAKES: list[Any] = [
    CANARY,
    f"{CANARY} {CANARY}",
    f"{CANARY}\n",
    f"{CANARY}é",
    f"amqp://user:{CANARY}/x@host",
    f"http://user:{CANARY}@host",
    f"amqp://user:{CANARY}@host/?no_verify_ssl=1",
    f"postgresql://user:{CANARY}@host/db",
    f"whsec_{CANARY}",
    f'["{CANARY}"',
    f'[{{"{CANARY}é": 1}}]',
    f"${{{CANARY}}}",
    f"$${{{CANARY}}}",
    [CANARY],
    [[CANARY]],
    {"inner": CANARY},
    [{"inner": CANARY}],
]
SECRET_PLACES = [
    "http.clients.0.token",
    "http.clients.0.token_file",
    "amqp.url",
    "amqp.url_file",
    "store.url",
    "store.url_file",
    "crews.research.token",
    "crews.research.token_file",
    "crews.research.callback_url",
    "callbacks.secret",
    "callbacks.secret_file",
    "hooks.github",
    "hooks.github.verify",
    "hooks.github.verify.scheme",
    "hooks.github.verify.secret",
    "hooks.github.verify.secret_file",
    "hooks.github.verify.password",
    "hooks.github.verify.token",
    "hooks.github.when",
    "hooks.github.inputs.title",
    "public_url",
    "crews.research.url",
]


def planted(location: str, value: Any) -> dict[str, Any]:
    """Minimal settings with this value at this path, and one certain mistake elsewhere."""
    tree: dict[str, Any] = json.loads(json.dumps({**SMALLEST, "http": {"port": "x", "clients": [{"name": "a"}]}}))
    *parents, name = location.split(".")
    node: Any = tree
    for parent in parents:
        node = node[int(parent)] if isinstance(node, list) else node.setdefault(parent, {})
    node[name] = value
    return tree


@pytest.fixture
def files(tmp_path: Path) -> SettingsFiles:
    return SettingsFiles(tmp_path)


class TestSecretsAreHidden:
    @pytest.mark.parametrize("location", SECRET_PLACES)
    def test_no_mistake_in_the_file_reveals_the_value(self, files: SettingsFiles, location: str) -> None:
        problems = [files.problems(planted(location, mistake)) for mistake in MISTAKES]
        assert CANARY not in str(problems)

    @pytest.mark.parametrize("location", SECRET_PLACES)
    def test_no_mistake_in_the_environment_reveals_the_value(self, files: SettingsFiles, location: str) -> None:
        variable = "BRIDGE_" + location.upper().replace(".", "__")
        texts = [mistake for mistake in MISTAKES if isinstance(mistake, str)]
        problems = [files.problems(with_settings(http={"port": "x"}), {variable: text}) for text in texts]
        assert CANARY not in str(problems)

    def test_the_repr_of_settings_contains_no_secret(self, files: SettingsFiles) -> None:
        settings = files.load(everything_secret(files))
        shown = repr(settings) + str(settings) + settings.model_dump_json()
        assert not [secret for secret in PLANTED if secret in shown]

    def test_logged_urls_contain_no_password(self, files: SettingsFiles) -> None:
        settings = files.load(everything_secret(files))
        assert settings.amqp is not None
        assert (settings.amqp.location, settings.store.location) == ("broker:5672/", "kickoff-bridge.db")

    def test_secret_values_returns_every_secret(self, files: SettingsFiles) -> None:
        assert secret_values(files.load(everything_secret(files))) >= PLANTED


PLANTED = {
    "client-token",
    "broker%40password",
    "broker@password",
    "crew-token",
    "https://cb.example.com/?t=q",
    WEBHOOK_SECRET,
    "hook-secret-1",
    "hook-secret-2",
    "hook-password",
    "hook-token",
}


def everything_secret(files: SettingsFiles) -> dict[str, Any]:
    return {
        "http": {"clients": [{"name": "a", "token": "client-token"}]},
        "amqp": {"url": "amqp://user:broker%40password@broker"},
        "callbacks": {"secret": [WEBHOOK_SECRET]},
        "hooks": {
            "a": {"crew": "research", "verify": {"scheme": "github", "secret": ["hook-secret-1", "hook-secret-2"]}},
            "b": {
                "crew": "research",
                "verify": {"scheme": "basic", "username": "u", "password_file": files.file("pass", "hook-password")},
            },
            "c": {"crew": "research", "verify": {"scheme": "bearer", "token": "hook-token"}},
        },
        **with_crew(
            token_file=files.file("token", "crew-token"), token=None, callback_url="https://cb.example.com/?t=q"
        ),
    }


class TestNames:
    def test_all_settings_are_named(self) -> None:
        assert {
            "public_url",
            "http.clients.*.token",
            "amqp.reply_to",
            "crews.*.human.deadline",
            "crews.*.poll.min_interval",
            "hooks.*.verify.secret",
            "hooks.*.inputs",
            "log.format",
        } <= set(setting_names())
