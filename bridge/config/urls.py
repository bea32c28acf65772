"""Validate URLs of each kind, and show them without their passwords.

No message here repeats a URL, because it may contain a password.
"""

import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from urllib.parse import SplitResult, parse_qs, urlsplit

from bridge.core.addresses import is_loopback
from bridge.core.http.target import check_host, split_url

_AMQP_PORTS = {"amqp": 5672, "amqps": 5671}
_PATTERN = re.compile(r"https?://(\*\.)?[A-Za-z0-9_.-]+(:[0-9]{1,5})?|https?://\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")
_TLS_OPTIONS = frozenset({"cafile", "certfile", "keyfile"})
_AMQP_OPTIONS = ("auth", "cafile", "certfile", "heartbeat", "keyfile")
_SYNONYMS = {
    "cacertfile": "cafile", "ca_certs": "cafile", "cacert": "cafile", "capath": "cafile", "auth_mechanism": "auth",
    "cafile": "sslrootcert", "sslca": "sslrootcert", "certfile": "sslcert", "keyfile": "sslkey", "ssl": "sslmode",
}  # fmt: skip
"""How other clients of RabbitMQ and PostgreSQL name the options."""
_SEVERAL_BROKERS = re.compile(r"[A-Za-z]+://[^/?#]*(@[^/?#]*[,;]|[,;][^/?#@]*([/?#]|$))|[A-Za-z]+://[^?#]*://")
_SQLITE = "sqlite:///"
_POSTGRESQL = ("postgresql://", "postgres://")
_POSTGRESQL_OPTIONS = frozenset(
    {"host", "sslmode", "sslrootcert", "sslcert", "sslkey", "channel_binding", "target_session_attrs"}
)
_SESSION_ATTRS = ("any", "read-write", "primary")
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


def check_proxy_url(url: str) -> str:
    """Return the URL of an HTTP proxy, with or without user and password. Raise `ValueError` if it is not one."""
    parts = split_url(url)
    if parts.scheme.startswith("socks"):
        raise ValueError("must be an HTTP proxy; SOCKS is not supported")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or "?" in url or "#" in url:
        raise ValueError("must be `env` or the URL of an HTTP proxy such as http://proxy.example.com:3128")
    check_host(parts.hostname)
    return url


def check_encrypted(url: str, *, insecure: bool) -> str:
    """Return the URL. Raise `ValueError` for plain http to another machine without `insecure`."""
    parts = urlsplit(url)
    if parts.scheme == "http" and not insecure and not is_loopback(parts.hostname or ""):
        raise ValueError("must be https; for plain http to another machine, set `insecure: true` beside it")
    return url


def check_pattern(pattern: str) -> str:
    """Return a pattern `scheme://host[:port]`, in which `*.` matches one or more labels. Raise `ValueError`."""
    if not _PATTERN.fullmatch(pattern):
        raise ValueError("must look like https://host, https://host:port or https://*.example.com")
    check_host(split_url(pattern.replace("*.", "", 1)).hostname or "")
    return pattern


def check_amqp_url(url: str) -> str:
    """Return a broker's URL. Raise `ValueError`, also for options that the AMQP library would silently misread."""
    if _SEVERAL_BROKERS.match(url):
        raise ValueError(
            "must name one host; give several as a list of URLs, and percent-encode `,`, `;`, and `@` in a password"
        )
    parts = split_url(url)
    if parts.scheme not in _AMQP_PORTS or not parts.hostname:
        raise ValueError(
            "must look like amqp://user:password@host:5672/vhost, or amqps://…; "
            "special characters in user and password are percent-encoded"
        )
    check_host(parts.hostname)
    _check_amqp_options(parts.scheme, url_options(url))
    return url


def url_options(url: str) -> dict[str, str]:
    """Return the options in the query of the URL of a broker or a database."""
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query, keep_blank_values=True).items()}


