"""The console's files, without a browser: both languages have every text, and nothing becomes markup."""

import re
from importlib import resources

import pytest

FILES = {file.name: file.read_text() for file in resources.files("bridge").joinpath("console").iterdir()}
MARKUP = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "DOMParser", "eval(", "new Function")
SVG = "http://www.w3.org/2000/svg"  # a name, which no browser loads
NAME = re.compile(r'^  "([^"]+)": ', re.MULTILINE)


def test_both_languages_have_the_same_texts() -> None:
    assert NAME.findall(FILES["en.js"]) == NAME.findall(FILES["zh.js"])


def test_every_text_that_a_view_names_exists() -> None:
    named = {name for text in FILES.values() for name in re.findall(r'\bt\("([^"]+)"', text)}

    assert named - {*NAME.findall(FILES["en.js"])} == set()


@pytest.mark.parametrize("name", sorted(FILES))
def test_no_file_makes_markup_of_texts_or_names_another_origin(name: str) -> None:
    assert [word for word in MARKUP if word in FILES[name]] == []
    assert re.findall(r"https?://|[\"']//", FILES[name].replace(SVG, "")) == []
