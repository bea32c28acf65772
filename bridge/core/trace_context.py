"""W3C trace contexts (level 1): which ones are stored and sent with events, for every listener."""

import re

_TRACEPARENT = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[!-~]{0,256})?"
)


def traceparent(value: object) -> str | None:
    """The trace context if it is well-formed text, or bytes of it; anything else counts as absent.

    What later versions may put behind it is kept, as far as it is short: it goes out again with every event.
    """
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
    match = _TRACEPARENT.fullmatch(text) if isinstance(text, str) else None
    if match is None or (match[1] == "00" and match[2] is not None):
        return None
    return match[0]
