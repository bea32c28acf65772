"""Define the distributions of run times, and parse their text form."""

import math
from dataclasses import dataclass
from random import Random
from typing import Protocol


class RunTime(Protocol):
    """A distribution of run times."""

    def draw(self, rng: Random) -> float:
        """Return one run time in seconds, never negative."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """A constant run time."""

    seconds: float

    def draw(self, rng: Random) -> float:  # noqa: ARG002  (the other distributions need it)
        """Return the fixed time."""
        return self.seconds


@dataclass(frozen=True, slots=True)
class Uniform:
    """A run time uniformly distributed between two bounds."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("the lower bound must come first")

    def draw(self, rng: Random) -> float:
        """Return a time between the bounds."""
        return rng.uniform(self.low, self.high)


@dataclass(frozen=True, slots=True)
class Lognormal:
    """Half of the runs under `median` seconds, with a long tail that grows with `sigma`."""

    median: float
    sigma: float

    def draw(self, rng: Random) -> float:
        """Return a time around the median."""
        return self.median * math.exp(rng.gauss(0.0, self.sigma))


@dataclass(frozen=True, slots=True)
class Exponential:
    """Exponentially distributed run times, `mean` seconds on average."""

    mean: float

    def draw(self, rng: Random) -> float:
        """Return a time; short ones are the most frequent."""
        return rng.expovariate(1.0) * self.mean


@dataclass(frozen=True, slots=True)
class Bimodal:
    """One of two times: `first` for the given share of the runs, `second` for the rest."""

    first: float
    second: float
    share: float

    def __post_init__(self) -> None:
        if self.share > 1:
            raise ValueError("the share must be between 0 and 1")

    def draw(self, rng: Random) -> float:
        """Return one of the two times."""
        return self.first if rng.random() < self.share else self.second


_FORMS: dict[str, tuple[type[Fixed | Uniform | Lognormal | Exponential | Bimodal], int, str]] = {
    "fixed": (Fixed, 1, "fixed:SECONDS"),
    "uniform": (Uniform, 2, "uniform:LOW:HIGH"),
    "lognormal": (Lognormal, 2, "lognormal:MEDIAN:SIGMA"),
    "exponential": (Exponential, 1, "exponential:MEAN"),
    "bimodal": (Bimodal, 3, "bimodal:FIRST:SECOND:SHARE_OF_FIRST"),
}

RUN_TIME_FORMS = ", ".join(["SECONDS", *(form for _, _, form in _FORMS.values())])
"""The forms that `parse_run_time` accepts, for help texts and errors."""


def parse_run_time(text: str) -> RunTime:
    """Read a run time such as `2`, the same as `fixed:2`, or `bimodal:10:300:0.6`.

    Raise ValueError with the reason if it is invalid.
    """
    name, *fields = text.strip().split(":")
    if not fields and name[:1].isdigit():
        name, fields = "fixed", [name]
    if name not in _FORMS:
        raise ValueError(f"run time {text}: unknown distribution; use one of {RUN_TIME_FORMS}")
    build, wanted, form = _FORMS[name]
    if len(fields) != wanted:
        raise ValueError(f"run time {text}: expected {form}")
    try:
        return build(*(_number(field) for field in fields))
    except ValueError as error:
        raise ValueError(f"run time {text}: {error}; expected {form}") from None


def _number(field: str) -> float:
    try:
        number = float(field)
    except ValueError:
        raise ValueError(f"{field} is not a number") from None
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"{field} is not a finite number of at least 0")
    return number
