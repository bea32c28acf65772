"""Secrets from files are read again: what is good is taken, what is not leaves the former one in use."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.config import Renewable, Settings, load_renewable
from tests.component.config.settings_files import WEBHOOK_SECRET, Desk, with_crew, with_settings

OTHER_SECRET = "whsec_ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8="
CANARY = "canary 7f3a9"


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def loaded(desk: Desk, tree: dict[str, Any], environ: dict[str, str] | None = None) -> tuple[Settings, Renewable]:
    return load_renewable(Path(desk.file("bridge.yaml", yaml.safe_dump(tree))), environ or {})


def token(settings: Settings | None) -> str | None:
    return None if settings is None else settings.crews["research"].token.get_secret_value()


def test_a_new_text_is_taken_once(desk: Desk):
    settings, renewable = loaded(desk, with_crew(token=None, token_file=desk.file("token", "first\n")))
    assert (token(settings), renewable.renewed()) == ("first", (None, []))
    desk.file("token", "second-one\n")
    renewed, problems = renewable.renewed()
    assert (token(renewed), problems) == ("second-one", [])
    assert renewable.renewed() == (None, [])


def test_a_file_that_is_replaced_by_one_of_the_same_size_and_time_is_noticed(desk: Desk):
    """As a rename does it, and as secrets are swapped that are mounted into a container."""
    _, renewable = loaded(desk, with_crew(token=None, token_file=(path := desk.file("token", "first"))))
    new = Path(desk.file("token.new", "other"))
    os.utime(new, ns=(0, Path(path).stat().st_mtime_ns))
    new.rename(path)
    assert token(renewable.renewed()[0]) == "other"


def test_the_same_text_again_is_nothing_new(desk: Desk):
    _, renewable = loaded(desk, with_crew(token=None, token_file=(path := desk.file("token", "first"))))
    os.utime(path, ns=(0, 0))
    assert renewable.renewed() == (None, [])


@pytest.mark.parametrize("text", ["", "\n", CANARY, "\udcff"])
def test_what_is_not_good_is_told_once_and_the_former_one_stays(desk: Desk, text: str):
    other = desk.file("s", OTHER_SECRET)
    tree = with_crew(token=None, token_file=desk.file("token", "first"), callback_secret_file=other)
    _, renewable = loaded(desk, tree)
    (desk.folder / "token").write_bytes(text.encode("utf-8", "surrogateescape"))
    settings, [problem] = renewable.renewed()
    assert settings is None
    assert problem.startswith("crews.research.token_file: ")
    assert CANARY not in problem
    assert renewable.renewed() == (None, [])
    desk.file("s", WEBHOOK_SECRET)
    assert token(renewable.renewed()[0]) == "first"
    desk.file("token", "third")
    assert token(renewable.renewed()[0]) == "third"


def test_a_file_that_is_gone_is_told_once_and_taken_when_it_is_back(desk: Desk):
    path = Path(desk.file("token", "first"))
    _, renewable = loaded(desk, with_crew(token=None, token_file=str(path)))
    path.unlink()
    assert renewable.renewed() == (
        None,
        ["crews.research.token_file: the file cannot be read (No such file or directory)"],
    )
    assert renewable.renewed() == (None, [])
    desk.file("token", "back")
    assert token(renewable.renewed()[0]) == "back"


def test_one_bad_file_does_not_hold_up_a_good_one(desk: Desk):
    clients = [{"name": name, "token_file": desk.file(name, f"{name}-token")} for name in ("a", "b")]
    _, renewable = loaded(desk, with_settings(http={"clients": clients}))
    desk.file("a", "not good")
    desk.file("b", "b-token-2")
    settings, [problem] = renewable.renewed()
    assert settings is not None
    assert [client.token.get_secret_value() for client in settings.http.clients] == ["a-token", "b-token-2"]
    assert problem == "http.clients.0.token_file: must be printable ASCII without spaces, and not empty"


def test_rules_between_settings_hold_for_new_secrets_too(desk: Desk):
    clients = [{"name": name, "token_file": desk.file(name, f"{name}-token")} for name in ("a", "b")]
    _, renewable = loaded(desk, with_settings(http={"clients": clients}))
    desk.file("b", "a-token")
    assert renewable.renewed() == (None, ["http.clients.1.token_file: must not use one token for two clients"])


def test_every_secret_that_is_used_while_running_is_renewed(desk: Desk):
    tree = {
        "callbacks": {"secret_file": desk.file("callbacks", WEBHOOK_SECRET)},
        "hooks": {
            "a": {"crew": "research", "verify": {"scheme": "github", "secret_file": desk.file("github", "one")}},
            "b": {"crew": "research", "verify": {"scheme": "bearer", "token_file": desk.file("bearer", "one")}},
        },
        **with_crew(human={"secret_file": desk.file("human", "one")}),
    }
    variable = {"BRIDGE_CREWS__RESEARCH__CALLBACK_SECRET_FILE": desk.file("crew", WEBHOOK_SECRET)}
    _, renewable = loaded(desk, tree, variable)
    for name in ("github", "bearer", "human"):
        desk.file(name, f"{name}-two")
    desk.file("callbacks", f"{OTHER_SECRET}\n{WEBHOOK_SECRET}\n")
    desk.file("crew", OTHER_SECRET)
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


def test_the_addresses_of_store_and_broker_stay_until_a_restart(desk: Desk):
    tree = with_settings(
        store={"url_file": desk.file("store", "sqlite:///a.db")}, amqp={"url_file": desk.file("amqp", "amqp://a")}
    )
    _, renewable = loaded(desk, tree)
    desk.file("store", "sqlite:///b.db")
    desk.file("amqp", "amqp://b")
    assert (renewable.files, renewable.renewed()) == ((), (None, []))
