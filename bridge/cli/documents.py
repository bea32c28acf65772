"""The commands `openapi`, `asyncapi`, and `jsonschema`."""

import json

import typer

from bridge import documents

app = typer.Typer()


@app.command("openapi", epilog="Example: kickoff-bridge openapi > openapi.json")
def print_openapi() -> None:
    """Print the OpenAPI 3.1 document of the HTTP API as JSON."""
    print(json.dumps(documents.openapi(), indent=2))


@app.command("asyncapi", epilog="Example: kickoff-bridge asyncapi > asyncapi.json")
def print_asyncapi() -> None:
    """Print the AsyncAPI 3 document of the messages over RabbitMQ and to callback URLs as JSON."""
    print(json.dumps(documents.asyncapi(), indent=2))


@app.command("jsonschema", epilog="Example: kickoff-bridge jsonschema > events.schema.json")
def print_event_schema() -> None:
    """Print the JSON Schema of the events, for generating types."""
    print(json.dumps(documents.event_schema(), indent=2))
