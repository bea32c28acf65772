"""TLS with a real broker: a private authority, client certificates, and the remedy for each mistake."""

from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from bridge.adapters.amqp.connection import LinkOptions, probe_broker
from bridge.adapters.amqp.publisher import AmqpPublisher
from bridge.adapters.amqp.topology import Topology
from tests.amqp_client import confirmed, eventually, running
from tests.broker import Broker, running_broker
from tests.certificates import Authority, Files, write_certificate

CLIENT = "cafile={folder}/ca.pem&certfile={folder}/bridge.pem&keyfile={folder}/bridge.key"


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Files:
    pem = Files(tmp_path_factory.mktemp("tls"), "localhost", "bridge", "visitor")
    write_certificate(pem.folder / "other-ca.pem", Authority().certificate)
    return pem


@pytest.fixture(scope="module")
def tls_broker(pem: Files) -> Iterator[Broker]:
    with running_broker(pem) as broker:
        yield broker


def url(broker: Broker, pem: Files, query: str, host: str = "localhost", port: int | None = None) -> str:
    return f"amqps://{host}:{port or broker.tls_port}/?{query.format(folder=pem.folder)}"


async def test_the_client_certificate_names_the_user(tls_broker: Broker, pem: Files, topology: Topology):
    publisher = AmqpPublisher(LinkOptions([url(tls_broker, pem, f"{CLIENT}&auth=EXTERNAL")], "test"), topology)
    async with running(publisher):
        await eventually(lambda: publisher.ready)
        assert await confirmed(publisher, topology.dead)
    assert (await probe_broker([url(tls_broker, pem, f"{CLIENT}&auth=EXTERNAL")])).ok


@pytest.mark.parametrize(
    ("query", "host", "summary", "remedy"),
    [
        ("cafile={folder}/other-ca.pem", "localhost", "the broker's certificate cannot be verified", "as cafile"),
        (CLIENT, "127.0.0.1", "the broker's certificate cannot be verified", "the host as in that certificate"),
        ("cafile={folder}/ca.pem", "localhost", "the TLS handshake with the broker failed", "as certfile"),
        (
            f"{CLIENT}&auth=EXTERNAL".replace("bridge.", "visitor."),
            "localhost",
            "the broker has no user",
            "create the user",
        ),
        (CLIENT.replace("ca.pem", "gone.pem"), "localhost", "a certificate of amqp.url is missing", "restore"),
    ],
)
async def test_a_mistake_is_reported_with_its_remedy(
    tls_broker: Broker, pem: Files, topology: Topology, query: str, host: str, summary: str, remedy: str
):
    publisher = AmqpPublisher(LinkOptions([url(tls_broker, pem, query, host)], "test"), topology)

    async def is_reported() -> bool:
        return (await publisher.health()).detail.startswith(summary)

    with capture_logs() as logs:
        async with running(publisher):
            await eventually(is_reported)
    # The broker may reset the connection before its alert arrives; that is logged as an outage, and tried again.
    report = next(entry for entry in logs if entry["log_level"] == "error")
    assert report["event"] == "broker_unreachable"
    assert remedy in report["remedy"]
    assert not [word for word in ("Errno", "_ssl.c", "Traceback", "Error(") if word in f"{logs}"]


async def test_a_port_without_tls_is_reported(tls_broker: Broker, pem: Files):
    health = await probe_broker([url(tls_broker, pem, CLIENT, port=tls_broker.port)])
    assert health.detail.startswith("the TLS handshake with the broker failed")
    assert "5671" in health.detail


async def test_a_mechanism_that_the_broker_does_not_offer_is_reported(shared_broker: Broker):
    health = await probe_broker([f"{shared_broker.url}?auth=EXTERNAL"])
    assert health.detail.startswith("the broker does not offer the mechanism that auth names")
