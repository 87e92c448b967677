"""When what a party shows or signs with expires: from its home's certificate, and its keys in the directory."""

from collections.abc import Mapping

from cryptography import x509

from exchange.core.directory import Directory
from exchange.core.keys import key_id
from exchange.home import Home, HomeError

CERTIFICATE, SIGNING, SEALING = "certificate", "signing key", "sealing key"


def expiries(home: Home, directory: Directory) -> Mapping[str, int]:
    """When certificate, signing key and newest sealing key expire, in milliseconds; what is not there is left out.

    Args:
        home: the party's, with its keys.
        directory: says until when its keys are valid.
    """
    found = {CERTIFICATE: _certificate(home), SIGNING: _signing(home, directory), SEALING: _sealing(home, directory)}
    return {what: until for what, until in found.items() if until is not None}


def _certificate(home: Home) -> int | None:
    try:
        certificate = x509.load_pem_x509_certificate(home.certificate())
    except (HomeError, ValueError):
        return None
    return int(certificate.not_valid_after_utc.timestamp() * 1000)


def _signing(home: Home, directory: Directory) -> int | None:
    try:
        record = directory.state.keys.get(key_id(home.signer().public_key))
    except HomeError:
        return None
    return record.not_after if record is not None else None


def _sealing(home: Home, directory: Directory) -> int | None:
    try:
        records = [directory.state.keys.get(digest) for digest in home.sealing_keys()]
    except HomeError:
        return None
    ends = [record.not_after for record in records if record is not None and record.revoked_index is None]
    return max(ends, default=None)
