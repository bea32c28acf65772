"""Inbound webhooks: the crew API's own, those of flows, and those of other systems."""
