"""Pages of run lists: limited in bytes, and in one order for any number of crews."""

from bridge.adapters.store import SqlStore
from bridge.adapters.store.queries import run_lists
from bridge.core.runs.model import Run
from bridge.ports.queries import Page, RunFilter
from tests.contract.conftest import Adapter
from tests.contract.run_states import accepted
from tests.fakes import run_id


def ids(page: Page[Run]) -> list[str]:
    return [run.run_id for run in page.items]


async def test_a_page_is_limited_in_bytes(adapter: Adapter, store: SqlStore) -> None:
    """Whichever column they are in; a run that is larger than a page has one of its own."""
    third = run_lists.PAGE_BYTES // 3
    for number in range(1, 7):
        await accepted(store, number, meta={"text": "x" * third})
    for column, number in (("result", 5), ("progress", 4)):
        size = run_lists.MAX_LISTED_RESULT if column == "result" else run_lists.PAGE_BYTES
        adapter.execute(
            f"UPDATE runs SET {column} = %s WHERE run_id = %s", b'"%b"' % (b"1" * (size - 2)), run_id(number)
        )
    pages, before = list[Page[Run]](), None
    while not pages or pages[-1].more:
        pages.append(await store.queries.find_runs(RunFilter(before=before)))
        before = pages[-1].items[-1].run_id
    assert [ids(page) for page in pages] == [
        [run_id(number) for number in numbers] for numbers in ([6, 5], [4], [3, 2], [1])
    ]


async def test_runs_of_many_crews_are_listed_in_one_order(store: SqlStore) -> None:
    crews = [f"crew{number % 60}" for number in range(90)]
    for number, crew in enumerate(crews, start=1):
        await accepted(store, number, crew=crew)
    page = await store.queries.find_runs(RunFilter(crews=frozenset(crews), limit=80))
    assert (ids(page), page.more) == ([run_id(number) for number in range(90, 10, -1)], True)
