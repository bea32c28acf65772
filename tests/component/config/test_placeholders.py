"""Placeholders in deploy/ and the docs are refused as secrets, in every secret field."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.config.names import SECRETS
from tests.component.config.settings_files import SettingsFiles

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES += [path for path in sorted((ROOT / "deploy").rglob("*")) if path.is_file()]
SHOWN = (
    re.compile(
        r"(?:\b\w*(?:token|secret|password|passwd))\"?: *\"?(?!null|\w+\.\w)([\w+/=-]{4,})\"?(?=[\s,}]|$)", re.MULTILINE
    ),
    re.compile(r"\$\{\w*(?:TOKEN|SECRET|PASSWORD)\w*:-([^}]+)\}"),
    re.compile(r"Bearer ([\w-]{4,})"),
    re.compile(r"\b(wh(?:sec|sk)_[\w+/=-]{16,})"),
    re.compile(r"(postgresql://\w+:\w+@\w+/\w+)"),
)
"""Where an example shows a secret: in a setting, as the default of a variable, in a header, in a URL."""

WORDS = {"printable", "HTTP"}  # placeholders in prose, not in values
SANDBOX = "sandbox-token"


def placeholders() -> set[str]:
    texts = [path.read_text(encoding="utf-8") for path in PAGES]
    return {found for text in texts for shape in SHOWN for found in shape.findall(text)} - WORDS


def test_the_examples_contain_placeholders() -> None:
    """Otherwise the next test would prove nothing."""
    assert {"replace-me-orders-token", "replace-me-research-token", SANDBOX} < placeholders()
    assert any(one.startswith("whsec_") for one in placeholders())


def with_secret(path: tuple[str, ...], secret: str) -> dict[str, Any]:
    """Valid settings with this value in one secret field."""
    crew = {"url": "https://crew.example.com", "token": "a-token"}
    verify: dict[str, Any] = {
        "password": {"scheme": "basic", "username": "u"},
        "token": {"scheme": "bearer"},
    }.get(path[-1], {"scheme": "github", "secret": "a-secret-of-ours"})
    tree: dict[str, Any] = {"crews": {"a": crew}, "hooks": {"b": {"crew": "a", "verify": verify, "inputs": {}}}}
    match path:
        case (name,):
            tree[name] = secret
        case ("http", *_):
            tree["http"] = {"clients": [{"name": "c", "token": secret}]}
        case ("amqp" | "store" | "callbacks" as section, name):
            tree[section] = {name: secret}
        case ("destinations", "*", name):
            tree["destinations"] = {"d": {"url": "https://crm.example.com", name: secret}}
        case ("crews", "*", "human", name):
            crew["human"] = {name: [secret]}  # type: ignore[assignment]
        case ("crews", "*", name):
            crew[name] = secret
        case _:
            verify[path[-1]] = secret
    return tree


def cases() -> Iterator[tuple[tuple[str, ...], str]]:
    for path in SECRETS:
        for secret in sorted(placeholders()):
            scheme = {"amqp": "amqp", "store": "postgresql"}.get(path[0], "http")
            if path[-1] not in ("url", "proxy"):
                yield path, secret
            elif "://" not in secret:
                yield path, f"{scheme}://bridge:{secret}@db.example.com{'' if scheme == 'http' else '/bridge'}"
            elif scheme != "http":
                yield path, secret.replace("postgresql", scheme)


@pytest.fixture
def files(tmp_path: Path) -> SettingsFiles:
    return SettingsFiles(tmp_path)


@pytest.mark.parametrize(("path", "secret"), [*cases()], ids=lambda one: one if isinstance(one, str) else ".".join(one))
def test_a_placeholder_is_refused_with_a_remedy(files: SettingsFiles, path: tuple[str, ...], secret: str) -> None:
    problems = files.problems(with_secret(path, secret))
    name = ".".join(path).replace("*", r"\w+")
    assert [
        line
        for line in problems
        if re.match(rf"{name}\b.*(replace it|public token of the sandbox|must be whsec_)", line)
    ]
    assert secret not in "".join(problems)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8090", "http://localhost:8090", "http://[::1]:8090"])
def test_the_sandbox_token_is_for_crews_on_this_machine(files: SettingsFiles, url: str) -> None:
    files.load({"crews": {"research": {"url": url, "token": SANDBOX}}})


@pytest.mark.parametrize(
    "secret", ["CHANGEME-please", "change_me", "my-Placeholder", "cmVwbGFjZS1tZS1ub3c", "changeit"]
)
def test_other_common_placeholders_are_refused(files: SettingsFiles, secret: str) -> None:
    [problem] = files.problems({"crews": {"research": {"url": "https://c.example.com", "token": secret}}})
    assert problem.startswith("crews.research.token: is a placeholder")


@pytest.mark.parametrize(
    "secret", ["exchange-meeting-9", "a" * 40, "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="]
)
def test_secrets_are_not_mistaken_for_placeholders(files: SettingsFiles, secret: str) -> None:
    files.load({"crews": {"research": {"url": "https://c.example.com", "token": secret}}})


def test_a_file_that_contains_a_placeholder_is_refused(files: SettingsFiles) -> None:
    file = files.file("token", "replace-me-research-token\n")
    [problem] = files.problems({"crews": {"research": {"url": "https://c.example.com", "token_file": file}}})
    assert "is a placeholder" in problem
