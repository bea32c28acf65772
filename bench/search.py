"""Lists of runs by each filter, in a store with 1,000,000 finished runs: times and query plans.

`python -m bench.search` uses SQLite, `--postgres` a private PostgreSQL server. Takes a few minutes, most of them to
fill the store. Half of the runs have the common values (`tier=even`, a client as their sender), a tenth has failed;
each key, kickoff id, and `order` belongs to one run, each correlation id to three.
"""

import argparse
import asyncio
import math
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from sqlalchemy import Connection, text

from bridge.adapters.store import SqlStore, database, open_store
from bridge.adapters.store.database import open_database
from bridge.adapters.store.queries.run_lists import run_ranges
from bridge.core.runs.model import State
from bridge.ports.queries import RunFilter
from tests.postgres import running_postgres

SAMPLES = 300  # lists per filter, each with other values
CREWS, CLIENTS = 20, 50
DIGITS = "substr('00000000' || i, length('' || i) + 1)"
RUN_ID = f"'0192' || substr({DIGITS}, 1, 4) || '-' || substr({DIGITS}, 5, 4) || '-7000-8000-000000000000'"
NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :runs) "
FILL = (
    f"""INSERT INTO runs (run_id, crew, state, version, source, idempotency_key, correlation_id, kickoff_id,
    fingerprint, priority, inputs, meta, accepted_at, finished_at, attempt, auto_retries, in_doubt_emitted, unverified,
    polls, result, error_code) {NUMBERS} SELECT {RUN_ID}, 'crew-' || (i % {CREWS}),
    CASE WHEN i % 10 = 0 THEN 'failed' ELSE 'succeeded' END, 5,
    CASE WHEN i % 2 = 0 THEN 'client/c' || (i % {CLIENTS}) ELSE 'queue/kickoff.requests' END,
    'key-' || i, 'order-' || (i / 3), 'execution-' || i, 'f', 0, :json, :json, 1.0 + i, 2.0 + i, 1, 0, 0, 0, 3, :result,
    CASE WHEN i % 10000 = 0 THEN 'lost' WHEN i % 10 = 0 THEN 'execution_failed' END FROM n""",
    f"INSERT INTO run_meta (run_id, name, value) {NUMBERS} SELECT {RUN_ID}, 'order', '' || i FROM n",
    f"""INSERT INTO run_meta (run_id, name, value) {NUMBERS} SELECT {RUN_ID}, 'tier',
    CASE WHEN i % 2 = 0 THEN 'even' ELSE 'odd' END FROM n""",
)


def accepted_at(number: int) -> float:
    return int(f"0192{number:08}", 16) / 1000


