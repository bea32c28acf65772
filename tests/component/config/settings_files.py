"""Shared by tests of settings: minimal valid settings, and a helper that writes and loads files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.config import Settings, SettingsError, load

WEBHOOK_SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

SMALLEST: dict[str, Any] = {"crews": {"research": {"url": "https://research.crewai.com", "token": "t"}}}


def with_settings(**sections: Any) -> dict[str, Any]:
    return {**SMALLEST, **sections}


def with_crew(**settings: Any) -> dict[str, Any]:
    return {"crews": {"research": {**SMALLEST["crews"]["research"], **settings}}}


class SettingsFiles:
    """Writes settings files and loads them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def file(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text)
        return str(path)

    def load(self, tree: str | dict[str, Any], environ: Mapping[str, str] | None = None) -> Settings:
        text = tree if isinstance(tree, str) else yaml.safe_dump(tree)
        return load(Path(self.file("bridge.yaml", text)), environ or {})

    def problems(self, tree: str | dict[str, Any], environ: Mapping[str, str] | None = None) -> list[str]:
        with pytest.raises(SettingsError) as caught:
            self.load(tree, environ)
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None  # pydantic's error holds the values
        assert str(caught.value) == "\n".join(caught.value.problems)
        return list(caught.value.problems)
