"""Runs: requests, the state machine, commands, budgets."""
