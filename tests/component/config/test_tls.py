"""The files of `crews.*.tls` and of `store.url`: each problem names the field, and no one is asked for a passphrase."""

from pathlib import Path
from typing import Any

import pytest

from tests.certificates import Files, new_key, write_key
from tests.component.config.settings_files import SettingsFiles, with_crew, with_settings

CA, CERT, KEY = (f"crews.research.tls.{name}" for name in ("ca_file", "cert_file", "key_file"))


@pytest.fixture
def files(tmp_path: Path) -> SettingsFiles:
    return SettingsFiles(tmp_path)


@pytest.fixture
def pem(tmp_path: Path) -> Files:
    pem = Files(tmp_path, "bridge")
    write_key(tmp_path / "other.key", new_key())
    write_key(tmp_path / "locked.key", new_key(), b"passphrase")
    return pem


def test_an_authority_and_a_client_certificate_are_loaded(files: SettingsFiles, pem: Files):
    names = {"ca_file": pem.ca, "cert_file": pem.path("bridge.pem"), "key_file": pem.path("bridge.key")}
    tls = files.load(with_crew(tls=names)).crews["research"].tls
    assert tls is not None
    (trusted,) = tls.context().get_ca_certs()
    assert trusted["subject"] == ((("commonName", "authority"),),)


def test_without_an_authority_those_of_the_system_are_trusted(files: SettingsFiles):
    assert files.load(with_crew()).crews["research"].tls is None


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ({"ca_file": "missing"}, f"{CA}: the file cannot be read (No such file or directory)"),
        ({"ca_file": "."}, f"{CA}: the file cannot be read (Is a directory)"),
        ({"ca_file": "bridge.key"}, f"{CA}: the file must contain certificates in PEM form"),
        ({"cert_file": "missing", "key_file": "missing"}, f"{CERT}: the file cannot be read"),
        ({"cert_file": "bridge.key", "key_file": "bridge.key"}, f"{CERT}: the file must contain certificates"),
        ({"cert_file": "bridge.pem"}, f"{KEY}: is required beside cert_file"),
        ({"key_file": "bridge.key"}, f"{KEY}: requires cert_file beside it"),
        ({"cert_file": "bridge.pem", "key_file": "missing"}, f"{KEY}: the file cannot be read (No such file"),
        ({"cert_file": "bridge.pem", "key_file": "bridge.pem"}, f"{KEY}: the file must contain a private key"),
        ({"cert_file": "bridge.pem", "key_file": "locked.key"}, f"{KEY}: the file must contain a private key"),
        ({"cert_file": "bridge.pem", "key_file": "other.key"}, f"{KEY}: is not the key of the certificate"),
    ],
)
def test_an_unusable_file_is_the_only_problem_reported(
    files: SettingsFiles, pem: Files, names: dict[str, str], problem: str
):
    (found,) = files.problems(with_crew(tls={field: pem.path(name) for field, name in names.items()}))
    assert found.startswith(problem)


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ({"sslrootcert": "missing"}, "sslrootcert: the file cannot be read (No such file or directory)"),
        ({"sslrootcert": "bridge.key"}, "sslrootcert: the file must contain certificates in PEM form"),
        ({"sslcert": "missing", "sslkey": "bridge.key"}, "sslcert: the file cannot be read"),
        ({"sslcert": "bridge.pem", "sslkey": "other.key"}, "sslkey: is not the key of the certificate"),
        ({"sslcert": "bridge.pem", "sslkey": "locked.key"}, "sslkey: the file must contain a private key"),
    ],
)
def test_an_unusable_file_of_the_database_is_reported(
    files: SettingsFiles, pem: Files, names: dict[str, str], problem: str
):
    def with_files(**names: str) -> dict[str, Any]:
        query = "&".join(f"{name}={pem.path(file)}" for name, file in names.items())
        return with_settings(store={"url": f"postgresql://u:p@db/x?{query}"})

    (found,) = files.problems(with_files(**names))
    assert found.startswith(f"store.url: {problem}")
    files.load(with_files(sslrootcert="ca.pem", sslcert="bridge.pem", sslkey="bridge.key"))


def test_an_empty_name_is_refused(files: SettingsFiles):
    assert files.problems(with_crew(tls={"ca_file": ""})) == [f"{CA}: must not be empty"]
