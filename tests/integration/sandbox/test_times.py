"""Run times are written as text and drawn from a seeded generator."""

from random import Random
from statistics import mean, median

import pytest

from bridge.sandbox.times import Bimodal, Exponential, Fixed, Lognormal, RunTime, Uniform, parse_run_time


@pytest.mark.parametrize(
    ("text", "run_time"),
    [
        ("fixed:2", Fixed(2)),
        ("0.3", Fixed(0.3)),
        ("uniform:1:5", Uniform(1, 5)),
        ("lognormal:60:0.8", Lognormal(60, 0.8)),
        ("exponential:30", Exponential(30)),
        ("bimodal:10:300:0.6", Bimodal(10, 300, 0.6)),
        (" fixed:0 ", Fixed(0)),
    ],
)
def test_each_format_of_run_time_is_read(text: str, run_time: RunTime) -> None:
    assert parse_run_time(text) == run_time


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("gamma:1", "run time gamma:1: unknown distribution; use one of SECONDS, fixed:SECONDS, uniform:LOW:HIGH"),
        ("", "unknown distribution"),
        ("fixed", "expected fixed:SECONDS"),
        ("2s", "2s is not a number"),
        ("uniform:1", "expected uniform:LOW:HIGH"),
        ("fixed:soon", "soon is not a number"),
        ("fixed:-1", "-1 is not a finite number of at least 0"),
        ("fixed:inf", "inf is not a finite number"),
        ("uniform:5:1", "the lower bound must come first"),
        ("bimodal:1:2:3", "the share must be between 0 and 1"),
    ],
)
def test_an_invalid_run_time_is_refused_with_its_reason(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=r"^run time ") as error:
        parse_run_time(text)
    assert complaint in str(error.value)


def draws(text: str) -> list[float]:
    rng = Random(7)
    run_time = parse_run_time(text)
    return [run_time.draw(rng) for _ in range(4000)]


def test_a_fixed_run_time_never_varies() -> None:
    assert set(draws("fixed:2")) == {2.0}


def test_uniform_run_times_lie_between_their_bounds() -> None:
    drawn = draws("uniform:1:5")
    assert 1 <= min(drawn) < 1.1
    assert 4.9 < max(drawn) <= 5


def test_half_of_lognormal_run_times_are_below_the_median() -> None:
    drawn = draws("lognormal:60:0.8")
    assert median(drawn) == pytest.approx(60, rel=0.1)
    assert min(drawn) > 0
    assert mean(drawn) > 75


def test_exponential_run_times_have_the_given_mean() -> None:
    drawn = draws("exponential:30")
    assert mean(drawn) == pytest.approx(30, rel=0.1)
    assert min(drawn) >= 0


def test_bimodal_run_times_take_the_first_value_with_its_probability() -> None:
    drawn = draws("bimodal:10:300:0.6")
    assert set(drawn) == {10.0, 300.0}
    assert drawn.count(10.0) / len(drawn) == pytest.approx(0.6, abs=0.05)
