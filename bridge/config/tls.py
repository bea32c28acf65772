"""The certificates for calls to a crew, and for broker and database; every file is read when settings are loaded."""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo
from pydantic import field_validator as rule

from bridge.config.types import Section, Text


def check_certificates(file: str) -> str:
    """Return the path of a PEM file with at least one certificate. Raise `ValueError`."""
    try:
        ssl.create_default_context(cafile=file)
    except ssl.SSLError:
        raise ValueError("the file must contain certificates in PEM form") from None
    except OSError as error:
        raise ValueError(f"the file cannot be read ({error.strerror})") from None
    return file


CertificateFile = Annotated[Text, AfterValidator(check_certificates)]


class Tls(Section):
    """Whom to trust, and a client certificate.

    `ca_file`: the authorities that are trusted instead of those of the system.
    """

    ca_file: CertificateFile | None = None
    cert_file: CertificateFile | None = None
    key_file: Annotated[Text | None, Field(validate_default=True)] = None

    @rule("key_file")
    @classmethod
    def _belongs_to_certificate(cls, key: str | None, info: ValidationInfo) -> str | None:
        if "cert_file" not in info.data:
            return key  # the certificate is invalid, which is reported
        certificate = info.data["cert_file"]
        if (certificate is None) != (key is None):
            raise ValueError("is required beside cert_file" if key is None else "requires cert_file beside it")
        if certificate is not None and key is not None:
            _check_key(certificate, key)
        return key

    def context(self) -> ssl.SSLContext:
        """Return the client's side of TLS; raise `OSError` if a file is no longer valid."""
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.cert_file is not None:
            context.load_cert_chain(self.cert_file, self.key_file, password="")  # never asks at the terminal
        return context


BROKER_FILES = ("cafile", "certfile", "keyfile")
DATABASE_FILES = ("sslrootcert", "sslcert", "sslkey")


def check_url_files(options: Mapping[str, str], names: tuple[str, str, str]) -> None:
    """Check the files that a URL names: authorities, certificate, key. Raise `ValueError`, which names the option."""
    option, (authorities, certificate, key) = "", names
    try:
        for option in (authorities, certificate):
            if options.get(option, "system") != "system":  # the word by which libpq names those of the system
                check_certificates(options[option])
        if (option := key) in options:
            _check_key(options[certificate], options[key])
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from None


def _check_key(certificate: str, key: str) -> None:
    try:
        Path(key).open("rb").close()
        ssl.create_default_context().load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ValueError("is not the key of the certificate") from None
        raise ValueError("the file must contain a private key in PEM form, without a passphrase") from None
    except OSError as error:
        raise ValueError(f"the file cannot be read ({error.strerror})") from None
