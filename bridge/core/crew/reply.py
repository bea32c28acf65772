"""One HTTP response of the crew API, as it was read, before it means anything."""

from dataclasses import dataclass

TOO_LARGE = "the answer is too large"


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer: code, at most the permitted number of body bytes, and how long it took in seconds.

    `cut`: why the body is not whole; what there is of it may still be a whole JSON object.
    """

    code: int
    body: bytes
    elapsed: float = 0.0
    retry_after: str | None = None
    date: str | None = None
    cut: str | None = None
