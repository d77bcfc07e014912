"""Certificates for tests: an authority that issues what a test asks for."""

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509.oid import ExtensionOID, NameOID

from zkpy.config import option_setting
from zkpy.config.keys import HONOURED
from zkpy.config.tls import CLIENTS, Tls, build
from zkpy.config.values import parse_setting

DAY: Final = timedelta(days=1)


class Authority:
    """Signs with one key, and may revoke what it has signed."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self.directory = directory
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._sign(self.name, self.key, -1, 365, is_authority=True)
        self.path = directory / f"{name}.pem"
        self.path.write_bytes(self.certificate.public_bytes(Encoding.PEM))

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        begins: int,
        ends: int,
        *,
        is_authority: bool = False,
        hosts: tuple[str, ...] | bytes = (),
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begins * DAY)
            .not_valid_after(now + ends * DAY)
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
        )
        if hosts:
            builder = builder.add_extension(other_names(hosts), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def issue(
        self,
        subject: str | x509.Name = "CN=localhost",
        begins: int = -1,
        ends: int = 30,
        hosts: tuple[str, ...] | bytes = (),
    ) -> "Issued":
        """`begins` and `ends` in days from now; `hosts` may be the extension's own bytes."""
        name = x509.Name.from_rfc4514_string(subject) if isinstance(subject, str) else subject
        key = ec.generate_private_key(ec.SECP256R1())
        return Issued(self, key, self._sign(name, key, begins, ends, hosts=hosts))

    def revoke(self, *revoked: "Issued") -> bytes:
        """A list of them, in PEM."""
        now = datetime.now(UTC)
        builder = x509.CertificateRevocationListBuilder(self.name, now - DAY, now + DAY)
        for each in revoked:
            one = x509.RevokedCertificateBuilder(each.certificate.serial_number, now - DAY)
            builder = builder.add_revoked_certificate(one.build())
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def client(self, issued: "Issued | None" = None) -> ssl.SSLContext:
        """Of a client that trusts this authority, and shows a certificate if it has one."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(self.path)
        if issued is not None:
            context.load_cert_chain(issued.save("client"))
        return context


def other_names(hosts: tuple[str, ...] | bytes) -> x509.ExtensionType:
    if isinstance(hosts, bytes):
        return x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, hosts)
    return x509.SubjectAlternativeName([general_name(host) for host in hosts])


def general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


class Issued:
    """A certificate and its key."""

    def __init__(
        self, authority: Authority, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate
    ) -> None:
        self.authority = authority
        self.key = key
        self.certificate = certificate

    def pem(self, password: str = "") -> bytes:
        return self.key_pem(password) + self.certificate.public_bytes(Encoding.PEM)

    def key_pem(self, password: str = "") -> bytes:
        seal: KeySerializationEncryption = NoEncryption()
        if password:
            seal = BestAvailableEncryption(password.encode())
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, seal)

    def pkcs12(self, password: str) -> bytes:
        seal = BestAvailableEncryption(password.encode())
        issuers = [self.authority.certificate]
        return pkcs12.serialize_key_and_certificates(
            b"server", self.key, self.certificate, issuers, seal
        )

    def save(self, name: str) -> Path:
        path = self.authority.directory / f"{name}-{self.certificate.serial_number:x}.pem"
        path.write_bytes(self.pem())
        return path


def lines_of(authority: Authority, issued: Issued, prefix: str = CLIENTS) -> list[str]:
    """Of zoo.cfg, for a server with that certificate that trusts that authority's."""
    return [
        f"{prefix}keyStore.location={issued.save('server')}",
        f"{prefix}trustStore.location={authority.path}",
    ]


def read_tls(*lines: str, prefix: str = CLIENTS) -> Tls:
    """The settings of TLS, for clients or between members."""
    settings = {each.key: each for each in map(option_setting, lines)}
    fields = {
        HONOURED[key][0].removeprefix(prefix): parse_setting(each, HONOURED[key][1])
        for key, each in settings.items()
    }
    return build(prefix, fields.get, settings, "zoo.cfg", "secureClientPort")
