"""The console's files, without a browser: both languages have every text, and nothing becomes markup."""

import re
from importlib import resources
from typing import get_args

import pytest

from bridge.core.delivery.model import DeliveryState
from bridge.core.runs.history import HistoryEvent
from bridge.core.runs.model import State
from bridge.core.runs.waiting import Reason

FILES = {file.name: file.read_text() for file in resources.files("bridge").joinpath("console").iterdir()}
MARKUP = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "DOMParser", "eval(", "new Function")
SVG = "http://www.w3.org/2000/svg"  # a name, which no browser loads
NAME = re.compile(r'^  "([^"]+)": ', re.MULTILINE)
TEXT = re.compile(r'^  "([^"]+)": "(.*)",$', re.MULTILINE)
ALIKE = {"run.crew", "attempt.code", "detail.command", "detail.type"}  # terms and values, in both languages


def test_both_languages_have_the_same_texts() -> None:
    assert NAME.findall(FILES["en.js"]) == NAME.findall(FILES["zh.js"])


def test_texts_are_translated_with_their_placeholders() -> None:
    english, chinese = (dict(TEXT.findall(FILES[name])) for name in ("en.js", "zh.js"))
    assert {name for name, text in english.items() if chinese[name] == text} == ALIKE
    for name, text in english.items():
        assert sorted(re.findall(r"{\w+}", text)) == sorted(re.findall(r"{\w+}", chinese[name])), name


def test_every_state_reason_and_event_has_a_text() -> None:
    """One without a text is shown as it is in the code, in every language."""
    shown = {"state": State, "waiting": Reason, "history": get_args(HistoryEvent), "delivery": DeliveryState}
    named = {f"{kind}.{name}" for kind, names in shown.items() for name in names}
    assert named - {*NAME.findall(FILES["en.js"])} == set()


def test_every_text_that_a_view_names_exists() -> None:
    named = {name for text in FILES.values() for name in re.findall(r'\bt\("([^"]+)"', text)}

    assert named - {*NAME.findall(FILES["en.js"])} == set()


@pytest.mark.parametrize("name", sorted(FILES))
def test_no_file_makes_markup_of_texts_or_names_another_origin(name: str) -> None:
    assert [word for word in MARKUP if word in FILES[name]] == []
    assert re.findall(r"https?://|[\"']//", FILES[name].replace(SVG, "")) == []
