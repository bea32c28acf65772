"""Verify the senders of webhooks, by signatures over the raw body or by passwords, more strictly than most libraries.

Every secret is compared with every offered signature in constant time. A timestamp is checked only after the signature,
so that an expired request takes as long as a forged one. The reason of a failure is for the operator; the sender only
receives 401.

A verifier returns the signature digest: the hash of everything that was signed. Equal digests identify a replay of the
same request. Passwords sign nothing, so they have no digest.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from bridge.core.errors import NotVerified

Headers = Mapping[str, Sequence[str]]
"""Every value of each header, under its name in lower case."""

Algorithm = Literal["sha1", "sha256", "sha512"]
Encoding = Literal["hex", "base64"]

Check = Callable[[bytes, bytes], bool]
"""Verifies a signature of signed bytes with a public key, which the standard library cannot do."""

TOLERANCE = 300.0  # seconds, into the past and the future
MAX_SIGNATURES = 8  # in one request; the rest is ignored

PRIVATE, PUBLIC = "whsk_", "whpk_"
_SEED, _PAIR, _PUBLIC = 32, 64, 32  # bytes; a private key may be followed by its public key
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")  # without dots, which would make `id.timestamp.body` ambiguous
_TIMESTAMP = re.compile(r"[0-9]{1,12}")


@dataclass(frozen=True, slots=True)
class StandardWebhooks:
    """Standard Webhooks 1.0.0: `keys` are decoded `whsec_` secrets (`v1`), `checks` stand for `whpk_` keys (`v1a`).

    The headers are `webhook-…`, or `svix-…` as Svix names them.
    """

    keys: tuple[bytes, ...] = field(repr=False)
    tolerance: float = TOLERANCE
    checks: tuple[Check, ...] = field(default=(), repr=False)

    def __call__(self, headers: Headers, body: bytes, now: float) -> str:
        """Return the signature digest; raise `NotVerified`."""
        prefix = "svix" if "svix-id" in headers and "webhook-id" not in headers else "webhook"
        message_id = _only(headers, f"{prefix}-id")
        if not _ID.fullmatch(message_id):
            raise NotVerified(f"{prefix}-id is not 1 to 128 letters, digits, - or _")
        timestamp = _timestamp(_only(headers, f"{prefix}-timestamp"))
        versions = [part.partition(",") for part in _only(headers, f"{prefix}-signature").split(" ")]
        offered = [text for version, _, text in versions if version == "v1" and text]
        asymmetric = [text for version, _, text in versions if version == "v1a" and text]
        signed = f"{message_id}.{timestamp}.".encode() + body
        found = _matches(self.keys, signed, "sha256", "base64", offered) | _checked(self.checks, signed, asymmetric)
        _require(found=found, offered=offered + asymmetric)
        _require_recent(timestamp, now, self.tolerance)
        return _signature_digest(signed)


@dataclass(frozen=True, slots=True)
class Stripe:
    """The header `Stripe-Signature: t=…,v1=…`; a secret is used as written, including `whsec_`."""

    keys: tuple[bytes, ...] = field(repr=False)
    tolerance: float = TOLERANCE

    def __call__(self, headers: Headers, body: bytes, now: float) -> str:
        """Return the signature digest; raise `NotVerified`."""
        pairs = [part.partition("=") for part in _only(headers, "stripe-signature").split(",")]
        times = [value for name, _, value in pairs if name == "t"]
        if len(times) != 1:
            raise NotVerified("stripe-signature does not contain exactly one t=")
        timestamp = _timestamp(times[0])
        signed = f"{timestamp}.".encode() + body
        _require_match(self.keys, signed, "sha256", "hex", [text for name, _, text in pairs if name == "v1" and text])
        _require_recent(timestamp, now, self.tolerance)
        return _signature_digest(signed)


@dataclass(frozen=True, slots=True)
class Hmac:
    """A signature in a header, over the body, or over a timestamp from another header and the body.

    With a timestamp, the signed text is `start`, timestamp, `separator`, body. `tolerance` in seconds. While a sender
    rotates its secret, the header may contain several signatures, separated by commas or spaces.
    """

    keys: tuple[bytes, ...] = field(repr=False)
    header: str
    algorithm: Algorithm = "sha256"
    encoding: Encoding = "hex"
    prefix: str = ""
    timestamp_header: str | None = None
    tolerance: float = TOLERANCE
    start: bytes = b""
    separator: bytes = b"."

    def __call__(self, headers: Headers, body: bytes, now: float) -> str:
        """Return the signature digest; raise `NotVerified`."""
        offered = re.findall(rf"(?<![^,\s]){re.escape(self.prefix)}([^,\s]+)", _only(headers, self.header))
        if not offered:
            raise NotVerified(f"{self.header.lower()} does not begin with {self.prefix}")
        stamp = None if self.timestamp_header is None else _timestamp(_only(headers, self.timestamp_header))
        signed = body if stamp is None else self.start + stamp.encode() + self.separator + body
        _require_match(self.keys, signed, self.algorithm, self.encoding, offered)
        if stamp is not None:
            _require_recent(stamp, now, self.tolerance)
        return _signature_digest(signed)


def github(keys: tuple[bytes, ...]) -> Hmac:
    """Verify GitHub's signature of the body. It has no timestamp, so only the digest reveals a replay."""
    return Hmac(keys, "x-hub-signature-256", prefix="sha256=")


