"""Encodes AMQP headers exactly, for messages and for the store, and converts them to JSON values.

The library encodes each float in single precision, which rounds it or fails (1e300). It decodes long strings that are
not text as bytes, which it cannot encode.
"""

import base64
import math
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from aio_pika import Message
from pamqp import commands as spec
from pamqp import common, decode, encode

from bridge.core.delivery.events import timestamp


class ExactProperties(spec.Basic.Properties):
    """The library's properties, encoded in one pass, with headers encoded by `table`."""

    def marshal(self) -> bytes:
        """Encode the flags and the properties that are set."""
        flags, parts = 0, []
        for name, flag, encoded in _ENCODERS:
            value = getattr(self, name)
            if value is not None and value != "":
                flags |= flag
                parts.append(encoded(value))
        return common.Struct.ushort.pack(flags) + b"".join(parts)


class ExactMessage(Message):
    """The upper library's message, with headers encoded exactly."""

    @property
    def properties(self) -> spec.Basic.Properties:
        """The properties, ready to be encoded."""
        values: dict[str, Any] = dict(super().properties)
        return ExactProperties(**values)


def table(entries: Mapping[str, Any]) -> bytes:
    """Encode a table; raises `TypeError`, `ValueError`, or `RecursionError` for a value that AMQP cannot express."""
    joined = b"".join(encode.short_string(name) + _value(item) for name, item in entries.items())
    return common.Struct.integer.pack(len(joined)) + joined


def pack(headers: Mapping[str, Any]) -> str:
    """Encode headers as text for the store; raises as `table` does."""
    return base64.b64encode(table(headers)).decode()


def unpack(text: str) -> dict[str, Any]:
    """Decode the result of `pack`."""
    return dict(decode.field_table(base64.b64decode(text))[1])


def to_json(value: Any) -> Any:
    """Convert the value of a header to JSON values."""
    if isinstance(value, dict):
        return {name: to_json(item) for name, item in value.items()}
    if isinstance(value, list):
        return [to_json(item) for item in value]
    if isinstance(value, datetime):
        return timestamp(value.timestamp())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no NaN and no infinity
    return value if value is None or isinstance(value, str | int | float) else _text(value)


def _text(value: Any) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes | bytearray) else str(value)


def _value(item: Any) -> bytes:
    if isinstance(item, str):
        return b"S" + encode.long_string(item)
    if isinstance(item, float):
        return b"d" + encode.double(item)
    if isinstance(item, bytes):
        return b"S" + common.Struct.integer.pack(len(item)) + item
    if isinstance(item, Mapping):
        return b"F" + table(item)
    if isinstance(item, list):
        joined = b"".join(map(_value, item))
        return b"A" + common.Struct.integer.pack(len(joined)) + joined
    return encode.encode_table_value(item)


_BY_KIND: Mapping[str, Callable[[Any], bytes]] = {
    "shortstr": encode.short_string,
    "octet": encode.octet,
    "timestamp": encode.timestamp,
    "table": table,
}
_ENCODERS = [
    (name, flag, _BY_KIND[spec.Basic.Properties.amqp_type(name)]) for name, flag in spec.Basic.Properties.flags.items()
]
