"""Verbs that print the documents: openapi, asyncapi."""

import json

from bridge import documents


def print_openapi() -> None:
    """Print what HTTP clients may call (OpenAPI 3.1, JSON)."""
    print(json.dumps(documents.openapi(), indent=2))


def print_asyncapi() -> None:
    """Print what goes over RabbitMQ and to callback URLs (AsyncAPI 3, JSON)."""
    print(json.dumps(documents.asyncapi(), indent=2))
