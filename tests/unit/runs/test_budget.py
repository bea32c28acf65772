"""How many runs may be started in how much time."""

import pytest

from bridge.core.runs.budget import Budget, Budgets


@pytest.mark.parametrize(
    ("waiting", "acquire"),
    [(0, (2, 0.0)), (1, (1, 0.0)), (2, (0, 0.0)), (3, (2, 60.0)), (7, (1, 120.0))],
)
def test_a_run_takes_its_turn_when_as_many_starts_as_are_before_it_count_no_more(
    waiting: int, acquire: tuple[int, float]
) -> None:
    assert Budget(3, 60.0).next_start(waiting) == acquire


def test_a_sender_is_limited_by_its_own_budget_or_the_crew_s() -> None:
    assert not Budgets().apply_to("client/orders")
    assert Budgets(Budget(1, 1.0)).apply_to("queue")
    assert Budgets(senders={"client/orders": Budget(1, 1.0)}).apply_to("client/orders")
    assert not Budgets(senders={"client/orders": Budget(1, 1.0)}).apply_to("client/reports")
