"""Explains broker errors to the operator: a summary, the broker's own sentence, and a remedy."""

import os
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass

from aio_pika.exceptions import (
    CONNECTION_EXCEPTIONS,
    AMQPError,
    AuthenticationError,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    InvalidFrameError,
    ProbableAuthenticationError,
)
from aiormq.exceptions import (
    ChannelAccessRefused,
    ConnectionCommandInvalid,
    ConnectionFrameError,
    ConnectionInternalError,
    ConnectionNotAllowed,
    ConnectionNotImplemented,
    ConnectionResourceError,
    ConnectionSyntaxError,
)

# Errors that connecting to a broker and using it may raise; ValueError for bytes that are not text.
TRANSIENT_ERRORS: tuple[type[BaseException], ...] = (*CONNECTION_EXCEPTIONS, ValueError)

_ERRNO = re.compile(r"\[Errno (-?\d+)\] ")
_CAUSE = re.compile(r": \w+Error\(.*\)$")  # which the library appends to its own message
_FIRST_REPLY_CODE = 200  # of AMQP, which the library raises like an errno; those of systems are smaller
_NO_VHOST = "Connection.OpenOk"  # in the library's error if the broker answers with anything else


class ConnectionLost(AMQPError):
    """A connection is no longer usable."""

    def __init__(self, reason: str, cause: BaseException | None = None) -> None:
        """`cause`: the error that the library reported, if any."""
        super().__init__(reason)
        self.reason = reason
        self.__cause__ = cause


@dataclass(frozen=True, slots=True)
class BrokerProblem:
    """A problem with the broker. `summary` names no host, entity, or secret; `reason` is for the log.

    `remedy`: what the operator can do; None for an outage that ends by itself.
    """

    summary: str
    reason: str
    remedy: str | None = None


# Error class, phrase in the broker's message, summary, remedy. No remedy removes a queue, which may contain requests.
_EXPLANATIONS: Sequence[tuple[type[BaseException], str, str, str]] = (
    (
        ssl.SSLCertVerificationError,
        "",
        "the broker's certificate cannot be verified",
        "name in amqp.url the host as in that certificate, and as cafile the authority that signed it",
    ),
    (
        ssl.SSLError,
        "",
        "the TLS handshake with the broker failed",
        "use its TLS port (5671) in amqp.url, and as certfile a client certificate that it accepts",
    ),
    (
        FileNotFoundError,
        "",
        "a certificate of amqp.url is missing",
        "restore the files that cafile, certfile, and keyfile name in amqp.url",
    ),
    (
        ProbableAuthenticationError,
        "mechanism EXTERNAL",
        "the broker has no user for the client certificate",
        "create the user that the certificate names according to ssl_cert_login_from in rabbitmq.conf",
    ),
    (
        ProbableAuthenticationError,
        "",
        "the broker refuses the user name or the password",
        "correct user name and password in amqp.url; `guest` may connect from the broker's own host only",
    ),
    (
        AuthenticationError,
        "",
        "the broker does not offer the mechanism that auth names",
        "enable rabbitmq_auth_mechanism_ssl and list EXTERNAL in its auth_mechanisms, or remove auth from amqp.url",
    ),
    (
        ConnectionNotAllowed,
        "",
        "the broker refuses the virtual host",
        "correct the virtual host in amqp.url, or give the user permissions on it",
    ),
    (
        ChannelAccessRefused,
        "",
        "the broker refuses access to a queue or exchange",
        "give the user configure, write, and read permissions, or set amqp.declare: false",
    ),
    (
        ChannelPreconditionFailed,
        "timed out",
        "the broker waited too long for an acknowledgement",
        "set consumer_timeout of the broker to 30 minutes or more; the messages are in the queue again",
    ),
    (
        ChannelPreconditionFailed,
        "",
        "a queue or exchange exists with other arguments",
        "set amqp.declare: false to use it as it is, or name another one in the settings",
    ),
    (
        ChannelNotFoundEntity,
        "",
        "a queue or exchange is missing",
        "create it, or set amqp.declare: true",
    ),
)


_REFUSALS = (
    ChannelAccessRefused,
    ChannelPreconditionFailed,
    ConnectionSyntaxError,
    ConnectionFrameError,
    ConnectionCommandInvalid,
    ConnectionResourceError,
    ConnectionNotImplemented,
    ConnectionInternalError,
)


def is_refusal(error: BaseException | None) -> bool:
    """Return whether the broker closed the channel or connection because of a message published on it."""
    return isinstance(error, _REFUSALS)


def explain(error: BaseException) -> BrokerProblem:
    """Explain an error that kept a connection from opening, or ended it."""
    cause = error.__cause__ if isinstance(error, ConnectionLost) and error.__cause__ is not None else error
    if isinstance(cause.__cause__, ssl.SSLError):
        cause = cause.__cause__  # the library raises a connection error from it
    if isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return BrokerProblem("not connected", "the broker closed the TLS connection")
    if isinstance(cause, InvalidFrameError) and _NO_VHOST in str(cause):
        cause = ConnectionNotAllowed("the broker closed the connection when the virtual host was to be opened")
    for kind, phrase, summary, remedy in _EXPLANATIONS:
        if isinstance(cause, kind) and phrase in str(cause):
            return BrokerProblem(summary, _sentence(cause), remedy)
    if isinstance(cause, TimeoutError):
        return BrokerProblem(
            "the broker does not respond", "no response in time; it is frozen, or has a memory or disk alarm"
        )
    return BrokerProblem("not connected", _sentence(error))


def _sentence(error: BaseException) -> str:
    """Return the message of the broker or the system; none for other errors, because the URL may be in it."""
    if isinstance(error, ssl.SSLError):
        return getattr(error, "verify_message", None) or (error.reason or "TLS failed").lower().replace("_", " ")
    text = str(error) if isinstance(error, AMQPError | OSError) else ""
    if (found := _ERRNO.search(text)) is not None:
        number = int(found[1])
        return os.strerror(number) if 0 < number < _FIRST_REPLY_CODE else text[found.end() :]
    return _CAUSE.sub("", text) or "connection closed"
