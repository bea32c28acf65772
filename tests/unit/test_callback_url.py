"""Callback URLs that a request may contain."""

import pytest

from bridge.core.callback_url import CallbackRules, check
from bridge.core.errors import RequestRefused

ANY = CallbackRules()
CLOSED = CallbackRules(allow_private=True)
LISTED = CallbackRules(allow=["https://*.shop.example", "https://exact.example:8443", "http://*.inside.example"])
NONE = CallbackRules(allow=[])


@pytest.mark.parametrize(
    ("url", "rules"),
    [
        ("https://shop.example/done?order=1#top", ANY),
        ("HTTPS://Shop.Example", ANY),
        ("https://shop.example:8443/", ANY),
        ("https://xn--grsse-lva.example/", ANY),
        ("http://10.1.2.3:8080/", CLOSED),
        ("http://localhost/", CLOSED),
        ("https://8.8.8.8/", ANY),
        ("https://[2606:4700:4700::1111]:8443/", ANY),
        ("https://a.example:9000/", CallbackRules(allow=["https://a.example:9000"])),
        ("https://a.shop.example/x", LISTED),
        ("https://a.b.shop.example/x", LISTED),
        ("https://A.SHOP.example:443/x", LISTED),
        ("https://exact.example:8443/", LISTED),
    ],
)
def test_an_allowed_url_is_accepted(url: str, rules: CallbackRules):
    check(url, rules)


@pytest.mark.parametrize(
    ("url", "rules"),
    [
        ("", ANY),
        ("shop.example/done", ANY),
        ("/done", ANY),
        ("https:///done", ANY),
        ("ftp://shop.example", ANY),
        ("file:///etc/passwd", ANY),
        ("javascript:alert(1)", ANY),
        ("http://shop.example/", ANY),
        ("https://user@shop.example/", ANY),
        ("https://user:pass@shop.example/", ANY),
        ("https://@shop.example/", ANY),
        ("https://shop.example:port/", ANY),
        ("https://shop.example:99999/", ANY),
        ("https://[::1/", ANY),
        ("https://größe.example/", ANY),
        ("https://shop.example/\r\nX: y", ANY),
        ("https://shop.example/a\tb", ANY),
        ("https://shop.example/", LISTED),
        ("https://evilshop.example/", LISTED),
        ("https://a.shop.example.evil.example/", LISTED),
        ("https://a.shop.example:8443/", LISTED),
        ("https://exact.example/", LISTED),
        ("http://a.inside.example/", LISTED),
        ("https://a.inside.example/", LISTED),
        ("https://shop.example/", NONE),
        ("https://shop.example:22/", ANY),
        ("https://shop.example:80/", ANY),
        ("https://shop.example:0/", ANY),
        ("https://exact.example:0/", CallbackRules(allow=["https://exact.example"])),
        ("http://8.8.8.8/", CLOSED),
        ("http://[2606:4700:4700::1111]/", CLOSED),
        ("http://[64:ff9b::808:808]/", CLOSED),
    ],
)
def test_any_other_url_is_refused(url: str, rules: CallbackRules):
    with pytest.raises(RequestRefused) as caught:
        check(url, rules)
    assert (caught.value.code, caught.value.field) == ("callback_not_allowed", "callback_url")


@pytest.mark.parametrize("url", ["https://shop example/", " https://shop.example/", "https://shop.example/a b"])
def test_a_url_with_a_space_is_refused(url: str):
    """It can never be called; if it were accepted, its event would be retried for days."""
    with pytest.raises(RequestRefused):
        check(url, ANY)


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.8", "[::1]", "[::ffff:169.254.169.254]", "169.254.169.254"])
def test_a_private_address_in_numeric_form_is_refused(host: str):
    """The request is refused and no execution starts; the check at the socket alone would come too late."""
    with pytest.raises(RequestRefused):
        check(f"https://{host}/", ANY)


@pytest.mark.parametrize("rules", [ANY, CLOSED])
@pytest.mark.parametrize(
    "host",
    [
        "127.1", "0x7f.1", "0x7f000001", "2130706433", "0177.0.0.1", "127.0.0.01", "127.0.0.1.", "1.2.3", "0x08.8.8.8",
        "a.example.0x7f", "a.1", "shop.example.", "a..example", ".example", "%31%32%37.0.0.1", "a%2eexample",
        "[fe80::1%25lo]", "[v1.x]", "a.example\\.b.example", "a*b", "x" * 64 + ".example", "x." * 127 + "x",
    ],
)  # fmt: skip
def test_an_ambiguous_host_is_refused(host: str, rules: CallbackRules):
    """The URL check took such a host for a name, and the system resolver took it for 127.0.0.1."""
    with pytest.raises(RequestRefused):
        check(f"https://{host}/", rules)


def test_plain_http_may_be_listed_where_private_addresses_are_allowed():
    check("http://a.inside.example/", CallbackRules(allow=LISTED.allow, allow_private=True))
