"""Inbound webhooks: from the crew API, from flows, and from other systems."""
