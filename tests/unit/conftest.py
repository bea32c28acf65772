"""Rules for the branch coverage of the core."""

import pytest


@pytest.hookimpl(trylast=True)  # after Hypothesis has set its markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Exclude randomized tests: coverage must not depend on chance."""
    for item in items:
        if item.get_closest_marker("hypothesis"):
            item.add_marker(pytest.mark.no_cover)
