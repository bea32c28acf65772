"""Settings for all tests: Hypothesis has no time limit per example, because a busy machine may take any time."""

from hypothesis import settings

settings.register_profile("bridge", deadline=None)
settings.load_profile("bridge")
