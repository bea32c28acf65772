"""Every setting that deploy/bridge.example.yaml shows in a comment is valid, with the value shown there."""

import re
import textwrap
from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from bridge.config import SettingsError, load
from tests.certificates import Files

EXAMPLE = Path(__file__).parent.parent / "deploy" / "bridge.example.yaml"
SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
_COMMENTED = re.compile(r"( *)# ( *)(?:- )?[a-z][a-z_-]*:(?: .*)?")
_ACTIVE = re.compile(r"( *)(?:- )?([a-z][a-z_-]*):.*")
_ALTERNATIVES = re.compile(r" *([a-z_]+): \w+ +# (\w+(?: \| \w+)+)")


def variants(text: str, settings: Any, above: Sequence[str] = ()) -> Iterator[tuple[str, Any]]:
    """The settings with each one that a comment of the text shows, also in the comments of such a section.

    `above`: the sections that contain the text.
    """
    lines, sections, end = text.splitlines(), list[tuple[int, str]](), 0
    for number, line in enumerate(lines):
        if number < end:
            continue  # part of the setting above
        if active := _ACTIVE.fullmatch(line):
            sections = [*_outside(sections, len(active[1])), (len(active[1]), active[2])]
            path = [*above, *(name for _, name in sections)]
            if alternatives := _ALTERNATIVES.match(line):
                for word in alternatives[2].split(" | "):
                    yield f"{'.'.join(path)}: {word}", with_setting(settings, path[:-1], {alternatives[1]: word})
        elif commented := _COMMENTED.fullmatch(line):
            column = len(commented[1]) + len(commented[2])
            sections = _outside(sections, column)
            path = [*above, *(name for _, name in sections)]
            section = uncommented(lines[number:], len(commented[1]), column)
            changed = with_setting(settings, path, yaml.safe_load(section))
            end = number + len(section.splitlines())
            yield f"{'.'.join(path)}: {section}", changed
            yield from variants(section, changed, path)


def _outside(sections: list[tuple[int, str]], column: int) -> list[tuple[int, str]]:
    return [section for section in sections if section[0] < column]


def uncommented(lines: Sequence[str], mark: int, column: int) -> str:
    """The first line and those that are indented more, all commented out at the column `mark`."""
    found = [lines[0][:mark] + lines[0][mark + 2 :]]
    for line in lines[1:]:
        text = line[:mark] + line[mark + 2 :]
        if line[mark : mark + 2] != "# " or len(text) - len(text.lstrip()) <= column:
            break
        found.append(text)
    return textwrap.dedent("\n".join(found))


def with_setting(settings: Any, path: Sequence[str], added: Any) -> Any:
    """A copy with the members added to a section, or the items to a list."""
    changed = deepcopy(settings)
    section = changed
    for name in path:
        section = section[name]
    section.extend(added) if isinstance(section, list) else section.update(added)
    return changed


def example(folder: Path) -> str:
    """The text of the example, whose files of secrets and certificates exist."""
    pem = Files(folder, "tls")
    text = EXAMPLE.read_text("utf-8").replace("/etc/bridge/tls.crt", pem.path("tls.pem"))
    text = text.replace("/etc/bridge", str(folder)).replace("/run/secrets", str(folder))
    for file in re.findall(r"_file: ([^\s,}]+)", text):
        if not Path(file).exists():
            Path(file).write_text(SECRET)
    return text


def test_every_setting_in_a_comment_is_valid(tmp_path: Path) -> None:
    text = example(tmp_path)
    environ = dict.fromkeys(re.findall(r"\$\{(\w+)", text), SECRET)
    environ |= {"ORDERS_TOKEN": "another", "OPERATOR_TOKEN": "a-third"}
    environ |= {"RESEARCH_URL": "https://research.crewai.com", "AMQP_URL": "amqp://broker"}
    problems, shown = list[tuple[str, str]](), list(variants(text, yaml.safe_load(text)))
    for name, settings in shown:
        (tmp_path / "bridge.yaml").write_text(yaml.safe_dump(settings))
        try:
            load(tmp_path / "bridge.yaml", environ)
        except SettingsError as error:
            problems.append((name, str(error)))
    assert problems == []
    sections = {name.partition(":")[0] for name, _ in shown}
    assert sections >= {
        "",
        "http",
        "http.clients",
        "amqp",
        "crews.research",
        "crews.research.poll",
        "callbacks",
        "hooks.other",
    }
    assert len(shown) > 30
