"""Certificates for tests: a private authority, and files in PEM form."""

import datetime as dt
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

DAY = dt.timedelta(days=1)
Key = ec.EllipticCurvePrivateKey


def named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


class Authority:
    """A certificate authority, which a test may trust."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = make_certificate("authority", self._key, self._key, "authority", is_authority=True)

    def sign(self, host: str, key: Key, since: dt.timedelta = DAY) -> x509.Certificate:
        return make_certificate(host, key, self._key, "authority", since=since)


def make_certificate(
    host: str, key: Key, issuer_key: Key, issuer: str, *, since: dt.timedelta = DAY, is_authority: bool = False
) -> x509.Certificate:
    """Valid for two days, of which `since` have passed."""
    begin = dt.datetime.now(dt.UTC) - since
    builder = (
        x509.CertificateBuilder()
        .subject_name(named(host))
        .issuer_name(named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + 2 * DAY)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
    )
    return builder.sign(issuer_key, hashes.SHA256())


def new_key() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


def write_certificate(file: Path, certificate: x509.Certificate) -> Path:
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return file


def write_key(file: Path, key: Key, passphrase: bytes | None = None) -> Path:
    """Without a passphrase, the key is not encrypted."""
    encryption = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    file.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))
    return file


class Files:
    """In a folder: `ca.pem`, and for each name a certificate that the authority has signed, and its key."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.folder = folder
        authority = Authority()
        write_certificate(folder / "ca.pem", authority.certificate)
        for name in names:
            key = new_key()
            write_certificate(folder / f"{name}.pem", authority.sign(name, key))
            write_key(folder / f"{name}.key", key)

    def path(self, name: str) -> str:
        return str(self.folder / name)

    @property
    def ca(self) -> str:
        return self.path("ca.pem")
