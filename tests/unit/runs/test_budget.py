"""Budgets: the number of runs that may start in a period."""

import pytest

from bridge.core.runs.budget import Budget, Budgets


@pytest.mark.parametrize(
    ("waiting", "acquire"),
    [(0, (2, 0.0)), (1, (1, 0.0)), (2, (0, 0.0)), (3, (2, 60.0)), (7, (1, 120.0))],
)
def test_a_run_waits_until_enough_starts_have_left_the_period(waiting: int, acquire: tuple[int, float]) -> None:
    assert Budget(3, 60.0).next_start(waiting) == acquire


def test_the_budget_of_the_sender_or_of_the_crew_limits() -> None:
    assert not Budgets().apply_to("client/orders")
    assert Budgets(Budget(1, 1.0)).apply_to("queue")
    assert Budgets(senders={"client/orders": Budget(1, 1.0)}).apply_to("client/orders")
    assert not Budgets(senders={"client/orders": Budget(1, 1.0)}).apply_to("client/reports")
