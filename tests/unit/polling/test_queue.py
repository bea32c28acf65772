"""The poll queue behaves like a sorted list of the newest entry of each run."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from bridge.core.polling import PollQueue
from bridge.core.runs.model import TrackedRun


def tracked(run_id: str, polls: int = 0) -> TrackedRun:
    return TrackedRun(run_id, "research", f"k-{run_id}", deadline=60.0, alive_at=0.0, polls=polls)


def test_an_empty_queue_has_nothing_due():
    queue = PollQueue()
    assert (len(queue), queue.next_due(), queue.take_due(1e12, 10)) == (0, None, [])


def test_the_longest_overdue_entry_comes_first_within_the_limit():
    queue = PollQueue()
    for run_id, due in (("c", 3.0), ("a", 1.0), ("b", 2.0), ("later", 9.0)):
        queue.put(tracked(run_id), due)
    assert [taken.run_id for taken in queue.take_due(5.0, 2)] == ["a", "b"]
    assert [taken.run_id for taken in queue.take_due(5.0, 5)] == ["c"]
    assert "later" in queue
    assert "a" not in queue


def test_a_new_plan_moves_only_entries_that_are_not_due():
    queue = PollQueue()
    for run_id, due in (("due", 5.0), ("soon", 6.0), ("late", 60.0)):
        queue.put(tracked(run_id), due)
    queue.expedite("late")
    queue.reschedule(5.0, lambda seen: 7.0 if seen.run_id == "soon" else 99.0)
    assert [taken.run_id for taken in queue.take_due(6.9, 9)] == ["late", "due"]
    assert [taken.run_id for taken in queue.take_due(7.0, 9)] == ["soon"]


def test_a_moved_run_is_due_once_at_its_new_time_with_its_new_entry():
    queue = PollQueue()
    queue.put(tracked("a"), 1.0)
    queue.put(tracked("a", polls=4), 7.0)
    assert queue.take_due(6.9, 9) == []
    assert queue.next_due() == 7.0
    assert queue.take_due(7.0, 9) == [tracked("a", polls=4)]
    assert queue.take_due(99.0, 9) == []


def test_a_run_put_before_all_others_is_reported_as_the_first_one_due():
    queue = PollQueue()
    assert [queue.put(tracked(run_id), due) for run_id, due in (("a", 9.0), ("b", 10.0), ("c", 8.0))] == [
        True,
        False,
        True,
    ]
    queue.expedite("b")
    assert not queue.put(tracked("a"), 1.0)


def test_a_run_put_back_at_the_same_time_is_due_once():
    queue = PollQueue()
    for _ in range(3):
        queue.put(tracked("a"), 1.0)
    assert len(queue.take_due(1.0, 9)) == 1
    queue.put(tracked("a"), 1.0)
    assert len(queue.take_due(1.0, 9)) == 1
    assert queue.next_due() is None


def test_extending_deadlines_changes_nothing_else():
    queue = PollQueue()
    queue.put(tracked("a"), 1.0)
    queue.put(tracked("b", polls=3), 2.0)
    queue.extend_deadlines(30.0)
    assert queue.take_due(9.0, 9) == [
        replace(tracked("a"), deadline=90.0),
        replace(tracked("b", polls=3), deadline=90.0),
    ]


def test_an_expedited_run_is_due_now_and_only_once():
    queue = PollQueue()
    queue.put(tracked("a", polls=2), 50.0)
    queue.expedite("a")
    assert queue.take_due(1.0, 9) == [tracked("a", polls=2)]
    assert queue.take_due(99.0, 9) == []


def test_a_run_expedited_during_its_poll_is_polled_once_more_at_once():
    """The poll in flight may have been answered before the event that the webhook reports."""
    queue = PollQueue()
    queue.put(tracked("a"), 1.0)
    queue.take_due(1.0, 9)
    queue.expedite("a")
    queue.put(tracked("a", polls=1), 6.0)
    assert queue.take_due(1.0, 9) == [tracked("a", polls=1)]
    queue.put(tracked("a", polls=2), 6.0)
    assert queue.take_due(5.9, 9) == []


def test_a_dropped_run_is_not_polled():
    queue = PollQueue()
    queue.put(tracked("a"), 1.0)
    queue.put(tracked("b"), 2.0)
    queue.drop("a")
    assert "a" not in queue
    assert queue.next_due() == 2.0
    assert queue.take_due(9.0, 9) == [tracked("b")]


def test_dropping_a_run_forgets_that_it_was_expedited():
    queue = PollQueue()
    queue.expedite("a")
    queue.drop("a")
    queue.put(tracked("a"), 7.0)
    assert queue.next_due() == 7.0


OPERATIONS = st.lists(
    st.tuples(st.just("put"), st.sampled_from("abcde"), st.integers(0, 9))
    | st.tuples(st.sampled_from(["hasten", "drop"]), st.sampled_from("abcde"), st.just(0))
    | st.tuples(st.just("take"), st.just(""), st.integers(0, 2)),
    max_size=40,
)


@given(OPERATIONS)
def test_the_queue_behaves_like_a_sorted_list(operations: list[tuple[str, str, int]]):
    queue, now = PollQueue(), 0
    model: dict[str, int] = {}
    hastened: set[str] = set()
    for operation, what, when in operations:
        if operation == "put":
            queue.put(tracked(what), float(now + when))
            model[what] = 0 if what in hastened else now + when
            hastened.discard(what)
        elif operation == "hasten":
            queue.expedite(what)
            if what in model:
                model[what] = 0
            else:
                hastened.add(what)
        elif operation == "drop":
            queue.drop(what)
            model.pop(what, None)
            hastened.discard(what)
        else:
            now += when
            due = {run_id: at for run_id, at in model.items() if at <= now}
            taken = [taken.run_id for taken in queue.take_due(float(now), 9)]
            assert sorted(taken) == sorted(due)
            assert [due[run_id] for run_id in taken] == sorted(due.values())
            for run_id in due:
                del model[run_id]
        assert len(queue) == len(model)
        assert queue.next_due() == min(model.values(), default=None)


def overdue(count: int) -> PollQueue:
    """Runs that are all due; a larger number in the name is more likely to have ended."""
    queue = PollQueue()
    for number in range(count):
        queue.put(tracked(f"{number * 7 % count:03}"), 100.0 + number)
    return queue


def likeliness(seen: TrackedRun) -> float:
    return float(seen.run_id)


def test_without_room_for_all_the_likeliest_of_each_eight_comes_first():
    queue = overdue(80)
    assert queue.due(200.0) == queue.overdue == 80
    first = [taken.run_id for taken in queue.take_due(200.0, 7, likeliness)]
    examined = sorted((f"{number * 7 % 80:03}" for number in range(56)), reverse=True)
    assert first == examined[:7]
    assert queue.overdue == 73


def test_every_run_is_polled_although_others_are_likelier():
    queue = overdue(40)
    seen = [taken.run_id for _ in range(40) for taken in queue.take_due(200.0, 1, likeliness)]
    assert len(set(seen)) == 40
    assert queue.next_due() is None


def test_an_unlikely_run_is_polled_although_likelier_ones_keep_coming():
    """Otherwise the deadline of a run older than all before it would never be checked."""
    queue = overdue(100)
    queue.put(tracked("-1"), 50.0)
    seen = []
    for number in range(100, 400):
        seen += [taken.run_id for taken in queue.take_due(200.0, 1, likeliness)]
        queue.put(tracked(f"{number}"), 200.0)
    assert "-1" in seen


def test_an_expedited_run_precedes_the_likeliest():
    queue = overdue(8)
    queue.expedite("000")
    assert [taken.run_id for taken in queue.take_due(200.0, 1, likeliness)] == ["000"]


def test_an_overdue_run_that_was_moved_or_dropped_is_skipped():
    queue = overdue(4)
    assert queue.due(200.0) == 4
    queue.put(tracked("003"), 300.0)
    queue.drop("002")
    assert queue.next_due() in {100.0, 103.0}
    assert [taken.run_id for taken in queue.take_due(200.0, 9, likeliness)] == ["000", "001"]
    assert queue.next_due() == 300.0


def test_entries_that_become_due_later_are_considered_at_once():
    queue = overdue(80)
    queue.take_due(200.0, 1, likeliness)
    queue.put(tracked("999"), 250.0)
    assert [taken.run_id for taken in queue.take_due(250.0, 1, likeliness)] == ["999"]


def test_peeking_does_not_remove_entries():
    queue = PollQueue()
    for number in range(5):
        queue.put(tracked(str(number)), 10.0)
    assert queue.newest(2) == ["4", "3"]
    assert len(queue) == 5


def test_several_runs_can_be_dropped_at_once():
    queue = PollQueue()
    for number in range(5):
        queue.put(tracked(str(number)), float(number))
    for run_id in ("0", "3", "unknown"):
        queue.drop(run_id)
    assert [seen.run_id for seen in queue.take_due(99.0, 9)] == ["1", "2", "4"]
    queue.put(tracked("1"), 1.0)
    queue.expedite("being polled")
    queue.clear()
    assert queue.next_due() is None
    queue.put(tracked("being polled"), 5.0)
    assert queue.next_due() == 5.0