FILTERS: dict[str, Callable[[int], RunFilter]] = {
    "none": lambda _: RunFilter(),
    "state": lambda _: RunFilter(State.FAILED),
    "crew": lambda i: RunFilter(crew=f"crew-{i % CREWS}"),
    "crew, state": lambda i: RunFilter(State.FAILED, f"crew-{i % CREWS // 10 * 10}"),
    "idempotency_key": lambda i: RunFilter(idempotency_key=f"key-{i}"),
    "kickoff_id": lambda i: RunFilter(kickoff_id=f"execution-{i}"),
    "correlation_id": lambda i: RunFilter(correlation_id=f"order-{i // 3}"),
    "meta.order, of one run": lambda i: RunFilter(meta={"order": str(i)}),
    "meta.tier, of half of the runs": lambda i: RunFilter(meta={"tier": "even" if i % 2 else "odd"}),
    "meta.order and meta.tier": lambda i: RunFilter(meta={"tier": "even", "order": str(i // 2 * 2)}),
    "error, of every 10th run": lambda _: RunFilter(error="execution_failed"),
    "error, of every 10,000th run": lambda _: RunFilter(error="lost"),
    "error, crew": lambda i: RunFilter(error="execution_failed", crew=f"crew-{i % 2 * 10}"),
    "since, until": lambda i: RunFilter(since=accepted_at(i), until=accepted_at(i + 1000)),
    "crew, since, until": lambda i: RunFilter(crew="crew-7", since=accepted_at(i), until=accepted_at(i + 1000)),
    "beginning of an id": lambda i: RunFilter(prefix=f"0192{i:08}"[:8] + f"-{i % 10000:04}", limit=2),
    "of one client": lambda i: RunFilter(source=f"client/c{i % CLIENTS // 2 * 2}"),
    "of one client, meta.order": lambda i: RunFilter(source=f"client/c{i % CLIENTS}", meta={"order": str(i)}),
}
DENSE: dict[str, Callable[[int], RunFilter]] = {
    "meta.tier of half of the runs, a crew that has none of them": lambda _: RunFilter(
        crew="crew-7", meta={"tier": "even"}
    ),
    "an error of every 10th run, a crew that has none of them": lambda _: RunFilter(
        crew="crew-7", error="execution_failed"
    ),
}


def fill(connection: Connection, runs: int) -> None:
    values = {"runs": runs, "json": b'{"topic": "x"}', "result": b"a result " * 50}
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL statement_timeout = 0"))
    for statement in FILL:
        connection.execute(text(statement), {name: values[name] for name in values if f":{name}" in statement})
    if connection.dialect.name == "postgresql":
        connection.execute(text("ANALYZE"))


def plan(connection: Connection, filter_: RunFilter) -> list[str]:
    """The indexes that a list reads."""
    explain = "EXPLAIN QUERY PLAN " if connection.dialect.name == "sqlite" else "EXPLAIN "
    steps: list[str] = []
    for query in run_ranges(filter_).newest(connection, filter_.limit + 1):
        compiled = query.compile(connection, compile_kwargs={"literal_binds": True})
        steps += [str(row[-1]).strip() for row in connection.exec_driver_sql(f"{explain}{compiled}")]
    return list(dict.fromkeys(step for step in steps if "INDEX" in step.upper() or "SCAN runs" in step))


async def measure(store: SqlStore, runs: int, filter_: Callable[[int], RunFilter], samples: int) -> str:
    """Time some lists; other work on the machine shows in the duration, not in the CPU time of this process."""
    numbers, took, cpu = random.Random(1), [], []
    for _ in range(samples):
        wanted = filter_(numbers.randint(1, runs - 1000))
        began, cpu_began = time.perf_counter(), time.process_time()
        await store.queries.find_runs(wanted)
        took.append((time.perf_counter() - began) * 1000)
        cpu.append((time.process_time() - cpu_began) * 1000)
    return f"median {statistics.median(took):.1f} ms, p95 {p95(took):.1f} ms; CPU p95 {p95(cpu):.1f} ms"


def p95(values: list[float]) -> float:
    return sorted(values)[math.ceil(len(values) * 0.95) - 1]


@contextmanager
def new_store(*, postgres: bool) -> Iterator[tuple[str, Callable[[], object]]]:
    """The URL of a store, and what its server does in the background to a store that was filled slowly."""
    if postgres:
        with running_postgres() as server:
            server.execute("CREATE DATABASE bench")
            yield server.url("bench"), partial(server.execute, "VACUUM ANALYZE", database="bench")
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{folder}/bench.db", lambda: None


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--postgres", action="store_true")
    options = parser.parse_args()
    with new_store(postgres=options.postgres) as (url, maintain):
        base = database(url)
        plans: dict[str, list[str]] = {}
        async with open_database(base, migrate=True) as writer:
            began = time.monotonic()
            await writer.run(partial(fill, runs=options.runs))
            await asyncio.to_thread(maintain)
            print(f"filled in {time.monotonic() - began:.0f} s", flush=True)
            for name, filter_ in (FILTERS | DENSE).items():
                plans[name] = await writer.run(partial(plan, filter_=filter_(options.runs // 2)))
        async with open_store(base, "bench", time.time()) as store:
            for name, filter_ in (FILTERS | DENSE).items():
                samples = SAMPLES if name in FILTERS else 5
                print(f"{name}: {await measure(store, options.runs, filter_, samples)}", flush=True)
                for step in plans[name]:
                    print(f"    {step}")


if __name__ == "__main__":
    asyncio.run(main())
