"""Changed copies of frozen values, and the names of their kinds."""

import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

T = TypeVar("T")


class _Slots(NamedTuple):
    """How to read all fields of a class at once, and to set each one."""

    read: Callable[[Any], tuple[Any, ...]]
    setters: Mapping[str, Callable[[Any, Any], None]]


@cache
def _slots(kind: type) -> _Slots:
    names = [field.name for field in fields(kind)]
    read = attrgetter(*names) if len(names) > 1 else lambda value: tuple(getattr(value, name) for name in names)
    return _Slots(read, {name: getattr(kind, name).__set__ for name in names})


def contents(value: Any) -> tuple[Any, ...]:
    """Return the fields of a dataclass with slots, in their order."""
    return _slots(type(value)).read(value)  # type: ignore[arg-type]  # classes are hashable


def kind_name(kind: type) -> str:
    """Return the name of a kind of values, such as a response, as in logs and metrics: its class in snake_case."""
    return _in_snake_case(kind.__name__)


@cache
def _in_snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


if TYPE_CHECKING:
    from dataclasses import replace
else:

    def replace(value: T, /, **changes: Any) -> T:
        """As `dataclasses.replace`, for dataclasses without `__post_init__`.

        Copies the fields without the constructor: 0.6 µs instead of 8 for a run, 1 µs for others, which have slots.
        """
        copy = object.__new__(type(value))
        if hasattr(value, "__dict__"):
            copy.__dict__.update(value.__dict__, **changes)
            return copy
        slots = _slots(type(value))
        for set_field, content in zip(slots.setters.values(), slots.read(value), strict=True):
            set_field(copy, content)
        for name, content in changes.items():
            slots.setters[name](copy, content)
        return copy


__all__ = ["contents", "kind_name", "replace"]
