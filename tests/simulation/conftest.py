"""A simulated life needs the same real store as a single step."""

from tests.steps.conftest import migrated, store

__all__ = ["migrated", "store"]
