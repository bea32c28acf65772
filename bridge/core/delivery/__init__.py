"""Delivery: events, destinations, outcomes of attempts, and retries."""
