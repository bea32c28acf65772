"""The settings of hooks: how senders are verified; and, shared with sources, the rule that maps content to requests."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal, assert_never

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo
from pydantic import field_validator as rule

from bridge.config.types import (
    MINUTE,
    Header,
    Seconds,
    Section,
    Text,
    Token,
    check_expression,
    check_secret_text,
    one_or_many,
)
from bridge.core.inbound import mapping, signatures

Scheme = Literal[
    "standard-webhooks", "github", "slack", "stripe", "shopify", "hmac", "token", "basic", "bearer", "none"
]

_REQUIRED: dict[str, frozenset[str]] = {
    "standard-webhooks": frozenset({"secret"}),
    "github": frozenset({"secret"}),
    "slack": frozenset({"secret"}),
    "stripe": frozenset({"secret"}),
    "shopify": frozenset({"secret"}),
    "token": frozenset({"header", "token"}),
    "hmac": frozenset({"secret", "header"}),
    "basic": frozenset({"username", "password"}),
    "bearer": frozenset({"token"}),
    "none": frozenset({"allow_unverified"}),
}
_OPTIONAL = {"hmac": frozenset({"algorithm", "encoding", "prefix", "timestamp_header", "tolerance"})}

_KEYS = {
    "standard-webhooks": 'headers."webhook-id" || headers."svix-id"',
    "github": 'headers."x-github-delivery"',
    "slack": "body.event_id",
    "stripe": "body.id",
    "shopify": 'headers."x-shopify-webhook-id"',
}
"""Where the senders of a scheme put an id that stays the same across retries."""

Expression = Annotated[str, AfterValidator(check_expression)]
ONE_OR_MANY = BeforeValidator(one_or_many)


class Verify(Section):
    """How a hook's senders are verified; the tables above list the settings of each `scheme`."""

    scheme: Scheme
    secret: Annotated[tuple[SecretStr, ...], ONE_OR_MANY, Field(validate_default=True)] = ()
    header: Header | None = Field(default=None, validate_default=True)
    algorithm: signatures.Algorithm = "sha256"
    encoding: signatures.Encoding = "hex"
    prefix: str = ""
    timestamp_header: Header | None = None
    tolerance: Seconds = 5 * MINUTE
    username: str | None = Field(default=None, validate_default=True)
    password: SecretStr | None = Field(default=None, validate_default=True)
    token: Annotated[tuple[Token, ...], ONE_OR_MANY, Field(validate_default=True)] = ()
    allow_unverified: bool = Field(default=False, validate_default=True)

    @rule(
        *("secret", "header", "algorithm", "encoding", "prefix", "timestamp_header", "tolerance"),
        *("username", "password", "token", "allow_unverified"),
    )
    @classmethod
    def _matches_scheme(cls, value: Any, info: ValidationInfo) -> Any:
        scheme, name = info.data.get("scheme"), info.field_name
        if scheme is None:
            return value
        if name in _REQUIRED[scheme]:
            if not value:
                raise ValueError(_missing_for_scheme(scheme, str(name)))
        elif value and name not in _OPTIONAL.get(scheme, ()):
            raise ValueError(f"does not apply to the scheme {scheme}; remove it")
        return value

    @rule("secret")
    @classmethod
    def _secrets_are_valid(cls, secrets: tuple[SecretStr, ...], info: ValidationInfo) -> tuple[SecretStr, ...]:
        for secret in secrets:
            check_secret_text(secret)
            if info.data.get("scheme") == "standard-webhooks":
                _check_standard_webhooks(secret.get_secret_value())
        return secrets

    @rule("password")
    @classmethod
    def _password_is_valid(cls, password: SecretStr | None) -> SecretStr | None:
        return password and check_secret_text(password)

    @rule("username")
    @classmethod
    def _username_is_valid(cls, username: str | None) -> str | None:
        if username and ":" in username:
            raise ValueError("must not contain a colon, which separates it from the password on the wire")
        if username:
            check_secret_text(SecretStr(username))  # it counts like a part of the password
        return username

    def verifier(self, ed25519: Callable[[bytes], signatures.Check]) -> signatures.Verifier:  # noqa: C901, PLR0911 - one case for each scheme
        """Build the verifier of requests; `ed25519` builds a check from the 32 bytes of a public key."""
        match self.scheme:
            case "standard-webhooks":
                return self._standard_webhooks(ed25519)
            case "github":
                return signatures.github(self._keys())
            case "slack":
                return signatures.slack(self._keys())
            case "stripe":
                return signatures.Stripe(self._keys())
            case "shopify":
                return signatures.shopify(self._keys())
            case "hmac":
                return self._hmac(self._keys())
            case "token":
                return signatures.HeaderToken(self.header or "", self._tokens())
            case "basic":
                assert self.username is not None
                assert self.password is not None
                return signatures.Basic(self.username, self.password.get_secret_value())
            case "bearer":
                return signatures.Bearer(self._tokens())
            case "none":
                return signatures.AllowAll()
            case _:
                assert_never(self.scheme)

    @property
    def window(self) -> float:
        """Seconds for which a signed request stays valid: twice the tolerance. 0: the scheme signs no time."""
        match self.scheme:
            case "standard-webhooks" | "slack" | "stripe":
                return 2 * self.tolerance
            case "hmac":
                return 0.0 if self.timestamp_header is None else 2 * self.tolerance
            case "github" | "shopify" | "token" | "basic" | "bearer" | "none":
                return 0.0
            case _:
                assert_never(self.scheme)

    def _tokens(self) -> tuple[str, ...]:
        return tuple(token.get_secret_value() for token in self.token)

    def _secrets(self) -> list[str]:
        return [secret.get_secret_value() for secret in self.secret]

    def _keys(self) -> tuple[bytes, ...]:
        return tuple(secret.encode() for secret in self._secrets())

    def _standard_webhooks(self, ed25519: Callable[[bytes], signatures.Check]) -> signatures.StandardWebhooks:
        public = [secret for secret in self._secrets() if secret.startswith(signatures.PUBLIC)]
        shared = [secret for secret in self._secrets() if secret not in public]
        return signatures.StandardWebhooks(
            tuple(map(signatures.standard_webhooks_key, shared)),
            checks=tuple(ed25519(signatures.ed25519_public(key)) for key in public),
        )

    def _hmac(self, keys: tuple[bytes, ...]) -> signatures.Hmac:
        return signatures.Hmac(
            keys,
            self.header or "",
            algorithm=self.algorithm,
            encoding=self.encoding,
            prefix=self.prefix,
            timestamp_header=self.timestamp_header,
            tolerance=self.tolerance,
        )


