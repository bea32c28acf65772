"""The repaired head of a malformed response: its status and its body stay readable."""

import pytest

from bridge.core.http.response_head import announces_close, end_of_head, is_interim, sanitized, status_code


def head(*lines: str, status: str = "HTTP/1.1 200 OK") -> bytes:
    return "\r\n".join([status, *lines, "", ""]).encode("latin-1")


def read(sanitized: bytes) -> tuple[str, set[str]]:
    first, *lines = sanitized.decode().removesuffix("\r\n\r\n").split("\r\n")
    return first, set(lines)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\n", 200),
        (b"HTTP/1.1 204\r\n", 204),
        (b"HTTP/1.0 410 Gone\nrest", 410),
        (b"HTTP/2 503 \r\n", 503),
        (b"HTTP/1.1 200 OK", None),
        (b"HTTP/1.1 2000 OK\r\n", None),
        (b"SSH-2.0\r\n", None),
        (b"HTTP/1.1 200 " + b"x" * 70_000 + b"\r\n", None),
    ],
)
def test_the_status_is_known_once_its_line_is_complete(data: bytes, expected: int | None) -> None:
    assert status_code(data) == expected


def test_the_head_ends_with_an_empty_line() -> None:
    assert end_of_head(b"HTTP/1.1 200 OK\r\nA: b\r\n") is None
    assert end_of_head(b"HTTP/1.1 200 OK\r\n\r\nbody") == 19
    assert end_of_head(b"HTTP/1.1 200 OK\n\nbody") == 17


def test_interim_responses_are_recognized() -> None:
    assert [is_interim(status) for status in (100, 103, 101, 200, None)] == [True, True, False, False, False]


def test_only_relevant_headers_are_kept() -> None:
    lines = [f"X-{number}: {'v' * 9000}" for number in range(200)]
    lines += ["Content-Type: text/plain", "RETRY-AFTER : 7", "Set-Cookie: a=b", "no header", " folded: line"]
    assert read(sanitized(head(*lines, "Content-Length: 5"))) == (
        "HTTP/1.1 200 -",
        {"content-type: text/plain", "retry-after: 7", "content-length: 5"},
    )


@pytest.mark.parametrize("value", ["v" * 2000, "a\x00b", "a\rb"])
def test_an_invalid_header_is_dropped(value: str) -> None:
    assert read(sanitized(head(f"Content-Type: {value}"))) == ("HTTP/1.1 200 -", set())


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], set()),
        (["Content-Length: 5", "Content-Length: 5"], {"content-length: 5"}),
        (["Content-Length: 5, 5"], {"content-length: 5"}),
        (["Content-Length: 5", "Content-Length: 6", "Connection: keep-alive"], {"connection: close"}),
        (["Content-Length: five"], {"connection: close"}),
        (["Content-Length: -1"], {"connection: close"}),
        (["Content-Length: " + "9" * 40], {"connection: close"}),
        (["Transfer-Encoding: chunked"], {"transfer-encoding: chunked"}),
        (
            ["Transfer-Encoding: Chunked", "Transfer-Encoding: chunked"],
            {"transfer-encoding: chunked", "connection: close"},
        ),
        (["Transfer-Encoding: chunked", "Content-Length: 5"], {"transfer-encoding: chunked", "connection: close"}),
        (["Transfer-Encoding: identity", "Content-Length: 5"], {"content-length: 5", "connection: close"}),
        (["Transfer-Encoding: identity"], {"connection: close"}),
    ],
)
def test_the_body_has_one_valid_framing(lines: list[str], expected: set[str]) -> None:
    assert read(sanitized(head(*lines))) == ("HTTP/1.1 200 -", expected)


@pytest.mark.parametrize("status", ["HTTP/1.1 204 No Content", "HTTP/1.1 304 Not Modified"])
def test_bytes_after_a_response_without_a_body_are_not_the_next_response(status: str) -> None:
    assert read(sanitized(head(status=status)))[1] == set()
    assert read(sanitized(head("Content-Length: 0", status=status)))[1] == set()
    assert read(sanitized(head("Content-Length: 5", status=status)))[1] == {"connection: close"}
    assert read(sanitized(head("Transfer-Encoding: chunked", status=status)))[1] == {"connection: close"}


def test_versions() -> None:
    assert read(sanitized(head(status="HTTP/1.0 200 OK"))) == ("HTTP/1.0 200 -", set())
    assert read(sanitized(head(status="HTTP/2 200"))) == ("HTTP/1.1 200 -", {"connection: close"})
    assert sanitized(b"220 smtp.example ESMTP\r\n\r\n") == b"220 smtp.example ESMTP\r\n\r\n"


@pytest.mark.parametrize(
    ("lines", "status", "expected"),
    [
        ((), "HTTP/1.1 200 OK", False),
        (("Content-Type: text/close", "Connection: keep-alive"), "HTTP/1.1 200 OK", False),
        (("Connection: Close",), "HTTP/1.1 200 OK", True),
        (("Connection: x, close",), "HTTP/1.1 200 OK", True),
        ((), "HTTP/1.0 200 OK", True),
    ],
)
def test_a_head_announces_the_end_of_its_connection(lines: tuple[str, ...], status: str, expected: bool) -> None:
    assert announces_close(head(*lines, status=status)) is expected
