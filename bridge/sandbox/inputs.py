"""List the inputs of the deployment, find those that a kickoff lacks, and match kickoffs by them (contract 2)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bridge.sandbox.exact_json import read_json, to_json
from bridge.sandbox.execution import Kind
from bridge.sandbox.responses import Response, json_response

InputsShape = Literal["list", "object", "detailed"]


@dataclass(frozen=True, slots=True)
class Inputs:
    """The names that a caller may send, and those that a kickoff must have.

    `required` is None for deployments built before crewai 1.15.38, which do not report it: a crew then requires every
    input (seen live), a flow none.
    """

    names: tuple[str, ...]
    required: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Raise ValueError if an input is required but not listed."""
        if unlisted := [name for name in self.required or () if name not in self.names]:
            raise ValueError(f"required_inputs must be among the inputs; not listed: {', '.join(unlisted)}")

    def demanded(self, kind: Kind) -> tuple[str, ...]:
        """Return the inputs without which a kickoff is refused."""
        if self.required is not None:
            return self.required
        return self.names if kind == "crew" else ()

    def missing(self, kind: Kind, inputs: Mapping[str, object]) -> list[str]:
        """Return the demanded inputs that a kickoff lacks."""
        return [name for name in self.demanded(kind) if name not in inputs]

    def response(self, shape: InputsShape, kind: Kind) -> Response:
        """Return the response of `/inputs`: names (seen live), an object, or details (both from other clients)."""
        match shape:
            case "list":
                listed: object = list(self.names)
            case "object":
                listed = dict.fromkeys(self.names, "string")
            case "detailed":
                demanded = self.demanded(kind)
                listed = [{"name": name, "type": "string", "required": name in demanded} for name in self.names]
        body = {"inputs": listed}
        return json_response(200, body if self.required is None else {**body, "required_inputs": list(self.required)})


def contain(inputs: Mapping[str, object], wanted: Mapping[str, object]) -> bool:
    """Return whether the inputs of a kickoff contain all of these, whose client may have converted them to text."""
    return all(name in inputs and inputs[name] in (value, to_json(value).decode()) for name, value in wanted.items())


def read_inputs(raw: bytes) -> Inputs:
    """Read the inputs of a deploy; raise ValueError with the reason if they are invalid."""
    body = read_json(raw)
    if not isinstance(body, dict) or not _are_names(body.get("inputs")):
        raise ValueError("inputs must be a list of names")
    required = body.get("required_inputs")
    if required is not None and not _are_names(required):
        raise ValueError("required_inputs must be a list of names, or null")
    return Inputs(tuple(body["inputs"]), None if required is None else tuple(required))


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) and name for name in value)
