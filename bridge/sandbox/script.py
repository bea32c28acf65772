"""Script what the executions of kickoffs with certain inputs do, in the words of the controls.

A script is a list of entries; the first whose `inputs` all occur in a kickoff applies to it:

    [{"inputs": {"topic": "tea"}, "result": "Tea is …"}, {"inputs": {"topic": "dams"}, "error": "no such dam"}]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from bridge.sandbox.controls import PREFIX, Controls, read_controls
from bridge.sandbox.exact_json import read_json, to_json
from bridge.sandbox.inputs import contain

_CONTROLS = frozenset(field.name for field in fields(Controls))


@dataclass(frozen=True, slots=True)
class _Entry:
    inputs: Mapping[str, object]
    controls: Mapping[str, object]
    source: Mapping[str, object]


class Script:
    """Keeps the entries; `sources` are JSON values. Raise ValueError naming the invalid entry and the reason."""

    def __init__(self, sources: Sequence[object] = ()) -> None:
        self._entries: list[_Entry] = []
        self.add(sources)

    def add(self, sources: Sequence[object]) -> None:
        """Put entries in front of those that were added before."""
        self._entries[:0] = [_entry(source, f"entry {number}") for number, source in enumerate(sources, start=1)]

    def clear(self) -> None:
        """Remove all entries."""
        self._entries.clear()

    def report(self) -> list[Mapping[str, object]]:
        """Return the entries in the order in which they are tried."""
        return [entry.source for entry in self._entries]

    def with_controls(self, inputs: Mapping[str, object]) -> Mapping[str, object]:
        """Return the inputs of a kickoff with the controls of its entry; those of the caller take precedence."""
        found = next((entry for entry in self._entries if contain(inputs, entry.inputs)), None)
        return inputs if found is None else {**found.controls, **inputs}


def read_entries(raw: bytes) -> list[object]:
    """Read one entry or a list of entries from JSON; raise ValueError for anything else."""
    value = read_json(raw)
    return value if isinstance(value, list) else [value]


def _entry(source: object, name: str) -> _Entry:
    if not isinstance(source, Mapping):
        raise ValueError(f"{name}: must be an object")  # noqa: TRY004  (a mistake of the caller, like all others here)
    for member in source.keys() - _CONTROLS - {"inputs"}:
        raise ValueError(f"{name}: there is no member {member!r}; use inputs, {', '.join(sorted(_CONTROLS))}")
    inputs = source.get("inputs", {})
    if not isinstance(inputs, Mapping):
        raise ValueError(f"{name}: inputs must be an object")  # noqa: TRY004  (the same)
    controls = {PREFIX + member: value for member, value in source.items() if member != "inputs"}
    if controls.get("sandbox_result") is not None:  # as JSON, because text would be decoded, such as "42"
        controls["sandbox_result"] = to_json(controls["sandbox_result"]).decode()
    try:
        read_controls(controls)
    except ValueError as error:
        raise ValueError(f"{name}: {str(error).removeprefix(PREFIX)}") from None
    return _Entry(inputs, controls, source)
