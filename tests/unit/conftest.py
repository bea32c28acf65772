"""What counts for the coverage of the core."""

import pytest


@pytest.hookimpl(trylast=True)  # after Hypothesis has marked what is its own
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Only tests without chance: a branch that is covered by luck is not covered."""
    for item in items:
        if item.get_closest_marker("hypothesis"):
            item.add_marker(pytest.mark.no_cover)