class Mapped(Section):
    """The rule of a hook or a source. Expressions are JMESPath over the body, the headers, and more."""

    crew: Text
    when: Expression | None = None
    inputs: Mapping[Text, Expression] = {}
    meta: Mapping[Text, Expression] = {}
    idempotency_key: Expression | None = None
    callback_url: Expression | None = None

    @rule("crew")
    @classmethod
    def _crew_exists(cls, crew: str, info: ValidationInfo) -> str:
        known: frozenset[str] | None = info.context
        if known is not None and crew not in known:
            raise ValueError("must name a crew that is configured under `crews`")
        return crew

    def rule(self, max_bytes: int) -> mapping.Rule:
        """Build the rule that maps content to a request; `max_bytes` limits the size of inputs and meta."""
        return mapping.Rule(
            when=_compiled(self.when),
            inputs={name: mapping.compile_expression(text) for name, text in self.inputs.items()},
            meta={name: mapping.compile_expression(text) for name, text in self.meta.items()},
            idempotency_key=_compiled(self.idempotency_key),
            callback_url=_compiled(self.callback_url),
            max_bytes=max_bytes,
        )


class Hook(Mapped):
    """One hook, `POST /hooks/{name}`; its expressions can also use the query."""

    verify: Verify

    def rule(self, max_bytes: int) -> mapping.Rule:
        """Build the rule; the scheme may define where the idempotency key is."""
        return replace(super().rule(max_bytes), default_key=_compiled(_KEYS.get(self.verify.scheme)))


def _compiled(text: str | None) -> mapping.Expression | None:
    return None if text is None else mapping.compile_expression(text)


def _check_standard_webhooks(secret: str) -> None:
    if secret.startswith(signatures.PUBLIC):
        signatures.ed25519_public(secret)
    else:
        signatures.standard_webhooks_key(secret)


def _missing_for_scheme(scheme: str, name: str) -> str:
    if name == "allow_unverified":
        return "must be true for the scheme none, which lets anyone who can reach the bridge start the crew"
    by_file = f" (or {name}_file)" if name in ("secret", "password", "token") else ""
    return f"is required for the scheme {scheme}{by_file}"
