"""Read and write JSON with every integer as it is; faster libraries round those beyond 64 bits."""

import json
from typing import Any, NoReturn


def read_json(raw: bytes | str) -> Any:
    """Parse JSON; raise ValueError for anything else, such as NaN."""
    try:
        return json.loads(raw, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deep") from None


def to_json(value: object) -> bytes:
    """Encode JSON without white space."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "backslashreplace")


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
