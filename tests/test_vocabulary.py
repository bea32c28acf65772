"""Retired terms do not reappear: each pattern matches a home-made term that a standard term has replaced."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("deploy/**/*.yaml")]
CONSOLE = [path for path in ROOT.glob("bridge/console/*") if path.is_file()]
SOURCES = [*ROOT.glob("bridge/**/*.py"), *ROOT.glob("bridge/**/*.yaml"), *ROOT.glob("bench/**/*.py"), *CONSOLE]
TESTS = [path for path in ROOT.glob("tests/**/*.py") if path != Path(__file__)]

# The value is the replacement. A term is listed only if it has no ordinary meaning.
RETIRED = {
    r"(?<!to )\b(?:a|each|every|one|two|five|first|next|last|past|overdue) looks?\b(?! (?:at the docs|like))": "poll",
    r"\blooks? at (?:a|the|its|their) status\b|\blooks_|_looks?\b|\blooks per run\b": "poll",
    r"\bwish(?:es|ed)?\b": "command",
    r"(?<!type )(?<!type-)\bhint(?:s|ed|ing)?\b|PassedHint": "crew webhook",
    r"\btestimon(?:y|ies)\b": "webhook result",
    r"\bweather\b": "transient error, outage",
    r"\bcensus\b": "membership",
    r"\bstrangers?\b": "unauthenticated caller",
    r"\btimetables?\b|\bTimetable\b": "poll queue",
    r"\b(?:a|the|its|of) talks?\b|\btalk_|_talk\b": "human_input",
    r"\bseal(?:s|ed|ing)?\b": "signature_digest",
    r"\bbur(?:y|ies|ied)\b": "expire",
    r"\bwhoever\b": "the caller, the process that …",
    r"\bsomebody\b|(?<!['\"])\bnobody\b": "a caller, no process …",
    r"\bg(?:ive|ives|ave|iven|iving) back\b": "return, release",
    r"\b(?:is|are|was|were|be|been) told\b": "is reported, is notified",
    r"\bof one's own\b": "its own …, separate",
    r"\bfor ever\b": "forever, without limit",
    r"\bside[ -]journal\b": "kickoff journal",
    r"\b(?:Arrival|Wanted|Unwanted|Greeting|Misfit|Glimpse|Outlet)\b": "InboundWebhook, Kickoff, Ignored, Challenge …",
    r"\bmended\b": "sanitized, repaired",
    r"\b_?(?:MOST_)?LOOKS\b|\bbeing looked at\b": "poll",
    r"\bSomebody\b|\bWhoever\b": "a caller, the process that …",
    r"\bwakes?\b(?= =|\.is_set|\.set|: asyncio)|\bwake_|\bWakes\b|\bwoken\b": "notify, signal",
    r"\bas good as\b|\bno telling\b": "plain English",
}


def test_retired_terms_do_not_reappear() -> None:
    found = [line for path in (*PAGES, *SOURCES, *TESTS) for line in retired_terms(path)]

    assert found == []


def test_each_pattern_matches_its_term() -> None:
    for text in (
        "each look",
        "a look at it",
        "looks_per_run",
        "a wish",
        "is told",
        "gives back",
        "Arrival",
        "the talk",
        "MOST_LOOKS",
        "wake_poll",
        "mended = read()",
    ):
        assert any(re.search(pattern, text) for pattern in RETIRED), text


def test_ordinary_words_are_not_retired_terms() -> None:
    for text in ("it looks like JSON", "type hints", "the place of an item", "a late result", "a share", "to look up"):
        assert not any(re.search(pattern, text) for pattern in RETIRED), text


def retired_terms(path: Path) -> list[str]:
    """Each retired term in a file, with its line and its replacement."""
    text = path.read_text("utf-8")
    return [
        f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]!r} -> {better}"
        for pattern, better in RETIRED.items()
        for match in re.finditer(pattern, text)
    ]


if __name__ == "__main__":
    print("\n".join(line for path in (*PAGES, *SOURCES, *TESTS) for line in retired_terms(path)))
