"""Certificates for TLS, made anew for each test run."""

from __future__ import annotations

import ipaddress
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.x509.oid import NameOID
from ray.util import get_node_ip_address

_SIGNS_CERTIFICATES = x509.KeyUsage(
    key_cert_sign=True,
    crl_sign=True,
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)


class Authority:
    """Signs certificates for this machine.

    :param folder: where the files go.
    :param name: tells its files from those of another authority.
    """

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = _new_key()
        self.certificate = folder / f"{name}.crt"
        made = _builder(self._name, self._name, self._key, days=1)
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        # From Python 3.13 on, certificates without these are not trusted.
        made = made.add_extension(_SIGNS_CERTIFICATES, critical=True)
        made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
        self.certificate.write_bytes(_pem(made.sign(self._key, hashes.SHA256())))

    def sign(self, name: str, days: int = 1, host: str = "127.0.0.1", *more: str) -> tuple[Path, Path]:
        """Return the files of a new certificate and its private key.

        :param days: how long it is good; negative for one that has expired.
        :param host: what else it is for than this machine's own address.
        :param more: further names, of name servers.
        """
        key = _new_key()
        names: list[x509.GeneralName] = [x509.DNSName(each) for each in more]
        names += [x509.IPAddress(ipaddress.ip_address(each)) for each in (host, get_node_ip_address())]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = _builder(subject, self._name, key, days)
        made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        made = made.add_extension(authority, critical=False)
        files = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        files[0].write_bytes(_pem(made.sign(self._key, hashes.SHA256())))
        encoding = serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL
        files[1].write_bytes(key.private_bytes(*encoding, serialization.NoEncryption()))
        return files

    def fields(self) -> dict[str, str]:
        """Return the fields of a connection by TLS."""
        certificate, key = self.sign("airflow")
        return {"tls_ca_cert": str(self.certificate), "tls_cert": str(certificate), "tls_key": str(key)}

    def environment(self) -> dict[str, str]:
        """Return the environment variables of a cluster that speaks TLS."""
        certificate, key = self.sign("cluster", 1, "127.0.0.1", "*.ray.svc")
        return {
            "RAY_USE_TLS": "1",
            "RAY_TLS_CA_CERT": str(self.certificate),
            "RAY_TLS_SERVER_CERT": str(certificate),
            "RAY_TLS_SERVER_KEY": str(key),
        }


def _new_key() -> RSAPrivateKey:
    return generate_private_key(public_exponent=65537, key_size=2048)


def _builder(subject: x509.Name, issuer: x509.Name, key: RSAPrivateKey, days: int) -> x509.CertificateBuilder:
    now = datetime.now(timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=3))
        .not_valid_after(now + timedelta(days=days))
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
