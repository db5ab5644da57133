"""An authority of the tests' own, and certificates for servers on this computer that it has signed."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Authority:
    """Who signs certificates. `file` is what those who trust it are given."""

    folder: Path
    key: ec.EllipticCurvePrivateKey
    own: x509.Certificate

    @property
    def file(self) -> Path:
        return self.folder / "authority.pem"

    def server(self, host: str = "127.0.0.1") -> ssl.SSLContext:
        """What a server of that name shows."""
        name = x509.IPAddress(ipaddress.ip_address(host)) if host[0].isdigit() else x509.DNSName(host)
        key = ec.generate_private_key(ec.SECP256R1())
        made = _begun(host, self.own.subject, key).add_extension(x509.SubjectAlternativeName([name]), critical=False)
        path = self.folder / f"{host}.pem"
        path.write_bytes(_key(key) + made.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context


def authority(folder: Path) -> Authority:
    """A new one."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _named("the tests' own authority")
    builder = _begun("the tests' own authority", subject, key)
    own = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True).sign(key, hashes.SHA256())
    made = Authority(folder, key, own)
    made.file.write_bytes(own.public_bytes(serialization.Encoding.PEM))
    return made


def _begun(name: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(_named(name)).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _key(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
