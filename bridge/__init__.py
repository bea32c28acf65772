"""Kickoff Bridge: accepts kickoff requests from RabbitMQ and HTTP, starts each at most once, and publishes events."""

__version__ = "1.0.0"
