"""Explains broker errors to the operator: a summary, the broker's own sentence, and a remedy."""

from collections.abc import Sequence
from dataclasses import dataclass

from aio_pika.exceptions import (
    CONNECTION_EXCEPTIONS,
    AMQPError,
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
from pamqp.exceptions import PAMQPException

# What connecting and talking to a broker may raise. ValueError: bytes from the wire that are no text.
TRANSIENT_ERRORS: tuple[type[BaseException], ...] = (*CONNECTION_EXCEPTIONS, ValueError)

_NO_VHOST = "Connection.OpenOk"  # all that the library tells when the broker answers with something else


class ConnectionLost(AMQPError):
    """A connection is no longer usable."""

    def __init__(self, reason: str, cause: BaseException | None = None) -> None:
        """`cause` is what the library reported, if it did."""
        super().__init__(reason)
        self.reason = reason
        self.__cause__ = cause


@dataclass(frozen=True, slots=True)
class BrokerProblem:
    """`summary` names no host, entity or secret and may be shown to anyone; `reason` is for the log.

    `remedy` is what the operator can do; None for an outage that ends without action.
    """

    summary: str
    reason: str
    remedy: str | None = None


# What the library raises, words of the broker, what that means, what helps. A queue may hold requests: no remedy ever
# costs one its messages.
_MEANINGS: Sequence[tuple[type[BaseException], str, str, str]] = (
    (
        ProbableAuthenticationError,
        "",
        "the broker refuses the user name or the password",
        "correct user name and password in amqp.url; `guest` may connect from the broker's own host only",
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
        "give the user configure, write and read permissions, or set amqp.declare: false",
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
    """Whether the broker closed the channel or connection over one of the messages published on it."""
    return isinstance(error, _REFUSALS)


def explain(error: BaseException) -> BrokerProblem:
    """Explain an error of connecting, or one that ended a connection."""
    cause = error.__cause__ if isinstance(error, ConnectionLost) and error.__cause__ is not None else error
    if isinstance(cause, InvalidFrameError) and _NO_VHOST in str(cause):
        cause = ConnectionNotAllowed("the broker closed the connection when the virtual host was to be opened")
    for kind, said, summary, remedy in _MEANINGS:
        if isinstance(cause, kind) and said in str(cause):
            return BrokerProblem(summary, _sentence(cause), remedy)
    if isinstance(cause, TimeoutError):
        return BrokerProblem(
            "the broker does not answer", "no answer in time; it is frozen, or under a memory or disk alarm"
        )
    if is_unreadable(error):
        return BrokerProblem("not connected", "the broker sent a message whose properties cannot be decoded")
    return BrokerProblem("not connected", _sentence(error))


def is_unreadable(error: BaseException) -> bool:
    """Whether the connection died of a frame that the library cannot decode, such as a property that is not UTF-8."""
    cause = error.__cause__ if isinstance(error, ConnectionLost) else None
    return isinstance(cause, ValueError | OverflowError | RecursionError | InvalidFrameError | PAMQPException)


def _sentence(error: BaseException) -> str:
    """The error's own text where it is the broker's or the system's; of others only the name: it may hold the URL."""
    text = str(error) if isinstance(error, AMQPError | OSError) else ""
    return text or type(error).__name__
