"""Requests to an open API: accepted from this machine, refused from a website in its browser."""

import pytest

from bridge.core.http.local_request import comes_from_other_site, names_loopback


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8080",
        "LOCALHOST:8080",
        "localhost.",
        "localhost.:8080",
        "bridge.localhost:8080",
        "127.0.0.1",
        "127.0.0.1:8080",
        "127.8.9.10:8080",
        "[::1]",
        "[::1]:8080",
        " localhost ",
    ],
)
def test_a_loopback_name_with_or_without_a_port_is_accepted(host: str) -> None:
    assert names_loopback([host])


@pytest.mark.parametrize(
    "hosts",
    [
        [],
        [""],
        ["evil.example"],
        ["evil.example:8080"],
        ["localhost.evil.example"],
        ["127.0.0.1.evil.example"],
        ["notlocalhost"],
        ["localhost@evil.example"],
        ["localhost/evil.example"],
        ["localhost, evil.example"],
        ["localhost:8080:8080"],
        ["0.0.0.0:8080"],
        ["192.168.0.1"],
        ["[::]"],
        ["[2001:db8::1]:8080"],
        ["[::1"],
        ["localhost", "evil.example"],
    ],
)
def test_any_other_name_is_foreign(hosts: list[str]) -> None:
    assert not names_loopback(hosts)


@pytest.mark.parametrize(
    ("origins", "sites"),
    [
        ([], []),
        (["http://localhost:8080"], ["same-origin"]),
        (["http://127.0.0.1:3000"], ["same-site"]),
        (["https://[::1]:8080"], []),
        ([], ["none"]),
    ],
)
def test_scripts_and_pages_of_this_machine_are_accepted(origins: list[str], sites: list[str]) -> None:
    assert not comes_from_other_site(origins, sites)


@pytest.mark.parametrize(
    ("origins", "sites"),
    [
        (["null"], []),
        ([""], []),
        (["https://evil.example"], []),
        (["http://localhost.evil.example"], []),
        (["http://localhost@evil.example"], []),
        (["http://[::1"], []),
        (["chrome-extension://localhost"], []),
        (["http://localhost", "https://evil.example"], []),
        ([], ["cross-site"]),
        (["http://localhost"], ["cross-site"]),
        ([], ["anything"]),
    ],
)
def test_another_site_is_recognized(origins: list[str], sites: list[str]) -> None:
    assert comes_from_other_site(origins, sites)
