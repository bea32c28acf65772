"""URLs and tokens that a client can use."""

import pytest

from bridge.core.http.target import check_base_url, check_host, check_token


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("https://example.com/", "https://example.com"),
        ("http://127.0.0.1:8080/bridge/", "http://127.0.0.1:8080/bridge"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("http://my_host.", "http://my_host."),
    ],
)
def test_paths_can_be_appended_to_a_base_url(url: str, base: str) -> None:
    assert check_base_url(url) == base


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("https://example.com?x=1", "must not contain a query or a fragment"),
        ("https://example.com#top", "must not contain a query or a fragment"),
        ("ftp://example.com", "must be an absolute URL"),
        ("https://", "must be an absolute URL"),
        ("example.com", "must be an absolute URL"),
        ("https://me:secret@example.com", "must not contain a user name or password"),
        ("https://example.com:port", "is not a URL"),
        ("https://exa mple.com", "must be ASCII without spaces"),
        ("https://a..b", "the host must be an IP address, or a name"),
    ],
)
def test_a_url_that_cannot_be_called_is_refused(url: str, problem: str) -> None:
    with pytest.raises(ValueError, match=f"^{problem}"):
        check_base_url(url)


def test_a_host_name_may_be_written_in_any_script() -> None:
    assert check_host("bücher.example") == "bücher.example"


@pytest.mark.parametrize("token", ["", "two words", "naïve", "line\nend"])
def test_a_token_that_does_not_fit_into_a_header_is_refused(token: str) -> None:
    assert check_token("tok-en_1") == "tok-en_1"
    with pytest.raises(ValueError, match="must be printable ASCII"):
        check_token(token)
