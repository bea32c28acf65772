"""How log lines look, and what is never in them.

One event per line: a snake_case name and the ids bound to it. JSON for machines, colours on a terminal. Whatever
is rendered passes `Redaction` last, so that no caller and no library can put a secret into a line.
"""

import json
import logging
import math
import re
import sys
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from bridge.core.redaction import MASK, SHORTEST_SECRET, forms

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "json", "console"]

LIBRARY_EVENT = "library_message"

_SECRET_NAME = re.compile(
    r"authorization|token|secret|password|signature|cookie|api[-_]?key|callback_url", re.IGNORECASE
)
_SECRET_SHAPES = (
    (re.compile(r"\b(bearer)\s+[^\s\"',;]+", re.IGNORECASE), rf"\1 {MASK}"),
    (re.compile(r"\b(Basic) [A-Za-z0-9+/]{8,}={0,2}"), rf"\1 {MASK}"),
    (re.compile(r"(wh(?:sec|sk)_)[A-Za-z0-9+/=_-]+"), rf"\1{MASK}"),
    (re.compile(r"(://)[^\s\"'<>]*@"), rf"\1{MASK}@"),  # up to the last @: unquoted passwords hold them, too
    (re.compile(r"(/amp/)[^/\s\"'<>]+"), rf"\1{MASK}"),  # the path is the permission
    (re.compile(r"([?&][\w-]*(?:token|secret|signature|password|key)=)[^&\s\"'<>]+", re.IGNORECASE), rf"\1{MASK}"),
)
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_NAMES_REMEMBERED = 512  # the names in log calls are few; those in logged mappings may be anybody's
_FRAME_LOGGERS = ("aiormq", "aio_pika")  # at DEBUG they print frames: bodies and credentials
# Of every end of a broker connection, and every vain attempt to open one, our own line tells, once and with a remedy.
_TOLD_ALREADY = (
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
    """Set up all logging of this process; `stream` is standard error by default.

    `level` is for our own lines; libraries are heard from WARNING on. `secrets` are live secret values: wherever one of
    at least `SHORTEST_SECRET` characters would appear, a mask does.
    """
    stream = sys.stderr if stream is None else stream
    as_json = format == "json" or (format == "auto" and not stream.isatty())
    last = _last_processors(Redaction(secrets), as_json=as_json, colors=stream.isatty())
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, *_first_processors(), *last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=True,
    )
    _route_libraries(stream, last)


def learn(secrets: Iterable[str]) -> None:
    """From now on mask these secret values, too; the former ones stay masked."""
    for processor in structlog.get_config()["processors"]:
        if isinstance(processor, Redaction):
            processor.learn(secrets)


def _first_processors() -> list[Processor]:
    return [structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso", utc=True)]


def _last_processors(redaction: "Redaction", *, as_json: bool, colors: bool) -> list[Processor]:
    """Tracebacks become text before they are redacted; that text never holds local variables."""
    shared: list[Processor] = [structlog.processors.format_exc_info, redaction]
    if as_json:
        return [*shared, _leading_first, structlog.processors.JSONRenderer(serializer=json.dumps)]
    renderer = structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)
    return [*shared, _escape_controls, renderer]


def _route_libraries(stream: TextIO, last: list[Processor]) -> None:
    """Standard logging goes through the same chain, and nothing below WARNING gets in, whatever a logger's level."""
    handler = logging.StreamHandler(stream)
    handler.setLevel(logging.WARNING)
    handler.addFilter(_is_news)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, _one_line, _name_event, *_first_processors()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.raiseExceptions = False  # what logging prints of a malformed call has not been redacted
    for name in _FRAME_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)


def _is_news(record: logging.LogRecord) -> bool:
    return not (record.name.startswith(_FRAME_LOGGERS) and str(record.msg).startswith(_TOLD_ALREADY))


def _one_line(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Broker connections break as a matter of course: the AMQP library's tracebacks of it shrink to the exception."""
    if event["logger"].startswith(_FRAME_LOGGERS) and "exc_info" in event:
        event["error"] = _exception_text(event.pop("exc_info")[1])
    return event


def _name_event(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """A library's sentence is no event name; it becomes the `message` of one."""
    event["message"] = event["event"]
    event["event"] = LIBRARY_EVENT
    return event


def _leading_first(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """When, how grave and what at the start of each line, where eyes look."""
    leading = {name: event.pop(name) for name in ("timestamp", "level", "event") if name in event}
    return {**leading, **event}


def _escape_controls(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Nobody's text may start a line of its own or steer the terminal; a traceback keeps its line breaks."""
    return {name: _escaped(value, keep="\n" if name == "exception" else "") for name, value in event.items()}


def _escaped(value: Any, keep: str = "") -> Any:
    if not isinstance(value, str):
        return value  # shown by repr, which escapes
    return _CONTROLS.sub(lambda found: found[0] if found[0] in keep else ascii(found[0])[1:-1], value)


class Redaction:
    """Replaces secrets by a mask: by the name they go under, by their shape, and by their exact value.

    Gives back plain values only (text, numbers, lists, dicts), so that rendering finds nothing that it must print by
    `repr`, where a secret could hide.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secret_forms = set[str]()
        self.learn(secrets)

    def learn(self, secrets: Iterable[str]) -> None:
        """Replace these values, too."""
        self._secret_forms |= {form for one in secrets if len(one) >= SHORTEST_SECRET for form in forms(one)}
        longest_first = sorted(self._secret_forms, key=lambda form: (-len(form), form))
        values = [(re.compile("|".join(map(re.escape, longest_first))), MASK)] if longest_first else []
        self._shapes = (*values, *_SECRET_SHAPES)
        self._name = lru_cache(_NAMES_REMEMBERED)(self._read_name)

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        """The structlog processor."""
        return self.mapping(event)

    def mapping(self, content: Mapping[Any, Any]) -> dict[str, Any]:
        """A copy with text keys, where the values under a secret's name are masked."""
        redacted = {}
        for name, value in content.items():
            shown, is_secret = self._name(str(name))
            redacted[shown] = MASK if is_secret and not _says_nothing(value) else self.value(value)
        return redacted

    def value(self, value: Any) -> Any:
        """A redacted copy of any value."""
        if _says_nothing(value):
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return self.mapping(value)
        if isinstance(value, list | tuple | set | frozenset):
            return [self.value(item) for item in value]
        return self._other(value)

    def text(self, text: str) -> str:
        """Text without known secrets and without what looks like one."""
        for shape, replacement in self._shapes:
            if shape.search(text):  # most text is clean, and to find that out costs a third of a `sub`
                text = shape.sub(replacement, text)
        return text

    def _read_name(self, name: str) -> tuple[str, bool]:
        """The name as it may be shown, and whether it says that its value is a secret."""
        return self.text(name), bool(_SECRET_NAME.search(name))

    def _other(self, value: Any) -> Any:
        """A number stays one unless it is a secret; everything else is shown as text."""
        shown = _exception_text(value) if isinstance(value, BaseException) else str(value)
        redacted = self.text(shown)
        is_number = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
        return value if is_number and redacted == shown else redacted


def _says_nothing(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _exception_text(error: BaseException | None) -> str:
    """Never the `repr`: that of an HTTP client's error holds the headers it sent."""
    return f"{type(error).__name__}: {error}" if error else "no exception"
