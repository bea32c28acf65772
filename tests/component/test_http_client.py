"""Failures of HTTP requests, as operators and clients read them."""

import aiohttp
import pytest

from bridge.adapters.http_client import describe_failure


@pytest.mark.parametrize(
    ("error", "description"),
    [
        (TimeoutError(), "timed out"),
        (aiohttp.ServerTimeoutError(), "timed out"),
        (aiohttp.ServerDisconnectedError(), "connection closed"),
        (ConnectionResetError(104, "reset"), "connection closed"),
        (aiohttp.ClientPayloadError("half"), "incomplete response"),
        (aiohttp.InvalidURL("http://user:secret@host"), "malformed response"),
    ],
)
def test_a_failure_is_described_without_class_name_errno_or_address(error: Exception, description: str):
    assert describe_failure(error) == description
