"""Derive the ids of a run's spans, so that any process can refer to a span that another one has exported."""

import hashlib

SAMPLED = "01"
NOT_SAMPLED = "00"


def traceparent(trace_id: str, span_id: str, flags: str) -> str:
    """Return a W3C trace context, from ids in hexadecimal."""
    return f"00-{trace_id}-{span_id}-{flags}"


def trace_id(traceparent: str) -> str:
    """Return the 32 hexadecimal digits of the trace of a well-formed context."""
    return traceparent[3:35]


def log_fields(traceparent: str | None) -> dict[str, str]:
    """Return the trace id as a field of log lines; none without a context."""
    return {} if traceparent is None else {"trace_id": trace_id(traceparent)}


def parent_id(traceparent: str) -> str:
    """Return the 16 hexadecimal digits of the span that a well-formed context names."""
    return traceparent[36:52]


def is_sampled(traceparent: str) -> bool:
    """Return whether the spans of the trace are to be recorded."""
    return bool(int(traceparent[53:55], 16) & 1)


def child(context: str, span_id: str) -> str:
    """Return the context of a span in the same trace."""
    return traceparent(trace_id(context), span_id, SAMPLED if is_sampled(context) else NOT_SAMPLED)


def derive_trace_id(run_id: str) -> str:
    """Return the trace id of a run whose request has none: a digest, because samplers expect random digits."""
    return hashlib.sha256(run_id.encode()).hexdigest()[:32]


def derive_span_id(*subject: str | int) -> str:
    """Return the span id of a subject, such as a run and the number of an attempt."""
    return hashlib.sha256(f"{subject}".encode()).hexdigest()[:16]


def accept_span_id(run_id: str) -> str:
    """Return the id of the span in which a run was accepted."""
    return derive_span_id(run_id, "accept")


def kickoff_span_id(run_id: str, attempt: int) -> str:
    """Return the id of the span of a POST."""
    return derive_span_id(run_id, "kickoff", attempt)


def delivery_span_id(delivery_id: str, attempt: int) -> str:
    """Return the id of the span of an attempt at a delivery."""
    return derive_span_id(delivery_id, "attempt", attempt)
