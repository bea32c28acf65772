"""The whole history of a run, as the API shows it."""

from dataclasses import replace

from bridge.adapters.http import views
from bridge.core.crew.responses import InDoubt, Running, Succeeded
from bridge.core.human_input.feedback import Resume
from bridge.core.human_input.model import QuestionContent
from bridge.core.redaction import Redactor
from bridge.core.runs import history
from bridge.core.runs.commands import Cancel, Retry
from bridge.core.runs.model import Run, State
from tests.component.steps.conftest import Bench


async def shown(bench: Bench, run: Run) -> list[tuple[object, ...]]:
    """The entries without their times, which must be in order."""
    entries = views.run_history(await bench.now(run), await bench.store.queries.deliveries_for_run(run.run_id))
    assert entries == sorted(entries, key=lambda entry: str(entry["at"]))
    return [tuple(value for name, value in entry.items() if name != "at") for entry in entries]


async def test_a_run_in_doubt_that_is_retried_asked_a_question_and_answered(bench: Bench):
    bench.be_a_flow()
    bench.api.kickoff_responses = [InDoubt("HTTP 502: bad gateway")]
    run = await bench.started()
    bench.clock.forward(5.0)
    await bench.apply_command(run.run_id, Retry(), "client/ops", "nothing in the console")
    await bench.round(bench.kickoff)
    run = await bench.now(run)
    assert run.state is State.RUNNING

    bench.api.default_status = Running()
    await bench.rounds(bench.poll, 60.0)
    await bench.ask(run, QuestionContent("t-1", "Is it good?", callback_url="https://crew.example/answer"))
    bench.clock.forward(5.0)
    await bench.apply_command(run.run_id, Resume("It is good."), "client/shop")
    await bench.round(bench.human_input)

    bench.api.default_status = Succeeded("done")
    await bench.rounds(bench.poll, 120.0)
    await bench.deliver()
    assert (await bench.now(run)).state is State.SUCCEEDED

    found = await shown(bench, run)
    assert [entry for entry in found if entry[0] not in {"event_created", "delivered"}] == [
        ("accepted", "queue"),
        ("posted", 1),
        ("in_doubt", "HTTP 502"),
        ("command", "retry", "client/ops", "nothing in the console"),
        ("posted", 2),
        ("answered",),
        ("first_poll",),
        ("question", 1),
        ("command", "resume", "client/shop"),
        ("answer_sent", 1),
        ("last_poll", (await bench.now(run)).polls),
        ("ended", "succeeded"),
    ]
    kinds = [kind for kind in ("run.waiting_for_human", "run.succeeded") for _ in ("exchange", "callback")]
    assert [entry[1] for entry in found if entry[0] == "event_created"] == kinds
    delivered = [(entry[1], entry[3]) for entry in found if entry[0] == "delivered"]
    assert delivered == [(kind, 1) for kind in kinds]


async def test_a_secret_in_the_reason_of_a_command_is_masked(bench: Bench):
    run = await bench.accepted()
    steps = replace(bench.steps, redactor=Redactor(["token-12345678"]))
    cancelled = await steps.apply_command(run.run_id, Cancel(), "client/ops", "its token-12345678 leaked")
    [_, command, _] = history.decoded(cancelled.history)
    assert command["reason"] == "its *** leaked"
