"""Certificates and keys for a deployment on loopback, as the exported README makes them with openssl and ssh-keygen.

For a network of your own use your organisation's authority: these are thrown away with the deployment.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from pathlib import Path
from typing import Any

DAYS = 2


def make_certificates(folder: Path, names: tuple[str, ...] = ("localhost",), address: str = "127.0.0.1") -> None:
    """An authority (ca.crt, ca.key) and a server certificate signed by it (server.crt, server.key), as PEM files."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    authority_key, server_key = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())
    authority = _named("octolab's authority for one deployment")
    now = datetime.datetime.now(datetime.UTC)

    def unsigned(subject: Any, key: Any) -> Any:
        made = x509.CertificateBuilder().subject_name(subject).issuer_name(authority).public_key(key.public_key())
        made = made.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(minutes=5))
        return made.not_valid_after(now + datetime.timedelta(days=DAYS))

    root = unsigned(authority, authority_key).add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
    hosts: list[Any] = [x509.DNSName(name) for name in names]
    hosts.append(x509.IPAddress(ipaddress.ip_address(address)))
    server = unsigned(_named(names[0]), server_key).add_extension(x509.SubjectAlternativeName(hosts), False)
    server = server.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
    for name, built, key in (("ca", root, authority_key), ("server", server, server_key)):
        signed = built.sign(authority_key, hashes.SHA256())
        _write(folder / f"{name}.crt", signed.public_bytes(_pem()))
        _write(folder / f"{name}.key", _private(key))


def make_node_key(folder: Path, number: int) -> tuple[Path, Path]:
    """A SuperNode's key pair: (private, public) files, the public one in OpenSSH's format, which Flower registers."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP384R1())
    private, public = folder / f"client-{number}.key", folder / f"client-{number}.pub"
    _write(private, _private(key, openssh=True))
    line = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    _write(public, line + b"\n")
    return private, public


def _named(name: str) -> Any:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _pem() -> Any:
    from cryptography.hazmat.primitives.serialization import Encoding

    return Encoding.PEM


def _private(key: Any, openssh: bool = False) -> bytes:
    from cryptography.hazmat.primitives import serialization

    form = serialization.PrivateFormat.OpenSSH if openssh else serialization.PrivateFormat.PKCS8
    return key.private_bytes(_pem(), form, serialization.NoEncryption())


def _write(path: Path, data: bytes) -> None:
    """Readable by its owner alone."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
