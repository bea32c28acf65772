"""Steps in the life of a run, from the request to its final state."""