def slack(keys: tuple[bytes, ...]) -> Hmac:
    """Verify Slack's signature of `v0:timestamp:body`."""
    return Hmac(
        keys,
        "x-slack-signature",
        prefix="v0=",
        timestamp_header="x-slack-request-timestamp",
        start=b"v0:",
        separator=b":",
    )


def shopify(keys: tuple[bytes, ...]) -> Hmac:
    """Verify Shopify's signature of the body. It has no timestamp, so only the digest reveals a replay."""
    return Hmac(keys, "x-shopify-hmac-sha256", encoding="base64")


@dataclass(frozen=True, slots=True)
class Basic:
    """Basic authentication (RFC 7617)."""

    username: str
    password: str = field(repr=False)

    def __call__(self, headers: Headers, body: bytes, now: float) -> None:
        """Raises `NotVerified`."""
        del body, now
        try:
            offered = base64.b64decode(_credentials(headers, "basic"), validate=True)
        except (binascii.Error, ValueError):
            raise NotVerified("authorization is not base64") from None
        if not _same(offered, f"{self.username}:{self.password}".encode()):
            raise NotVerified("wrong user name or password")


@dataclass(frozen=True, slots=True)
class Bearer:
    """A bearer token out of one or more."""

    tokens: tuple[str, ...] = field(repr=False)

    def __call__(self, headers: Headers, body: bytes, now: float) -> None:
        """Raises `NotVerified`."""
        del body, now
        _require_token(_credentials(headers, "bearer"), self.tokens)


@dataclass(frozen=True, slots=True)
class HeaderToken:
    """A token out of one or more, as the whole value of a header of any name, such as GitLab's `X-Gitlab-Token`."""

    header: str
    tokens: tuple[str, ...] = field(repr=False)

    def __call__(self, headers: Headers, body: bytes, now: float) -> None:
        """Raises `NotVerified`."""
        del body, now
        _require_token(_only(headers, self.header), self.tokens)


@dataclass(frozen=True, slots=True)
class AllowAll:
    """No verification, as the settings explicitly permit."""

    def __call__(self, headers: Headers, body: bytes, now: float) -> None:
        """Accept every request."""
        del headers, body, now


Verifier = StandardWebhooks | Stripe | Hmac | Basic | Bearer | HeaderToken | AllowAll