def _check_amqp_options(scheme: str, options: Mapping[str, str]) -> None:
    """Refuse options that the AMQP library would ignore, by default without TLS or as another user."""
    for name in options:
        if name in ("verify", "no_verify_ssl"):
            raise ValueError(f"must not disable the verification of certificates; remove {name}")
    _check_options(options, _AMQP_OPTIONS)
    if scheme != "amqps" and options.keys() & _TLS_OPTIONS:
        raise ValueError("must begin with amqps:// to use cafile, certfile, or keyfile")
    if (options.get("certfile") is None) != (options.get("keyfile") is None):
        raise ValueError("must have both certfile and keyfile, or neither")
    if options.get("auth", "PLAIN").upper() not in ("PLAIN", "EXTERNAL"):
        raise ValueError("auth must be PLAIN or EXTERNAL")
    if options.get("auth", "").upper() == "EXTERNAL" and "certfile" not in options:
        raise ValueError("must have certfile and keyfile with auth=EXTERNAL")


def _check_options(options: Mapping[str, str], known: Collection[str]) -> None:
    for name, value in options.items():
        if name not in known:
            near = [_SYNONYMS.get(name.lower()), *get_close_matches(name.lower(), known, n=1)]
            suggestion = next((f"; did you mean {option}?" for option in near if option in known), "")
            raise ValueError(f"accepts only the options {', '.join(sorted(known))}{suggestion}")
        if not value:
            raise ValueError(f"{name} must not be empty")


def amqp_location(url: str) -> str:
    """Return `host:port/vhost` of a broker's URL, without secrets."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or _AMQP_PORTS[parts.scheme]}{parts.path or '/'}"


def is_postgresql(url: str) -> bool:
    """Return whether the URL of a store is that of a PostgreSQL database."""
    return url.startswith(_POSTGRESQL)


def check_store_url(url: str) -> str:
    """Return the URL of a SQLite file or a PostgreSQL database. Raise `ValueError` if it is neither."""
    if is_postgresql(url):
        return _check_postgresql_url(url)
    file = url.removeprefix(_SQLITE)
    if file == url or not file or file == ":memory:" or "?" in file or file != file.strip() or not file.isprintable():
        raise ValueError(
            "must be sqlite:///relative/path, sqlite:////absolute/path, or postgresql://user:password@host/database"
        )
    return url


def store_location(url: str) -> str:
    """Return the file or `host:port/database` of a store's URL, without secrets."""
    if not is_postgresql(url):
        return url.removeprefix(_SQLITE)
    hosts = _each_host(url)
    names = ",".join(f"{host.hostname or 'local socket'}:{host.port or 5432}" for host in hosts)
    return f"{names}{hosts[0].path}"


def _check_postgresql_url(url: str) -> str:
    hosts = _each_host(url)
    parts, options = hosts[0], url_options(url)
    if not parts.path.strip("/") or "/" in parts.path[1:]:
        raise ValueError("must name a database: postgresql://user:password@host/database")
    if parts.hostname or len(hosts) > 1:
        for host in hosts:
            check_host(host.hostname or "")
    elif not options.get("host", "").startswith("/"):
        raise ValueError(
            "must name a host, or the directory of a local socket: postgresql:///database?host=/run/postgresql"
        )
    _check_options(options, _POSTGRESQL_OPTIONS)
    if (options.get("sslcert") is None) != (options.get("sslkey") is None):
        raise ValueError("must have both sslcert and sslkey, or neither")
    if options.get("sslmode", "disable") not in _SSL_MODES:
        raise ValueError(f"sslmode must be one of {', '.join(_SSL_MODES)}")
    if options.get("target_session_attrs", "any") not in _SESSION_ATTRS:
        raise ValueError(f"target_session_attrs must be one of {', '.join(_SESSION_ATTRS)}, because the bridge writes")
    return url


def _each_host(url: str) -> list[SplitResult]:
    """Return one URL for each host of a PostgreSQL URL, in which libpq accepts several, separated by commas."""
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    user, at, hosts = authority.rpartition("@")
    if "@" in user:
        raise ValueError("must name user and password once, before the first host; percent-encode `@` in them")
    return [split_url(f"{scheme}://{user}{at}{host}{slash}{path}") for host in hosts.split(",")]
