"""An HTTP response of the crew API as read, not yet interpreted."""

from dataclasses import dataclass

TOO_LARGE = "the response is too large"


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP response: code, at most the permitted number of body bytes, and how long it took in seconds.

    `cut`: why the body is incomplete; what was read of it may still be a complete JSON object.
    """

    code: int
    body: bytes
    elapsed: float = 0.0
    retry_after: str | None = None
    date: str | None = None
    cut: str | None = None
