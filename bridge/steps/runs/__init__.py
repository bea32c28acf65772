"""Steps in the life of one run."""