def standard_webhooks_key(secret: str) -> bytes:
    """Decode a Standard Webhooks secret, with or without `whsec_` and padding; raises `ValueError`."""
    text = secret.removeprefix("whsec_")
    try:
        key = base64.b64decode(_padded(text), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise ValueError("must be whsec_ followed by base64")
    return key


def ed25519_seed(secret: str) -> bytes:
    """Return the 32-byte seed in a `whsk_` secret; raises `ValueError`."""
    return _ed25519(secret, PRIVATE, (_SEED, _PAIR))[:_SEED]


def ed25519_public(key: str) -> bytes:
    """Return the 32 bytes of a `whpk_` key; raises `ValueError`."""
    return _ed25519(key, PUBLIC, (_PUBLIC,))


def _ed25519(text: str, prefix: str, sizes: Sequence[int]) -> bytes:
    key = _canonical(text.removeprefix(prefix)) if text.startswith(prefix) else b""
    if len(key) not in sizes:
        raise ValueError(f"must be {prefix} followed by the base64 of {' or '.join(map(str, sizes))} bytes")
    return key


def _canonical(text: str) -> bytes:
    """Decode base64, with or without padding; return no bytes for anything but the canonical encoding."""
    try:
        decoded = base64.b64decode(_padded(text), validate=True)
    except (binascii.Error, ValueError):
        return b""
    return decoded if base64.b64encode(decoded).decode() == _padded(text) else b""


def _only(headers: Headers, name: str) -> str:
    values = headers.get(name.lower(), ())
    if len(values) != 1:
        raise NotVerified(f"{name.lower()} is given more than once" if values else f"{name.lower()} is missing")
    return values[0]


def _timestamp(text: str) -> str:
    """Check a timestamp and return it as sent, because the text is what was signed."""
    if not _TIMESTAMP.fullmatch(text):
        raise NotVerified("the timestamp is not a whole number of seconds")
    return text


def _require_recent(timestamp: str, now: float, tolerance: float) -> None:
    age = now - int(timestamp)
    if abs(age) > tolerance:
        raise NotVerified(
            f"the timestamp is {abs(age):.0f} s {'old' if age > 0 else 'ahead'}, not within {tolerance:g}"
        )


def _require_match(
    keys: Iterable[bytes], signed: bytes, algorithm: Algorithm, encoding: Encoding, offered: Sequence[str]
) -> None:
    _require(found=_matches(keys, signed, algorithm, encoding, offered), offered=offered)


def _require(*, found: bool, offered: Sequence[str]) -> None:
    if not found:
        raise NotVerified("no signature matches" if offered else "there is no signature")


def _checked(checks: Iterable[Check], signed: bytes, offered: Sequence[str]) -> bool:
    considered = [_canonical(text) for text in offered[:MAX_SIGNATURES]]
    return any([check(signature, signed) for check in checks for signature in considered])  # noqa: C419  (constant time)


def _matches(
    keys: Iterable[bytes], signed: bytes, algorithm: Algorithm, encoding: Encoding, offered: Sequence[str]
) -> bool:
    """Compare encoded text, because several texts decode to the same bytes."""
    considered = [_bytes(text.lower() if encoding == "hex" else _padded(text)) for text in offered[:MAX_SIGNATURES]]
    found = False
    for key in keys:
        digest = hmac.digest(key, signed, algorithm)
        expected = digest.hex().encode() if encoding == "hex" else base64.b64encode(digest)
        for text in considered:
            found |= hmac.compare_digest(expected, text)
    return found


def _credentials(headers: Headers, scheme: str) -> str:
    named, _, credentials = _only(headers, "authorization").partition(" ")
    if named.lower() != scheme:
        raise NotVerified(f"authorization is not {scheme}")
    return credentials.strip()


def _require_token(offered: str, tokens: Iterable[str]) -> None:
    if not any([_same(_bytes(offered), token.encode()) for token in tokens]):  # noqa: C419  (constant time)
        raise NotVerified("wrong token")


def _same(offered: bytes, expected: bytes) -> bool:
    """Compare hashes, so that the time does not depend on the length either."""
    return hmac.compare_digest(hashlib.sha256(offered).digest(), hashlib.sha256(expected).digest())


def _padded(text: str) -> str:
    return text + "=" * (-len(text) % 4)


def _bytes(text: str) -> bytes:
    """Return the bytes of a header; those that are not UTF-8 arrive as surrogates."""
    return text.encode("utf-8", "surrogateescape")


def _signature_digest(signed: bytes) -> str:
    return hashlib.sha256(signed).hexdigest()
