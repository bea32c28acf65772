"""The commands `openapi` and `asyncapi`."""

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
