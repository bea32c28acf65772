"""Changed copies of frozen values."""

from dataclasses import FrozenInstanceError, dataclass

import pytest

from bridge.core.values import kind_name, replace


@dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: int = 0


def test_a_copy_has_the_changes_and_the_original_has_not() -> None:
    point = Point(1, 2)
    assert replace(point, y=3) == Point(1, 3)
    assert point == Point(1, 2)


def test_a_copy_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        replace(Point(1), x=2).x = 3  # type: ignore[misc]


def test_an_unknown_field_is_an_error() -> None:
    with pytest.raises(KeyError):
        replace(Point(1), z=2)  # type: ignore[call-arg]


def test_the_name_of_a_kind_is_its_class_in_snake_case() -> None:
    class NotStarted: ...

    assert (kind_name(Point), kind_name(NotStarted)) == ("point", "not_started")
