"""Policies are those of C2SP tlog-policy, and count every key once."""

from collections.abc import Sequence
from itertools import combinations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.checkpoint import Checkpoint, encode_checkpoint
from exchange.core.cosignature import CosignatureVerifier, Cosigner
from exchange.core.errors import NoteError
from exchange.core.note import NoteSigner, Verifier, sign_note
from exchange.core.policy import (
    MAX_AGE,
    MAX_AHEAD,
    MAX_POLICY,
    Policy,
    PolicyGroup,
    PolicyLog,
    PolicyWitness,
    encode_policy,
    open_cosigned,
    parse_policy,
)


def key(number: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(number.to_bytes(32))


LOG = NoteSigner("city.example/access", key(1))
OTHER_LOG = NoteSigner("city.example/directory", key(2))
COSIGNERS = {
    name: Cosigner(f"{name.lower()}.example/w", key(10 + n))
    for n, name in enumerate(["X1", "X2", "X3", "Y1", "Y2", "Y3"])
}
VKEYS = {name: str(cosigner.verifier) for name, cosigner in COSIGNERS.items()}
WITNESSES = "".join(f"witness {name} {vkey}\n" for name, vkey in VKEYS.items())
# The example of C2SP tlog-policy.
EXAMPLE = (
    f"log {LOG.verifier}\n"
    f"{WITNESSES}"
    "group X-witnesses 2 X1 X2 X3\n"
    "group Y-witnesses any Y1 Y2 Y3\n"
    "group X-and-Y all X-witnesses Y-witnesses\n"
    "quorum X-and-Y\n"
)
POLICY = parse_policy(EXAMPLE)
CHECKPOINT = Checkpoint(LOG.name, 7, bytes(32))


def cosigned_note(times: Sequence[tuple[str, int]]) -> bytes:
    text = encode_checkpoint(CHECKPOINT)
    return sign_note(text, [LOG], [COSIGNERS[name].cosign(text.encode(), time) for name, time in times])


def test_reads_the_published_example() -> None:
    assert POLICY.logs == (PolicyLog(LOG.verifier),)
    assert [witness.name for witness in POLICY.witnesses] == list(COSIGNERS)
    assert POLICY.groups[0] == PolicyGroup("X-witnesses", 2, ("X1", "X2", "X3"))
    assert [group.threshold for group in POLICY.groups] == [2, 1, 2]
    assert POLICY.quorum == "X-and-Y"


def test_a_policy_may_be_as_large_as_it_says() -> None:
    text = "quorum none\n"
    assert parse_policy("#" * (MAX_POLICY - len(text) - 1) + "\n" + text) == Policy()


@pytest.mark.parametrize("size", range(7))
def test_the_example_needs_two_of_x_and_one_of_y(size: int) -> None:
    for names in combinations(COSIGNERS, size):
        enough = sum(name[0] == "X" for name in names) >= 2 and any(name[0] == "Y" for name in names)
        assert POLICY.is_met(names) == enough


def test_no_quorum_needs_nobody() -> None:
    policy = parse_policy("quorum none\n")
    assert policy.is_met(())
    assert not policy.needs_witnesses


def test_a_single_witness_may_be_the_quorum() -> None:
    policy = parse_policy(f"{WITNESSES}quorum X2\n")
    assert policy.is_met({"X2"})
    assert not policy.is_met({"X1", "X3"})


def test_names_that_the_policy_does_not_know_count_for_nothing() -> None:
    assert not POLICY.is_met({"X-and-Y", "X-witnesses", "Y-witnesses", "none"})


def test_spaces_tabs_comments_and_empty_lines_are_passed_over() -> None:
    text = f"\n # a comment\n\t witness \t X1  {VKEYS['X1']} \thttps://w.example/ \n#quorum none\n\nquorum X1\n"
    policy = parse_policy(text)
    assert policy.witnesses == (PolicyWitness("X1", COSIGNERS["X1"].verifier, "https://w.example/"),)
    assert policy.quorum == "X1"


def renamed(vkey: str) -> str:
    return str(CosignatureVerifier.of("another.example/name", CosignatureVerifier.parse(vkey).public_key))


FAULTS = {
    "no quorum": (WITNESSES, "no quorum line"),
    "nothing at all": ("", "no quorum line"),
    "two quorum lines": ("quorum none\nquorum none\n", "line 2 of the policy: a second quorum line"),
    "an undefined quorum": ("quorum Z\n", "line 1 of the policy: the quorum 'Z' is not defined"),
    "a quorum defined after its line": (f"quorum X1\n{WITNESSES}", "line 1 of the policy: the quorum 'X1'"),
    "a last line without its end": ("quorum none", "does not end in a newline"),
    "one key twice": (f"witness A {VKEYS['X1']}\nwitness B {VKEYS['X1']}\nquorum none\n", "line 2 .* the same key"),
    "one key under two key names": (
        f"witness A {VKEYS['X1']}\nwitness B {renamed(VKEYS['X1'])}\nquorum none\n",
        "line 2 .* the same key",
    ),
    "one name twice": (f"witness A {VKEYS['X1']}\nwitness A {VKEYS['X2']}\nquorum none\n", "defined twice"),
    "a group named as a witness": (f"{WITNESSES}group X1 any X2\nquorum X1\n", "defined twice"),
    "a witness named none": (f"witness none {VKEYS['X1']}\nquorum none\n", "not a name"),
    "none as a member": (f"{WITNESSES}group G any none\nquorum G\n", "'none' of 'G' is not defined"),
    "a group of itself": (f"{WITNESSES}group G any G\nquorum G\n", "not defined before it"),
    "a member defined later": (f"group G any X1\n{WITNESSES}quorum G\n", "line 1 .* not defined before it"),
    "a member twice": (f"{WITNESSES}group G any X1 X1\nquorum G\n", "a member twice"),
    "a member of two groups": (f"{WITNESSES}group G any X1\ngroup H any X1\nquorum G\n", "a member twice"),
    "a third word of a witness": (f"witness A {VKEYS['X1']} https://a/ https://b/\nquorum none\n", "not a line"),
    "no members": (f"{WITNESSES}group G any\nquorum none\n", "not a line of a policy"),
    "none of one": (f"{WITNESSES}group G 0 X1\nquorum G\n", "any, all or a number"),
    "two of one": (f"{WITNESSES}group G 2 X1\nquorum G\n", "cannot have 2 of 1"),
    "a leading zero": (f"{WITNESSES}group G 01 X1\nquorum G\n", "any, all or a number"),
    "another script's digit": (f"{WITNESSES}group G ١ X1\nquorum G\n", "any, all or a number"),
    "a log's key as a witness": (f"witness A {LOG.verifier}\nquorum none\n", "signature type"),
    "a witness's key as a log": (f"log {VKEYS['X1']}\nquorum none\n", "signature type"),
    "one log twice": (f"log {LOG.verifier}\nlog {LOG.verifier}\nquorum none\n", "two log lines"),
    "a third word of a log": (f"log {LOG.verifier} https://a/ https://b/\nquorum none\n", "not a line"),
    "an unknown word": ("witnesses none\nquorum none\n", "not a line of a policy"),
    "a carriage return": ("quorum none\r\n", "control characters"),
    "a NUL": ("quorum none\n\0\n", "control characters"),
    "too much": ("#" * MAX_POLICY + "\nquorum none\n", "at most 64 KiB"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_refuses_a_policy_with(fault: str) -> None:
    text, reason = FAULTS[fault]
    with pytest.raises(NoteError, match=reason):
        parse_policy(text)


def test_a_policy_made_by_hand_is_held_to_the_same_rules() -> None:
    witness = PolicyWitness("A", COSIGNERS["X1"].verifier)
    with pytest.raises(NoteError, match="the same key"):
        Policy(witnesses=(witness, PolicyWitness("B", witness.verifier)))
    with pytest.raises(NoteError, match="cannot have 0 of 1"):
        Policy(witnesses=(witness,), groups=(PolicyGroup("G", 0, ("A",)),))
    for url in ("a url", "a\turl", "a\x7furl", "a\0url"):
        with pytest.raises(NoteError, match="no spaces"):
            Policy(witnesses=(PolicyWitness("A", witness.verifier, url),))
    for name in ("two words", "", "none", "a\x7fname"):
        with pytest.raises(NoteError, match="not a name"):
            Policy(witnesses=(PolicyWitness(name, witness.verifier),))


def test_a_policy_reads_back_as_written() -> None:
    assert parse_policy(encode_policy(POLICY)) == POLICY
    with_url = Policy(
        witnesses=(PolicyWitness("市审计局", COSIGNERS["X1"].verifier, "https://w.example/"),), quorum="市审计局"
    )
    assert parse_policy(encode_policy(with_url)) == with_url


WORDS = st.sampled_from(["log", "witness", "group", "quorum", "any", "1", "2", "none", "#", "X1", "G", *VKEYS.values()])
LINES = st.lists(st.lists(WORDS, min_size=1, max_size=5), max_size=6)


@given(st.text() | LINES.map(lambda lines: "".join(f"{' '.join(words)}\n" for words in lines)))
def test_any_text_is_a_policy_that_reads_back_or_is_refused(text: str) -> None:
    try:
        policy = parse_policy(text)
    except NoteError:
        return
    assert parse_policy(encode_policy(policy)) == policy


# Cosigned checkpoints.


def test_a_checkpoint_says_who_cosigned_it_and_when() -> None:
    cosigned = open_cosigned(cosigned_note([("Y1", 300), ("X2", 100), ("X1", 200)]), LOG.verifier, POLICY)
    assert cosigned.checkpoint == CHECKPOINT
    assert cosigned.cosignatures == (("X1", 200), ("X2", 100), ("Y1", 300))
    assert cosigned.quorum


def test_the_time_is_that_since_which_a_quorum_has_cosigned() -> None:
    times = [("X1", 200), ("X2", 100), ("X3", 400), ("Y1", 300)]
    assert open_cosigned(cosigned_note(times), LOG.verifier, POLICY).time == 200


def test_too_few_cosignatures_are_no_quorum_and_no_time() -> None:
    cosigned = open_cosigned(cosigned_note([("X1", 200), ("X2", 100), ("X3", 400)]), LOG.verifier, POLICY)
    assert not cosigned.quorum
    assert cosigned.time is None
    assert not cosigned.is_fresh(0)


def test_without_a_quorum_nothing_is_fresh_and_nothing_is_missing() -> None:
    cosigned = open_cosigned(cosigned_note([("X1", 5)]), LOG.verifier, parse_policy(f"{WITNESSES}quorum none\n"))
    assert cosigned.cosignatures == (("X1", 5),)
    assert cosigned.quorum
    assert cosigned.time is None


@pytest.mark.parametrize(
    ("age", "fresh"), [(0, True), (MAX_AGE, True), (MAX_AGE + 1, False), (-MAX_AHEAD, True), (-MAX_AHEAD - 1, False)]
)
def test_a_cosigned_checkpoint_is_fresh_for_five_minutes(age: int, fresh: bool) -> None:
    times = [("X1", 1000), ("X2", 1000), ("Y1", 1000)]
    assert open_cosigned(cosigned_note(times), LOG.verifier, POLICY).is_fresh((1000 + age) * 1000) == fresh


def test_cosignatures_of_strangers_are_ignored() -> None:
    policy = parse_policy(f"witness A {VKEYS['X1']}\nquorum A\n")
    assert open_cosigned(cosigned_note([("X2", 5)]), LOG.verifier, policy).cosignatures == ()


def test_a_bad_cosignature_by_a_known_witness_rejects_the_note() -> None:
    text = encode_checkpoint(CHECKPOINT)
    wrong = COSIGNERS["X1"].cosign(b"another\n1\n", 5)
    with pytest.raises(NoteError, match="invalid signature"):
        open_cosigned(sign_note(text, [LOG], [wrong]), LOG.verifier, POLICY)


def test_cosignatures_without_the_logs_own_signature_are_nothing() -> None:
    text = encode_checkpoint(CHECKPOINT)
    note = sign_note(text, [OTHER_LOG], [COSIGNERS["X1"].cosign(text.encode(), 5)])
    with pytest.raises(NoteError):
        open_cosigned(note, LOG.verifier, POLICY)


def test_another_logs_checkpoint_is_refused() -> None:
    with pytest.raises(NoteError):
        open_cosigned(cosigned_note([("X1", 1)]), OTHER_LOG.verifier, POLICY)
    with pytest.raises(NoteError):
        open_cosigned(cosigned_note([("X1", 1)]), Verifier.of(LOG.name, bytes(31) + b"\1"), POLICY)
