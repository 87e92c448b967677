"""The trust file: all that a client, adapter or auditor has to be given out of band (DESIGN section 3)."""

import base64
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass

from exchange.core.errors import CoreError
from exchange.core.keys import signing_key
from exchange.core.names import Party
from exchange.core.note import Verifier
from exchange.core.policy import Policy, encode_policy, parse_policy


class TrustError(CoreError):
    """A trust file lacks a key, or a value in it is not in its form."""


@dataclass(frozen=True, slots=True)
class Trust:
    """One exchange, as a party trusts it.

    Args:
        name: the exchange's name, the origin of every signature.
        root_key: SubjectPublicKeyInfo of the root, DER.
        directory_log, access_log: note keys whose names are NAME/directory and NAME/access.
        tls_ca: certificates of the TLS authority, PEM.
        brokers: addresses, HOST:PORT.
        policy: whose cosignatures of both logs' checkpoints are needed (C2SP tlog-policy); None without witnesses.
    """

    name: str
    root_key: bytes
    directory_log: Verifier
    access_log: Verifier
    tls_ca: str
    brokers: tuple[str, ...]
    policy: Policy | None = None


def parse_trust(text: str) -> Trust:
    """Read a trust file.

    Raises:
        TrustError: not TOML, or a value is missing or not in its form; the text names it.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise TrustError(f"the trust file is not TOML: {error}") from error
    name = _text(values, "name")
    logs = tuple(_verifier(values, key, f"{name}/{log}") for key, log in _LOGS)
    brokers = values.get("brokers")
    if not isinstance(brokers, list) or not brokers or not all(_is_address(item) for item in brokers):
        raise TrustError("brokers: a list of HOST:PORT is expected")
    try:
        Party(name)
    except CoreError as error:
        raise TrustError(f"name: {error}") from error
    tls_ca, policy = _text(values, "tls_ca"), _policy(values)
    return Trust(name, _root_key(values), logs[0], logs[1], tls_ca, tuple(brokers), policy)


def encode_trust(trust: Trust) -> str:
    """The text of a trust file; `parse_trust` reads it back."""
    brokers = ", ".join(f'"{broker}"' for broker in trust.brokers)
    return (
        "# What this party trusts of one exchange. Get it from somebody you know, not from the network.\n"
        f'name = "{trust.name}"\n'
        f'root_key = "{base64.b64encode(trust.root_key).decode()}"\n'
        f'directory_log = "{trust.directory_log}"\n'
        f'access_log = "{trust.access_log}"\n'
        f"brokers = [{brokers}]\n"
        f'tls_ca = """\n{trust.tls_ca.strip()}\n"""\n'
        f"{_policy_text(trust.policy)}"
    )


def _policy_text(policy: Policy | None) -> str:
    if policy is None:
        return ""
    text = encode_policy(policy)
    # A literal string of TOML has no escapes: what it cannot hold is refused, rather than read back as another policy.
    if "'''" in text:
        raise TrustError("witness_policy: three apostrophes in a row cannot be written")
    return f"# Whose cosignatures a checkpoint needs (C2SP tlog-policy).\nwitness_policy = '''\n{text}'''\n"


_ADDRESS = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):[0-9]{1,5}", re.ASCII)
_LOGS = (("directory_log", "directory"), ("access_log", "access"))


def _is_address(value: object) -> bool:
    """HOST:PORT, an IPv6 address in brackets; without characters that the text of a trust file would need to escape."""
    return isinstance(value, str) and _ADDRESS.fullmatch(value) is not None


def _text(values: Mapping[str, object], key: str) -> str:
    value = values.get(key)
    if not isinstance(value, str) or not value:
        raise TrustError(f"{key}: a text is expected")
    return value


def _verifier(values: Mapping[str, object], key: str, name: str) -> Verifier:
    try:
        verifier = Verifier.parse(_text(values, key))
    except CoreError as error:
        raise TrustError(f"{key}: {error}") from error
    if verifier.name != name:
        raise TrustError(f"{key}: a key of {name} is expected, not of {verifier.name}")
    return verifier


def _policy(values: Mapping[str, object]) -> Policy | None:
    if "witness_policy" not in values:
        return None
    text = _text(values, "witness_policy")
    try:
        policy = parse_policy(text)
    except CoreError as error:
        raise TrustError(f"witness_policy: {error}") from error
    # A second place for the logs' keys would be a second truth.
    if policy.logs:
        raise TrustError("witness_policy: the logs are named by directory_log and access_log, not by log lines")
    return policy


def _root_key(values: Mapping[str, object]) -> bytes:
    try:
        data = base64.b64decode(_text(values, "root_key"), validate=True)
        signing_key(data)
    except ValueError as error:
        raise TrustError(f"root_key: {error}") from error
    return data
