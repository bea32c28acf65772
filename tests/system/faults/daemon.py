"""The real daemon, which kills itself at a named point: `python -m tests.system.faults.daemon POINT NTH MARK ARGS…`.

The points wrap the parts from here; the product does not know them. `POINT` is one of `POINTS`, or `none`. The `NTH`
passing of the point kills; the file `MARK` is written before, so that a fault that never happened is noticed. While it
runs it accepts orders from the test, see `Orders`.
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiormq
import alembic.command

from bridge.adapters.amqp.publisher import AmqpPublisher
from bridge.adapters.callbacks.sender import CallbackSender
from bridge.adapters.crew_api import HttpCrewApi
from bridge.adapters.store import SqlStore
from bridge.adapters.store.queries.deliveries import SqlDeliveries
from bridge.cli import main
from bridge.core.crew.responses import Failed, Succeeded
from bridge.core.runs import state_machine
from bridge.core.runs.model import State
from bridge.steps.recovery.recover import Recover
from bridge.supervisor import Supervisor

Method = Callable[..., Awaitable[Any]]
Kickoff = Callable[[tuple[Any, ...], Any], bool]


class Death:
    """Happens at the nth call."""

    def __init__(self, point: str, nth: int, mark: Path) -> None:
        self._point = point
        self._left = nth
        self._mark = mark

    def pass_by(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._mark.write_text(self._point)
            os.kill(os.getpid(), signal.SIGKILL)


def any_call(_args: tuple[Any, ...], _result: Any) -> bool:
    return True


def before(death: Death, owner: Any, name: str) -> None:
    """Die instead of this call."""
    method: Method = getattr(owner, name)

    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        death.pass_by()
        return await method(*args, **kwargs)

    setattr(owner, name, wrapped)


def after(death: Death, owner: Any, name: str, applies: Kickoff = any_call) -> None:
    """Die after this call, before its caller continues."""
    method: Method = getattr(owner, name)

    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        result = await method(*args, **kwargs)
        if applies(args, result):
            death.pass_by()
        return result

    setattr(owner, name, wrapped)


def amid(death: Death, owner: Any, name: str, seconds: float) -> None:
    """Die this long after the start of this call."""
    method: Method = getattr(owner, name)

    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        asyncio.get_running_loop().call_later(seconds, death.pass_by)
        return await method(*args, **kwargs)

    setattr(owner, name, wrapped)


def leads_to(*states: State) -> Kickoff:
    return lambda args, _: args[1].run.state in states


def is_over(_args: tuple[Any, ...], result: Any) -> bool:
    return isinstance(result, Succeeded | Failed)


def migrating(death: Death, owner: Any, name: str) -> None:
    """Die after this plain function."""
    function: Callable[..., Any] = getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> None:
        function(*args, **kwargs)
        death.pass_by()

    setattr(owner, name, wrapped)


def within_a_claim(death: Death, owner: Any, name: str) -> None:
    """Die instead of this plain function, which is called before the commit of a claim that has found a run."""
    function: Callable[..., Any] = getattr(owner, name)

    def wrapped(*args: Any) -> Any:
        death.pass_by()
        return function(*args)

    setattr(owner, name, wrapped)


FINAL = (State.SUCCEEDED, State.FAILED)
# How, and the owner and the name of the method.
POINTS: dict[str, tuple[Any, ...]] = {
    "K01": (before, SqlStore, "accept"),
    "K02": (before, aiormq.Channel, "basic_ack"),
    "K03": (amid, aiormq.Channel, "basic_ack", 0.01),
    "K04": (after, SqlStore, "accept"),
    "K05": (within_a_claim, state_machine, "begin"),
    "K06": (before, HttpCrewApi, "kickoff"),
    "K07": (amid, HttpCrewApi, "kickoff", 0.1),
    "K08": (after, HttpCrewApi, "kickoff"),
    "K09": (after, SqlStore, "apply", leads_to(State.RUNNING)),
    "K10": (amid, HttpCrewApi, "status", 0.001),
    "K11": (after, HttpCrewApi, "status", is_over),
    "K12": (after, SqlStore, "apply", leads_to(*FINAL)),
    "K13": (amid, AmqpPublisher, "send", 0.001),
    "K14": (after, AmqpPublisher, "send"),
    "K15": (amid, CallbackSender, "send", 0.005),
    "K16": (after, CallbackSender, "send"),
    "K17": (after, SqlDeliveries, "add"),
    "K18": (migrating, alembic.command, "upgrade"),
    "K19": (before, Recover, "handle"),
    "K20": (amid, Supervisor, "stop", 0.0),
}


def arm(point: str, nth: int, mark: Path) -> None:
    """Die at the nth passing of a point from now on."""
    kind, owner, name, *details = POINTS[point]
    kind(Death(point, nth, mark), owner, name, *details)


class Orders:
    """Orders of a test to the running process: on SIGUSR1 it reads the file `order`, obeys, and writes `obeyed`.

    `{"die_at": POINT, "nth": 1}`; `{"clock": SECONDS}`, the deviation of the machine's clock from now on; `{}`. The
    response contains the number of tasks.
    """

    def __init__(self, folder: Path, mark: Path) -> None:
        self._order = folder / "order"
        self._obeyed = folder / "obeyed"
        self._mark = mark
        self._off_by = 0.0
        signal.signal(signal.SIGUSR1, self._obey)
        right = time.time
        time.time = lambda: right() + self._off_by

    def _obey(self, *_: Any) -> None:
        order = json.loads(self._order.read_text())
        self._off_by = order.get("clock", self._off_by)
        if "die_at" in order:
            arm(order["die_at"], order["nth"], self._mark)
        written = self._obeyed.with_suffix(".new")
        written.write_text(json.dumps({"tasks": len(asyncio.all_tasks())}))
        written.rename(self._obeyed)


if __name__ == "__main__":
    point, nth, mark, *rest = sys.argv[1:]
    Orders(Path(mark).parent, Path(mark))
    if point != "none":
        arm(point, int(nth), Path(mark))
    sys.argv = ["kickoff-bridge", *rest]
    main()
