"""Inbound webhooks of other systems: who sent them, and the request that they become."""
