"""Settings that change while the bridge runs: valid ones replace the former ones, invalid ones do not."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from structlog.testing import capture_logs

from bridge.config import Renewable, Settings, load_renewable, settings_watch
from bridge.config.changes import SettingsChange
from bridge.config.settings_watch import SettingsWatch
from bridge.core.errors import StoreUnavailable
from bridge.core.runs.quarantine import Quarantined
from tests.component.config.settings_files import WEBHOOK_SECRET, SettingsFiles, with_crew, with_settings
from tests.fakes import Faults
from tests.patience import PATIENCE

OTHER_SECRET = "whsec_ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8="
CANARY = "canary 7f3a9"


@pytest.fixture
def files(tmp_path: Path) -> SettingsFiles:
    return SettingsFiles(tmp_path)


def loaded(
    files: SettingsFiles, tree: dict[str, Any], environ: dict[str, str] | None = None
) -> tuple[Settings, Renewable]:
    return load_renewable(Path(files.file("bridge.yaml", yaml.safe_dump(tree))), environ or {})


def token(settings: Settings | None) -> str | None:
    return None if settings is None else settings.crews["research"].token.get_secret_value()


def test_a_new_secret_is_returned_once(files: SettingsFiles):
    settings, renewable = loaded(files, with_crew(token=None, token_file=files.file("token", "first\n")))
    assert (token(settings), renewable.renewed()) == ("first", (None, []))
    files.file("token", "second-one\n")
    renewed, problems = renewable.renewed()
    assert (token(renewed), problems) == ("second-one", [])
    assert renewable.renewed() == (None, [])


def test_a_replaced_file_of_the_same_size_and_time_is_noticed(files: SettingsFiles):
    """As after a rename, and as container platforms update mounted secrets."""
    _, renewable = loaded(files, with_crew(token=None, token_file=(path := files.file("token", "first"))))
    new = Path(files.file("token.new", "other"))
    os.utime(new, ns=(0, Path(path).stat().st_mtime_ns))
    new.rename(path)
    assert token(renewable.renewed()[0]) == "other"


def test_an_unchanged_secret_is_not_a_change(files: SettingsFiles):
    _, renewable = loaded(files, with_crew(token=None, token_file=(path := files.file("token", "first"))))
    os.utime(path, ns=(0, 0))
    assert renewable.renewed() == (None, [])


@pytest.mark.parametrize("text", ["", "\n", CANARY, "\udcff"])
def test_an_invalid_secret_is_reported_once_and_the_former_one_stays(files: SettingsFiles, text: str):
    other = files.file("s", OTHER_SECRET)
    tree = with_crew(token=None, token_file=files.file("token", "first"), callback_secret_file=other)
    _, renewable = loaded(files, tree)
    (files.folder / "token").write_bytes(text.encode("utf-8", "surrogateescape"))
    settings, [problem] = renewable.renewed()
    assert settings is None
    assert problem.startswith("crews.research.token_file: ")
    assert CANARY not in problem
    assert renewable.renewed() == (None, [])
    files.file("s", WEBHOOK_SECRET)
    assert token(renewable.renewed()[0]) == "first"
    files.file("token", "third")
    assert token(renewable.renewed()[0]) == "third"


def test_a_missing_file_is_reported_once_and_read_when_it_returns(files: SettingsFiles):
    path = Path(files.file("token", "first"))
    _, renewable = loaded(files, with_crew(token=None, token_file=str(path)))
    path.unlink()
    assert renewable.renewed() == (
        None,
        ["crews.research.token_file: the file cannot be read (No such file or directory)"],
    )
    assert renewable.renewed() == (None, [])
    files.file("token", "back")
    assert token(renewable.renewed()[0]) == "back"


def test_an_invalid_file_does_not_delay_a_valid_one(files: SettingsFiles):
    clients = [{"name": name, "token_file": files.file(name, f"{name}-token")} for name in ("a", "b")]
    _, renewable = loaded(files, with_settings(http={"clients": clients}))
    files.file("a", "not good")
    files.file("b", "b-token-2")
    settings, [problem] = renewable.renewed()
    assert settings is not None
    assert [client.token.get_secret_value() for client in settings.http.clients] == ["a-token", "b-token-2"]
    assert problem == "http.clients.0.token_file: must be printable ASCII without spaces, and not empty"


def test_rules_between_settings_apply_to_new_secrets(files: SettingsFiles):
    clients = [{"name": name, "token_file": files.file(name, f"{name}-token")} for name in ("a", "b")]
    _, renewable = loaded(files, with_settings(http={"clients": clients}))
    files.file("b", "a-token")
    assert renewable.renewed() == (None, ["http.clients.1.token_file: must not use one token for two clients"])


def test_every_secret_used_at_run_time_is_renewed(files: SettingsFiles):
    tree = {
        "callbacks": {"secret_file": files.file("callbacks", WEBHOOK_SECRET)},
        "hooks": {
            "a": {"crew": "research", "verify": {"scheme": "github", "secret_file": files.file("github", "one")}},
            "b": {"crew": "research", "verify": {"scheme": "bearer", "token_file": files.file("bearer", "one")}},
        },
        **with_crew(human={"secret_file": files.file("human", "one")}),
    }
    variable = {"BRIDGE_CREWS__RESEARCH__CALLBACK_SECRET_FILE": files.file("crew", WEBHOOK_SECRET)}
    _, renewable = loaded(files, tree, variable)
    for name in ("github", "bearer", "human"):
        files.file(name, f"{name}-two")
    files.file("callbacks", f"{OTHER_SECRET}\n{WEBHOOK_SECRET}\n")
    files.file("crew", OTHER_SECRET)
    settings, problems = renewable.renewed()
    assert (settings is None, problems) == (False, [])
    assert settings is not None
    assert settings.hooks["a"].verify.secret[0].get_secret_value() == "github-two"
    assert settings.hooks["b"].verify.token[0].get_secret_value() == "bearer-two"
    crew = settings.crews["research"]
    assert crew.human is not None
    assert crew.human.secret[0].get_secret_value() == "human-two"
    assert crew.callback_secret[0].get_secret_value() == OTHER_SECRET
    assert [one.get_secret_value() for one in settings.callbacks.secret] == [OTHER_SECRET, WEBHOOK_SECRET]


def test_urls_of_store_and_broker_stay_until_a_restart(files: SettingsFiles):
    tree = with_settings(
        store={"url_file": files.file("store", "sqlite:///a.db")}, amqp={"url_file": files.file("amqp", "amqp://a")}
    )
    _, renewable = loaded(files, tree)
    files.file("store", "sqlite:///b.db")
    files.file("amqp", "amqp://b")
    assert (renewable.files, renewable.renewed()) == ((), (None, []))


class FakeRenewable:
    files = ("token",)

    def __init__(self) -> None:
        self.bugs: list[Exception] = []

    def renewed(self) -> tuple[Any, list[str]]:
        if self.bugs:
            raise self.bugs.pop()
        return "new settings", []


async def test_files_are_read_again_after_an_unexpected_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings_watch, "CHECK_INTERVAL", 0.0)
    renewed, faults = asyncio.Event(), Faults()
    renewable: Any = FakeRenewable()
    renewable.bugs = [ZeroDivisionError(), ZeroDivisionError()]

    async def apply(settings: Settings) -> SettingsChange:
        renewed.set()
        return SettingsChange(settings)

    watch = SettingsWatch(renewable, apply, faults)
    running = asyncio.create_task(watch.run())
    async with asyncio.timeout(PATIENCE):
        await renewed.wait()
    watch.stop()
    await running
    assert faults.kinds == [Quarantined.TASK] * 2


class Applied:
    """Records the settings that the watch applies."""

    def __init__(self) -> None:
        self.tokens: list[str | None] = []

    async def __call__(self, settings: Settings) -> SettingsChange:
        self.tokens.append(token(settings))
        return SettingsChange(settings, ("crews.research",), ("http.port",))


async def test_a_request_applies_the_file_as_it_is_now(files: SettingsFiles) -> None:
    _, renewable = loaded(files, with_crew(token="first"))
    watch = SettingsWatch(renewable, applied := Applied(), Faults())
    loaded(files, with_crew(token="second"))
    await watch.check()
    assert applied.tokens == []
    watch.request()
    with capture_logs() as logs:
        await watch.check()
        await watch.check()
    assert applied.tokens == ["second"]
    assert [(entry["event"], entry["changed"], entry["needs_restart"]) for entry in logs] == [
        ("settings_reloaded", ("crews.research",), ("http.port",))
    ]


async def test_invalid_settings_are_reported_in_full_and_once(files: SettingsFiles) -> None:
    _, renewable = loaded(files, with_crew(token="first"))
    watch = SettingsWatch(renewable, applied := Applied(), Faults(), watch_file=True)
    loaded_tree = with_crew(token=f"two lines\n{CANARY}", max_running=0)
    files.file("bridge.yaml", yaml.safe_dump(loaded_tree))
    with capture_logs() as logs:
        await watch.check()
        await watch.check()
    assert applied.tokens == []
    (rejected,) = logs
    assert (rejected["event"], rejected["log_level"]) == ("settings_rejected", "error")
    assert [line.partition(":")[0] for line in rejected["problems"]] == [
        "crews.research.token", "crews.research.max_running",
    ]  # fmt: skip
    assert CANARY not in f"{logs}"


async def test_a_watched_file_is_applied_when_it_changes(files: SettingsFiles) -> None:
    _, renewable = loaded(files, with_crew(token="first"))
    watch = SettingsWatch(renewable, applied := Applied(), Faults(), watch_file=True)
    await watch.check()
    loaded(files, with_crew(token="second"))
    await watch.check()
    await watch.check()
    assert applied.tokens == ["second"]


async def test_secrets_from_files_are_renewed_after_a_reload(files: SettingsFiles) -> None:
    _, renewable = loaded(files, with_crew(token="first"))
    watch = SettingsWatch(renewable, applied := Applied(), Faults())
    loaded(files, with_crew(token=None, token_file=files.file("token", "second")))
    watch.request()
    await watch.check()
    files.file("token", "third-one")
    await watch.check()
    assert applied.tokens == ["second", "third-one"]


async def test_a_reload_that_needs_an_unavailable_store_is_tried_again(files: SettingsFiles) -> None:
    _, renewable = loaded(files, with_crew(token="first"))
    applied, outages = Applied(), [StoreUnavailable("storage is unavailable")]

    async def apply(settings: Settings) -> SettingsChange:
        if outages:
            raise outages.pop()
        return await applied(settings)

    watch = SettingsWatch(renewable, apply, Faults())
    loaded(files, with_crew(token="second"))
    watch.request()
    with capture_logs() as logs:
        await watch.check()
        await watch.check()
    assert applied.tokens == ["second"]
    assert [entry["event"] for entry in logs] == ["reload_postponed", "settings_reloaded"]
