"""Polling: when to poll the status of a run, learned from the run times of past runs."""
