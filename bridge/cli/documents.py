"""The commands `openapi` and `asyncapi`."""

import json

import typer

from bridge import documents

app = typer.Typer()


@app.command("openapi")
def print_openapi() -> None:
    """Print the OpenAPI 3.1 document of the HTTP API as JSON."""
    print(json.dumps(documents.openapi(), indent=2))


@app.command("asyncapi")
def print_asyncapi() -> None:
    """Print the AsyncAPI 3 document of the messages over RabbitMQ and to callback URLs as JSON."""
    print(json.dumps(documents.asyncapi(), indent=2))
