"""What holds for every test: Hypothesis sets no time limit for an example, because a busy machine may take any time."""

from hypothesis import settings

settings.register_profile("bridge", deadline=None)
settings.load_profile("bridge")
