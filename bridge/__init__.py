"""Kickoff Bridge: kickoff requests in from queues and webhooks, completion events out, each run started at most once."""

__version__ = "0.1.0"
