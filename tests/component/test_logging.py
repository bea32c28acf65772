"""Log lines: their format, and the redaction of secrets."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.observability import logging as logs

CANARY = 'canary-"7f3/a\\9é\n&=x'


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, raising = list(root.handlers), root.level, logging.raiseExceptions
    library_levels = {name: logging.getLogger(name).level for name in ("aiormq", "aio_pika")}
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers[:], logging.raiseExceptions = handlers, raising
    root.setLevel(level)
    for name, before in library_levels.items():
        logging.getLogger(name).setLevel(before)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def configured(level: logs.Level = "info", form: logs.Format = "json", secrets: tuple[str, ...] = ()) -> io.StringIO:
    stream = io.StringIO()
    logs.configure(level, form, stream, secrets)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def line_with(**content: Any) -> dict[str, Any]:
    stream = configured()
    structlog.get_logger().info("something_happened", **content)
    return lines(stream)[0]


def fail(error: Exception) -> NoReturn:
    raise error


class TestFormat:
    def test_a_line_starts_with_time_level_and_event(self) -> None:
        line = line_with(run_id="r1")

        assert list(line) == ["timestamp", "level", "event", "run_id"]
        assert line["timestamp"].endswith("Z")
        assert (line["level"], line["event"], line["run_id"]) == ("info", "something_happened", "r1")

    def test_ids_bound_to_the_context_are_on_the_line(self) -> None:
        stream = configured()
        with structlog.contextvars.bound_contextvars(crew="research"):
            structlog.get_logger().info("run_started")

        assert lines(stream)[0]["crew"] == "research"

    def test_lines_below_the_level_are_dropped(self) -> None:
        stream = configured(level="warning")
        structlog.get_logger().info("too_quiet")

        assert stream.getvalue() == ""

    def test_auto_is_json_without_a_terminal(self) -> None:
        stream = configured(form="auto")
        structlog.get_logger().info("run_started")

        assert lines(stream)[0]["event"] == "run_started"

    def test_auto_is_colored_text_on_a_terminal(self) -> None:
        stream = Terminal()
        logs.configure("info", "auto", stream)
        structlog.get_logger().info("run_started")

        assert "\x1b[" in stream.getvalue()

    def test_the_default_stream_is_standard_error(self, capsys: pytest.CaptureFixture[str]) -> None:
        logs.configure("info", "json")
        structlog.get_logger().info("run_started")

        assert "run_started" in capsys.readouterr().err

    def test_text_cannot_start_a_new_line_on_the_console(self) -> None:
        stream = configured(form="console")
        structlog.get_logger().info("refused", detail="x\n2026-01-01 [error] forged\x1b[31m")

        assert stream.getvalue().count("\n") == 1
        assert "\x1b" not in stream.getvalue()

    def test_values_that_json_does_not_support_are_logged_as_text(self) -> None:
        assert line_with(what={1, 1.5, None, b"x".__class__})["what"]
        assert line_with(number=float("nan"))["number"] == "nan"


class TestTracebacks:
    def test_local_variables_are_not_logged(self) -> None:
        stream = configured()
        self.log_a_failure(hidden="a-local-value")

        assert "RuntimeError: it broke" in lines(stream)[0]["exception"]
        assert "a-local-value" not in stream.getvalue()

    def test_the_console_keeps_line_breaks_of_tracebacks(self) -> None:
        stream = configured(form="console")
        self.log_a_failure(hidden="a-local-value")

        assert "\nRuntimeError: it broke" in stream.getvalue()
        assert "a-local-value" not in stream.getvalue()

    @staticmethod
    def log_a_failure(hidden: str) -> None:
        try:
            fail(RuntimeError("it broke"))
        except RuntimeError:
            structlog.get_logger().exception("step_failed")

    def test_the_message_of_an_exception_is_redacted(self) -> None:
        stream = configured()
        try:
            fail(RuntimeError("cannot reach amqp://user:hunter2@broker/"))
        except RuntimeError:
            structlog.get_logger().exception("step_failed")

        assert "hunter2" not in stream.getvalue()

    def test_an_exception_as_a_value_is_logged_without_its_repr(self) -> None:
        class Chatty(Exception):
            def __repr__(self) -> str:
                return "request headers and all"

        assert line_with(error=Chatty("went wrong"))["error"] == "Chatty: went wrong"


class TestLibraries:
    def test_a_warning_of_a_library_is_one_event_with_its_message(self) -> None:
        stream = configured()
        logging.getLogger("aiohttp.server").warning("bad %s", "request")

        line = lines(stream)[0]
        assert (line["event"], line["logger"], line["message"]) == (
            "library_message_logged",
            "aiohttp.server",
            "bad request",
        )

    def test_info_lines_of_libraries_are_dropped(self) -> None:
        stream = configured(level="debug")
        logging.getLogger("aiohttp.access").info("GET /")

        assert stream.getvalue() == ""

    @pytest.mark.parametrize("name", ["aiormq.connection", "aio_pika.queue"])
    def test_broker_frames_are_never_logged(self, name: str) -> None:
        """At DEBUG level these loggers print bodies and credentials."""
        stream = configured(level="debug")
        logging.getLogger(name).debug("Sending frame with everything in it")

        assert stream.getvalue() == ""

    def test_frames_are_not_logged_even_if_their_logger_is_enabled(self, monkeypatch: pytest.MonkeyPatch) -> None:
        stream = configured(level="debug")
        monkeypatch.setattr(logging.getLogger("aiormq.connection"), "level", logging.DEBUG)
        logging.getLogger("aiormq.connection").debug("Sending frame with everything in it")

        assert stream.getvalue() == ""

    def test_a_broken_broker_connection_is_one_line_without_traceback(self) -> None:
        stream = configured()
        try:
            fail(ConnectionResetError("peer went away"))
        except ConnectionResetError:
            logging.getLogger("aiormq.connection").warning("Server connection closed", exc_info=True)

        line = lines(stream)[0]
        assert line["error"] == "ConnectionResetError: peer went away"
        assert "exception" not in line

    def test_other_libraries_keep_their_tracebacks(self) -> None:
        stream = configured()
        try:
            fail(KeyError("x"))
        except KeyError:
            logging.getLogger("asyncio").exception("Task exception was never retrieved")

        assert "Traceback" in lines(stream)[0]["exception"]

    @pytest.mark.parametrize(
        "message",
        [
            'Unexpected connection close from remote "amqp://h", Connection.Close(reply_code=320)',
            "Cancelling cause reader exited abnormally",
            "error when creating transport: ConnectionRefusedError()",
        ],
    )
    def test_library_lines_that_repeat_a_line_of_the_bridge_are_dropped(self, message: str) -> None:
        """Every loss of the broker logged three lines, and every failed reconnect one more."""
        stream = configured()
        logging.getLogger("aiormq.connection").error(message)
        logging.getLogger("aiohttp.server").error(message)
        assert [line["logger"] for line in lines(stream)] == ["aiohttp.server"]

    def test_library_lines_are_redacted(self) -> None:
        stream = configured(secrets=("s3cret-value",))
        logging.getLogger("anything").error("sent %r to %s", "s3cret-value", "amqp://guest:hunter2@host/")

        assert lines(stream)[0]["message"] == "sent '***' to amqp://***@host/"

    def test_a_malformed_call_logs_nothing_unredacted(self, capsys: pytest.CaptureFixture[str]) -> None:
        configured(secrets=("s3cret-value",))
        logging.getLogger("anything").error("one %s", "s3cret-value", "too many")  # noqa: PLE1205

        assert "s3cret-value" not in capsys.readouterr().err


class TestRedaction:
    @pytest.mark.parametrize(
        "name",
        [
            "authorization",
            "Authorization",
            "token",
            "response_token",
            "client_secret",
            "password",
            "webhook-signature",
            "set-cookie",
            "api_key",
            "api-key",
            "apikey",
            "callback_url",
        ],
    )
    def test_a_value_under_a_secret_name_is_masked_at_any_depth(self, name: str) -> None:
        assert line_with(headers={name: ["x", 1]})["headers"] == {name: "***"}

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("sent Bearer abc.def-1", "sent Bearer ***"),
            ("header Basic dXNlcjpwYXNz", "header Basic ***"),
            ("signed with whsec_MfKQ9r8GKY+/=", "signed with whsec_***"),
            ("signed with whsk_MfKQ9r8GKY", "signed with whsk_***"),
            ("amqp://user:p@ss@host:5672/v", "amqp://***@host:5672/v"),
            ("POST /amp/0192abc/crew", "POST /amp/***/crew"),
            ("https://x.example/cb?a=1&response_token=t0k&b=2", "https://x.example/cb?a=1&response_token=***&b=2"),
        ],
    )
    def test_text_that_looks_like_a_secret_is_masked(self, text: str, shown: str) -> None:
        assert line_with(detail=text)["detail"] == shown

    def test_a_known_secret_is_masked_in_any_position(self) -> None:
        stream = configured(secrets=("s3cret-value",))
        structlog.get_logger().info("x", path="/a/s3cret-value/b", **{"s3cret-value": 1})

        assert "s3cret-value" not in stream.getvalue()
        assert lines(stream)[0]["path"] == "/a/***/b"

    def test_a_renewed_secret_and_the_former_one_are_masked(self) -> None:
        stream = configured(secrets=("former-secret",))
        log = structlog.get_logger()
        log.info("first", text="former-secret later-secret", **{"later-secret": 1})  # the name is cached by then
        logs.learn(["later-secret"])
        log.info("second", text="former-secret later-secret", **{"later-secret": 1})
        logging.getLogger("library").warning("later-secret")
        shown = [line.get("text", line.get("message")) for line in lines(stream)]
        assert shown == ["*** later-secret", "*** ***", "***"]
        assert "later-secret" not in lines(stream)[1]

    def test_a_known_secret_is_masked_when_it_is_a_number(self) -> None:
        stream = configured(secrets=("1234567890",))
        structlog.get_logger().info("x", ids=[1234567890, 7])

        assert lines(stream)[0]["ids"] == ["***", 7]

    def test_the_longer_of_two_secrets_is_masked_in_full(self) -> None:
        stream = configured(secrets=("12345678", "12345678-and-more"))
        structlog.get_logger().info("x", text="12345678-and-more")

        assert lines(stream)[0]["text"] == "***"

    def test_short_secrets_do_not_mask_ordinary_words(self) -> None:
        stream = configured(secrets=("guest",))
        structlog.get_logger().info("guest_arrived")

        assert lines(stream)[0]["event"] == "guest_arrived"

    def test_booleans_and_null_under_a_secret_name_stay_readable(self) -> None:
        line = line_with(token=None, has_token=True)

        assert (line["token"], line["has_token"]) == (None, True)


class Opaque:
    """An object whose repr contains its value."""

    def __init__(self, held: object) -> None:
        self._held = held

    def __repr__(self) -> str:
        return f"Opaque({self._held!r})"


def wrapped(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.text(max_size=5) | st.just(CANARY), inner, max_size=3),
        inner.map(Opaque),
        inner.map(ValueError),
    )


HIDING_PLACES = st.builds("{}{}{}".format, st.text(max_size=5), st.just(CANARY), st.text(max_size=5))
LEAVES = st.one_of(HIDING_PLACES, HIDING_PLACES.map(str.encode), st.integers(), st.floats(), st.none())
NESTED = st.recursive(LEAVES, wrapped, max_leaves=8)


@pytest.mark.parametrize("form", ["json", "console"])
@settings(deadline=None)
@given(content=NESTED)
def test_no_data_structure_reveals_a_known_secret(form: logs.Format, content: Any) -> None:
    stream = configured(form=form, secrets=(CANARY,))
    structlog.get_logger().info("something_happened", content=content)

    line = stream.getvalue()
    assert not [form for form in (CANARY, json.dumps(CANARY)[1:-1], repr(CANARY)[1:-1]) if form in line]
