"""Certificate requests, good and bad, and the keys they are made with."""

import datetime
from collections.abc import Sequence
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.world import REGISTRY

KEY_ID = bytes(range(32))
NOW = datetime.datetime(2027, 1, 15, 8, tzinfo=datetime.UTC)
KEY = ec.generate_private_key(ec.SECP256R1())
# Short, so that it is made at once: it is refused whatever its length.
RSA_KEY = rsa.generate_private_key(65537, 1024)
AUTHORITY_KEY = ec.generate_private_key(ec.SECP256R1())


def uri(name: object) -> x509.GeneralName:
    return x509.UniformResourceIdentifier(str(name))


def csr(names: Sequence[x509.GeneralName] | None = None, key: Any = KEY, common_name: str = "") -> bytes:
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else []
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    if names is None or names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names or [uri(REGISTRY)]), critical=False)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(Encoding.DER)
