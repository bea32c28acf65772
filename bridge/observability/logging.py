"""Configure logging: one event per line, without secrets.

An event has a snake_case name and the ids that identify its subject. It is JSON, or colored text on a terminal.
`Redaction` is the last processor before the renderer, so that no caller and no library can log a secret.
"""

import json
import logging
import sys
from collections.abc import Iterable
from typing import Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from bridge.core.runs.quarantine import Quarantined
from bridge.observability.redaction import Redaction, _escaped, _exception_text

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "json", "console"]

LIBRARY_EVENT = "library_message_logged"

log = structlog.get_logger()

_FRAME_LOGGERS = ("aiormq", "aio_pika")  # at DEBUG they print frames: bodies and credentials
# The bridge logs each lost broker connection and failed attempt itself, once and with a remedy.
_LOGGED_BY_BRIDGE = (
    "Unexpected connection close from remote",
    "Cancelling cause reader exited abnormally",
    "error when creating transport",
)


def configure(
    level: Level,
    format: Format,  # noqa: A002  (the setting's own name)
    stream: TextIO | None = None,
    secrets: Iterable[str] = (),
) -> None:
    """Configure all logging of this process; `stream` is standard error by default.

    `level` applies to the bridge; libraries log from WARNING on. `secrets` are live values: those of at least
    `MIN_SECRET_LENGTH` characters are masked wherever they appear.
    """
    stream = sys.stderr if stream is None else stream
    as_json = format == "json" or (format == "auto" and not stream.isatty())
    writer = structlog.WriteLogger(stream)
    last = _last_processors(Redaction(secrets), as_json=as_json, colors=stream.isatty())
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, *_first_processors(), *last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_args: writer,
    )
    _route_libraries(stream, last)


def use_level(level: Level) -> None:
    """Log the bridge's events from this level on."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(level))


def learn(secrets: Iterable[str]) -> None:
    """Mask these values as well from now on; earlier secrets stay masked."""
    for processor in structlog.get_config()["processors"]:
        if isinstance(processor, Redaction):
            processor.learn(secrets)


def log_fault(kind: Quarantined, error: BaseException, /, *, repeated: bool = False, **about: object) -> None:
    """Log an unexpected exception with its traceback; `ports.ReportFault` for parts without metrics."""
    if not repeated:
        log.error("item_quarantined", kind=kind.value, **about, exc_info=error)


def _first_processors() -> list[Processor]:
    return [structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso", utc=True)]


def _last_processors(redaction: "Redaction", *, as_json: bool, colors: bool) -> list[Processor]:
    """Build the last processors. Tracebacks become text, without local variables, before they are redacted."""
    shared: list[Processor] = [structlog.processors.format_exc_info, redaction]
    if as_json:
        return [*shared, _leading_first, structlog.processors.JSONRenderer(serializer=json.dumps)]
    renderer = structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)
    return [*shared, _escape_controls, renderer]


def _route_libraries(stream: TextIO, last: list[Processor]) -> None:
    """Send standard logging through the same processors, from WARNING on, whatever a logger's level."""
    handler = logging.StreamHandler(stream)
    handler.setLevel(logging.WARNING)
    handler.addFilter(_is_not_duplicate)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, _one_line, _name_event, *_first_processors()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.raiseExceptions = False  # what logging prints for a malformed call is not redacted
    for name in _FRAME_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)


def _is_not_duplicate(record: logging.LogRecord) -> bool:
    return not (record.name.startswith(_FRAME_LOGGERS) and str(record.msg).startswith(_LOGGED_BY_BRIDGE))


def _one_line(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Reduce the AMQP library's tracebacks to the exception, because lost broker connections are expected."""
    if event["logger"].startswith(_FRAME_LOGGERS) and "exc_info" in event:
        event["error"] = _exception_text(event.pop("exc_info")[1])
    return event


def _name_event(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Move a library's text to `message`, because it is not an event name."""
    event["message"] = event["event"]
    event["event"] = LIBRARY_EVENT
    return event


def _leading_first(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Put the timestamp, level, and event name first."""
    leading = {name: event.pop(name) for name in ("timestamp", "level", "event") if name in event}
    return {**leading, **event}


def _escape_controls(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Escape control characters, which could forge a line or control the terminal; a traceback keeps line breaks."""
    return {name: _escaped(value, keep="\n" if name == "exception" else "") for name, value in event.items()}
