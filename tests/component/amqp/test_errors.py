"""Explanations of broker errors for operators."""

import inspect
import ssl

import pytest
from aio_pika.exceptions import AMQPConnectionError, ChannelPreconditionFailed, ConnectionClosed

from bridge.adapters.amqp import errors
from bridge.adapters.amqp.errors import BrokerProblem, ConnectionLost, explain

TIMED_OUT = (
    "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: 60000 ms. "
    "This timeout value can be configured, see consumers doc guide to learn more"
)
OTHER_ARGUMENTS = (
    "PRECONDITION_FAILED - inequivalent arg 'x-delivery-limit' for queue 'kickoff.requests' in vhost '/': "
    "received '1000000' but current is '10'"
)


@pytest.mark.parametrize(("reason", "remedy"), [(TIMED_OUT, "consumer_timeout"), (OTHER_ARGUMENTS, "amqp.declare")])
def test_each_failed_precondition_has_its_own_remedy(reason: str, remedy: str):
    """The acknowledgment timeout was explained as a queue with other arguments, to be deleted."""
    problem = explain(ConnectionLost("the channel was closed", ChannelPreconditionFailed(reason)))
    assert problem.remedy is not None
    assert remedy in problem.remedy
    assert problem.reason == reason


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(111, "Connect call failed ('127.0.0.1', 5672)"), "Connection refused"),
        (AMQPConnectionError("[Errno 111] Connect call failed ('127.0.0.1', 5672)"), "Connection refused"),
        (OSError(-2, "Name or service not known"), "Name or service not known"),
        (ConnectionClosed(320, "CONNECTION_FORCED - broker shutdown"), "CONNECTION_FORCED - broker shutdown"),
        (
            AMQPConnectionError("Server connection reset: ConnectionResetError(104, 'Connection reset by peer')"),
            "Server connection reset",
        ),
        (ValueError("amqp://user:secret@host"), "connection closed"),
    ],
)
def test_the_reason_contains_no_errno_class_name_or_url(error: Exception, reason: str):
    assert explain(error).reason.endswith(reason)
    assert "Errno" not in explain(error).reason


def test_a_tls_connection_that_ends_is_an_ordinary_outage():
    """Without a remedy, because the settings are right."""
    error = AMQPConnectionError("the connection ended")
    error.__cause__ = ssl.SSLEOFError(8, "[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred (_ssl.c:1006)")
    assert explain(error) == BrokerProblem("not connected", "the broker closed the TLS connection")


def test_no_remedy_deletes_a_queue_with_messages():
    assert "delete" not in inspect.getsource(errors)
