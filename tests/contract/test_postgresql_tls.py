"""TLS with a real PostgreSQL: a private authority, client certificates, and a sentence for each mistake."""

import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.adapters.store import database, migrate_store, open_store, probe_store
from tests.certificates import Authority, Files, write_certificate
from tests.contract.run_states import accepted
from tests.fakes import NOW
from tests.postgres import UNPRIVILEGED, PostgresServer, running_postgres

ACCESS = "hostnossl all all 127.0.0.1/32 trust\nhostssl all all all cert\n"
"""The tests' own connections are not encrypted; an encrypted one needs a certificate that names its user."""
CLIENT = "sslrootcert={folder}/ca.pem&sslcert={folder}/bridge.pem&sslkey={folder}/bridge.key"


@pytest.fixture(scope="module")
def pem() -> Iterator[Files]:
    """In a folder that the server's user can enter, unlike pytest's."""
    folder = Path(tempfile.mkdtemp(prefix="bridge-tls-"))
    folder.chmod(0o755)
    pem = Files(folder, "localhost", "bridge", "visitor")
    write_certificate(folder / "other-ca.pem", Authority().certificate)
    for key in folder.glob("*.key"):
        key.chmod(0o600)
    if os.geteuid() == 0:
        os.chown(pem.path("localhost.key"), pwd.getpwnam(UNPRIVILEGED).pw_uid, -1)
    (folder / "hba.conf").write_text(ACCESS)
    yield pem
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def server(pem: Files) -> Iterator[PostgresServer]:
    certificate, key = pem.path("localhost.pem"), pem.path("localhost.key")
    files = {"ssl_ca_file": pem.ca, "ssl_cert_file": certificate, "ssl_key_file": key}
    with running_postgres(ssl="on", hba_file=pem.path("hba.conf"), **files) as server:
        server.execute("CREATE DATABASE store")
        yield server


def url(server: PostgresServer, pem: Files, query: str, host: str = "localhost") -> str:
    return f"postgresql://bridge@{host}:{server.port}/store?{query.format(folder=pem.folder)}"


async def test_a_store_is_used_behind_a_private_authority_with_a_client_certificate(server: PostgresServer, pem: Files):
    await migrate_store(url(server, pem, CLIENT))
    async with open_store(database(url(server, pem, CLIENT)), "me", NOW) as store:
        await accepted(store)
        shown = server.execute("SELECT DISTINCT ssl, client_dn FROM pg_stat_ssl WHERE client_dn IS NOT NULL")
    assert shown == [(True, "/CN=bridge")]


@pytest.mark.parametrize(
    ("query", "host", "said"),
    [
        (CLIENT.replace("ca.pem", "other-ca.pem"), "localhost", "name the authority that signed it as sslrootcert"),
        ("sslrootcert={folder}/ca.pem", "localhost", "certificate"),
        (CLIENT.replace("bridge.", "visitor."), "localhost", "certificate authentication failed"),
        (CLIENT, "127.0.0.1", 'does not match host name "127.0.0.1"'),
    ],
)
async def test_a_mistake_is_explained(server: PostgresServer, pem: Files, query: str, host: str, said: str):
    """An address of this machine is verified as well, because the URL names the authority."""
    health = await probe_store(url(server, pem, query, host))
    assert not health.ok
    assert said in health.detail
