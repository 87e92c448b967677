"""A trust file reads back as written, and anything else names what is wrong."""

import base64
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.cosignature import Cosigner
from exchange.core.errors import CoreError
from exchange.core.policy import Policy, PolicyWitness
from exchange.core.trust import Trust, TrustError, encode_trust, parse_trust
from tests.memory import MemoryLog, signer
from tests.world import ORIGIN

TRUST = Trust(
    ORIGIN,
    signer("root").public_key,
    MemoryLog(f"{ORIGIN}/directory").signer.verifier,
    MemoryLog(f"{ORIGIN}/access").signer.verifier,
    "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    ("broker-1.city.example:8443", "[::1]:8443"),
)
TEXT = encode_trust(TRUST)
TOWN = MemoryLog("town.example/access").signer.verifier
P384 = base64.b64encode(b"no key").decode()


def test_a_trust_file_reads_back_as_written() -> None:
    read = parse_trust(TEXT)
    assert replace(read, tls_ca=read.tls_ca.strip()) == TRUST
    assert encode_trust(read) == TEXT


def test_a_trust_file_with_witnesses_reads_back_as_written() -> None:
    witness = Cosigner("witness.example/w", Ed25519PrivateKey.from_private_bytes(bytes(32))).verifier
    trust = replace(TRUST, policy=Policy(witnesses=(PolicyWitness("w", witness, "https://w.example/"),), quorum="w"))
    read = parse_trust(encode_trust(trust))
    assert replace(read, tls_ca=read.tls_ca.strip()) == trust


POLICY_FAULTS = {
    "no policy": ("7", "witness_policy: a text is expected"),
    "a malformed one": ("'''\nquorum w\n'''", "witness_policy: line 1 of the policy: the quorum 'w' is not defined"),
    "a second place for a log's key": (
        f"'''\nlog {TRUST.access_log}\nquorum none\n'''",
        "witness_policy: the logs are named by directory_log and access_log",
    ),
}


@pytest.mark.parametrize("fault", POLICY_FAULTS)
def test_names_what_is_wrong_with_the_witness_policy(fault: str) -> None:
    value, reason = POLICY_FAULTS[fault]
    with pytest.raises(TrustError) as caught:
        parse_trust(f"{TEXT}witness_policy = {value}\n")
    assert str(caught.value).startswith(reason)


def test_writes_no_policy_that_would_read_back_as_another() -> None:
    witness = Cosigner("witness.example/w", Ed25519PrivateKey.from_private_bytes(bytes(32))).verifier
    policy = Policy(witnesses=(PolicyWitness("'''", witness),))
    with pytest.raises(TrustError, match="apostrophes"):
        encode_trust(replace(TRUST, policy=policy))


def test_a_trust_file_says_that_it_comes_from_people() -> None:
    assert TEXT.startswith("# What this party trusts")


def line(key: str, value: str) -> str:
    """The file with one line replaced; no value leaves the line out."""
    lines = TEXT.split("\n")
    place = next(number for number, text in enumerate(lines) if text.startswith(f"{key} ="))
    return "\n".join([*lines[:place], *([f"{key} = {value}"] if value else []), *lines[place + 1 :]])


FAULTS: list[tuple[str, str, str]] = [
    ("name", "", "name: a text is expected"),
    ("name", "7", "name: a text is expected"),
    ("name", '""', "name: a text is expected"),
    ("name", '"City Example"', "directory_log: a key of City Example/directory is expected"),
    ("name", '"town.example"', "directory_log: a key of town.example/directory is expected, not of city.example"),
    ("root_key", "", "root_key: a text is expected"),
    ("root_key", '"?"', "root_key: "),
    ("root_key", f'"{P384}"', "root_key: the public key cannot be read"),
    ("directory_log", "", "directory_log: a text is expected"),
    ("directory_log", '"city.example/directory"', "directory_log: a verifier key is"),
    ("directory_log", f'"{TRUST.access_log}"', "directory_log: a key of city.example/directory is expected"),
    ("access_log", f'"{TRUST.directory_log}"', "access_log: a key of city.example/access is expected"),
    ("access_log", f'"{TOWN}"', "access_log: a key of city.example/access is expected, not of town.example"),
    ("access_log", f'"{str(TRUST.access_log)[:-4]}AAA="', "access_log: "),
    ("brokers", "", "brokers: a list of HOST:PORT"),
    ("brokers", "[]", "brokers: a list of HOST:PORT"),
    ("brokers", '["broker:1", 1]', "brokers: a list of HOST:PORT"),
    ("root_key", '"字"', "root_key: "),
    ("brokers", "[1]", "brokers: a list of HOST:PORT"),
    ("brokers", '"broker:1"', "brokers: a list of HOST:PORT"),
    ("name", "'", "not TOML"),
]


@pytest.mark.parametrize(("key", "value", "reason"), FAULTS)
def test_names_the_value_that_is_missing_or_malformed(key: str, value: str, reason: str) -> None:
    with pytest.raises(TrustError) as caught:
        parse_trust(line(key, value))
    assert str(caught.value).startswith(reason) or reason in str(caught.value)


def test_a_name_that_is_no_domain_is_refused() -> None:
    name = "City_Example"
    logs = {key: MemoryLog(f"{name}/{log}").signer.verifier for key, log in (("directory_log", "directory"),)}
    logs["access_log"] = MemoryLog(f"{name}/access").signer.verifier
    with pytest.raises(TrustError, match="name: not a domain"):
        parse_trust(encode_trust(replace(TRUST, name=name, **logs)))


def test_a_trust_file_without_a_tls_authority_is_refused() -> None:
    with pytest.raises(TrustError, match="tls_ca"):
        parse_trust(TEXT[: TEXT.index("tls_ca")])


@given(st.text() | st.integers(0, len(TEXT)).map(lambda end: TEXT[:end]))
def test_any_text_is_a_trust_file_or_refused(text: str) -> None:
    try:
        trust = parse_trust(text)
    except TrustError:
        return
    assert parse_trust(encode_trust(trust)) == trust


@given(st.integers(0, len(TEXT) - 1), st.characters(codec="utf-8"))
def test_a_trust_file_with_a_character_changed_is_read_or_refused(place: int, character: str) -> None:
    try:
        trust = parse_trust(TEXT[:place] + character + TEXT[place + 1 :])
    except TrustError:
        return
    assert (trust.name, trust.root_key) == (TRUST.name, TRUST.root_key)
    assert (trust.directory_log, trust.access_log) == (TRUST.directory_log, TRUST.access_log)


def test_a_trust_error_is_a_core_error() -> None:
    assert issubclass(TrustError, CoreError)
