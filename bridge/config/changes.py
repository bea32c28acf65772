"""Decide which changed settings a running bridge can apply."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from bridge.config.model import Settings

_MAPPINGS = ("crews", "hooks", "sources", "destinations")  # each entry is applied by itself
_APPLICABLE = {
    "insecure",
    "proxy",
    "http.clients",
    "callbacks.secret",
    "callbacks.allow",
    "callbacks.proxy",
    "callbacks.max_event_bytes",
    "log.level",
}
"""All others of these sections need a restart."""


@dataclass(frozen=True, slots=True)
class SettingsChange:
    """What new settings change. `settings`: what applies from now on; `changed`, `needs_restart`: dotted names."""

    settings: Settings
    changed: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()


def plan_change(current: Settings, wanted: Settings) -> SettingsChange:
    """Return what applies: the wanted settings, but with the current value of each that needs a restart.

    Nothing applies if the two do not fit together, such as a budget that needs the new `store.retention`.
    """
    changed, kept = list[str](), list[str]()
    applied: dict[str, Any] = {}
    for section in Settings.model_fields:
        old, new = getattr(current, section), getattr(wanted, section)
        if section in _MAPPINGS:
            changed += [f"{section}.{name}" for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
        else:
            differing = list(_differing(section, old, new))
            changed += [name for name in differing if name in _APPLICABLE]
            fixed = [name for name in differing if name not in _APPLICABLE]
            kept += fixed
            applied[section] = _with_former(old, new, [name.partition(".")[2] for name in fixed])
    if "amqp" in kept and current.amqp is None:
        changed = [name for name in changed if not name.startswith("sources.")]
        applied["sources"] = current.sources  # they need the broker
    try:  # the rules between sections, with those that keep their former values
        settings = Settings(**dict(wanted.model_copy(update=applied)))
    except ValidationError:
        return SettingsChange(current, (), (*changed, *kept))
    return SettingsChange(settings, tuple(changed), tuple(kept))


def _differing(section: str, old: Any, new: Any) -> Iterator[str]:
    """Yield the dotted names of the settings that differ."""
    if isinstance(old, BaseModel) and isinstance(new, BaseModel):
        for name in type(new).model_fields:
            if getattr(old, name) != getattr(new, name):
                yield f"{section}.{name}"
    elif old != new:
        yield section


def _with_former(old: Any, new: Any, fixed: list[str]) -> Any:
    """Return the new value with the old one's fixed parts; an empty name stands for the whole."""
    if "" in fixed:
        return old
    return new.model_copy(update={name: getattr(old, name) for name in fixed}) if fixed else new
