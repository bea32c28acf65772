"""The Chinese pages contain the commands, settings, tables, and links of the English ones; only the prose differs."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
README, CHINESE = ROOT / "README.md", ROOT / "README.zh-CN.md"
INSTALL, QUICKSTART = ROOT / "docs" / "install.md", ROOT / "docs" / "zh" / "quickstart.md"
TRIED = "Try it"
"""The section of README.md whose translation is part of the quick start."""

_BLOCK = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)|<(https?://[^>]+)>")


def sections(page: Path) -> dict[str, str]:
    """The text under each heading of the second level; that before the first one under the name ''."""
    parts = re.split(r"^## (.+)$", page.read_text("utf-8"), flags=re.MULTILINE)
    return dict(zip(["", *parts[1::2]], parts[::2], strict=True))


def pairs() -> Iterator[Any]:
    """Each section of a Chinese page with the English one."""
    english, chinese = sections(README), sections(CHINESE)
    for (title, ours), theirs in zip(english.items(), chinese.values(), strict=True):
        if title != TRIED:
            yield pytest.param(README, ours, CHINESE, theirs, id=f"README: {title or 'the beginning'}")
    started = list(sections(QUICKSTART).values())
    for number, (page, title) in enumerate(((README, TRIED), (INSTALL, "From the wheel")), 1):
        yield pytest.param(page, sections(page)[title], QUICKSTART, started[number], id=f"quick start: {title}")


def facts(page: Path, text: str) -> dict[str, Any]:
    """What both languages have in common: code as it is, rows of tables with their code, links with their targets."""
    prose = _BLOCK.sub("", text)
    rows = [line for line in prose.splitlines() if line.startswith("|")]
    return {
        "code blocks": _BLOCK.findall(text),
        "code": sorted(re.findall(r"`[^`\n]+`", prose)),
        "rows of tables": [(row.count("|"), sorted(re.findall(r"`[^`\n]+`", row))) for row in rows],
        "links": sorted(target for link in _LINK.findall(prose) if not is_language(target := leads_to(page, *link))),
        "headings": len(re.findall(r"^###+ ", prose, re.MULTILINE)),
        "items of lists": len(re.findall(r"^- ", prose, re.MULTILINE)),
    }


def leads_to(page: Path, link: str, address: str) -> str:
    if address or "://" in link:
        return address or link
    path, hash_, anchor = link.partition("#")
    return f"{(page.parent / path).resolve().relative_to(ROOT) if path else page.name}{hash_}{anchor}"


def is_language(target: str) -> bool:
    """Whether a link leads from one language to the other."""
    return target in {"README.md", "README.zh-CN.md", "docs/zh/quickstart.md"}


@pytest.mark.parametrize(("english_page", "english", "chinese_page", "chinese"), list(pairs()))
def test_a_section_has_the_commands_settings_tables_and_links_of_the_english_one(
    english_page: Path, english: str, chinese_page: Path, chinese: str
) -> None:
    assert facts(chinese_page, chinese) == facts(english_page, english), "translate what has changed"


def test_each_language_links_to_the_other() -> None:
    assert "(README.zh-CN.md)" in README.read_text()
    assert "(docs/zh/quickstart.md)" in sections(README)[TRIED]
    assert "(README.md)" in CHINESE.read_text()
    assert "(../../README.md#try-it)" in QUICKSTART.read_text()
