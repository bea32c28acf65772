"""The byte budget for requests: eviction, waiting, and fairness among holders."""

import asyncio

from bridge.adapters.byte_budget import ByteBudget


def test_bytes_within_the_budget_are_held_until_released() -> None:
    budget = ByteBudget(10)
    with budget.hold() as hold:
        hold.grow(4)
        hold.grow(3)
        assert (budget.held, budget.free) == (7, 3)
    hold.release()
    assert (budget.held, budget.free) == (0, 10)


def test_the_largest_holder_is_evicted_oldest_hold_first() -> None:
    budget, evicted = ByteBudget(10), list[str]()
    holds = {
        name: budget.hold(name[0], lambda name=name: evicted.append(name))  # type: ignore[misc]
        for name in ("a1", "b1", "b2")
    }
    holds["a1"].grow(3)
    holds["b1"].grow(4)
    holds["b2"].grow(2)
    small = budget.hold("c", lambda: evicted.append("c"))
    small.grow(2)
    assert (evicted, budget.held) == (["b1"], 7)


def test_a_hold_that_does_not_fit_beside_unevictable_ones_is_evicted_itself() -> None:
    budget, evicted = ByteBudget(10), list[str]()
    budget.hold("a").grow(9)
    budget.hold("b", lambda: evicted.append("b")).grow(2)
    assert (evicted, budget.held) == (["b"], 9)


async def test_a_holder_at_its_share_waits_and_others_do_not() -> None:
    budget = ByteBudget(10, share=0.5)
    first = budget.hold("a")
    first.grow(5)
    await budget.wait_for_room("b")
    waiting = asyncio.create_task(budget.wait_for_room("a"))
    await asyncio.sleep(0)
    assert not waiting.done()
    first.release()
    await waiting


async def test_what_is_too_large_for_the_rest_waits_and_what_is_too_large_for_all_goes_alone() -> None:
    budget = ByteBudget(10)
    first = budget.hold("a")
    first.grow(6)
    await budget.wait_for_room("b", 4)
    waiting = asyncio.create_task(budget.wait_for_room("b", 40))
    await asyncio.sleep(0)
    assert not waiting.done()
    first.release()
    await waiting


async def test_all_wait_while_the_budget_is_used_up_and_a_cancelled_one_is_dropped() -> None:
    budget = ByteBudget(10)
    full = budget.hold("a")
    full.grow(11)
    assert budget.free == 0
    gone, waiting = (asyncio.create_task(budget.wait_for_room("b")) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    full.release()
    await waiting
