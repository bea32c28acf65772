"""Kickoff Bridge: kickoff requests in from queues and HTTP, completion events out, each run started at most once."""

__version__ = "0.1.0"
