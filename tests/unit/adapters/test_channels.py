import pytest
from cryptography.hazmat.primitives.hpke import MLKEM768X25519PrivateKey

from adapters import channels as module
from adapters.channels import LIFETIME, Channels
from exchange.core.errors import SealError
from exchange.core.keys import key_id, sealing_private_key
from exchange.core.sealing import CHANNEL, capsule_info, open_capsule, seal_capsule
from tests.memory import sealing_private, sealing_public, signer
from tests.world import APPLICATIONS, MARRIAGE, ORIGIN, REGISTRY, START

KEY = sealing_private_key(sealing_private("registry"))
PUBLIC = sealing_public("registry")


def info_for(requester: object = APPLICATIONS, label: str = "applications") -> bytes:
    return capsule_info(ORIGIN, str(requester), key_id(signer(label).public_key), str(REGISTRY), key_id(PUBLIC))


def capsule(channel: bytes = b"c" * CHANNEL, info: bytes | None = None) -> bytes:
    return seal_capsule(channel, PUBLIC, info or info_for())


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The capsules that were opened, each time."""
    found: list[bytes] = []

    def look(capsule: bytes, key: MLKEM768X25519PrivateKey, info: bytes) -> bytes:
        found.append(capsule)
        return open_capsule(capsule, key, info)

    monkeypatch.setattr(module, "open_capsule", look)
    return found


def test_a_capsule_is_opened_once(opened: list[bytes]) -> None:
    channels, sealed = Channels(), capsule()
    for later in (0, 1, LIFETIME - 1):
        assert channels.open(sealed, KEY, info_for(), START + later) == b"c" * CHANNEL
    assert opened == [sealed]


def test_a_channel_is_forgotten_after_ten_minutes(opened: list[bytes]) -> None:
    channels, sealed = Channels(), capsule()
    channels.open(sealed, KEY, info_for(), START)
    channels.open(sealed, KEY, info_for(), START + LIFETIME)
    assert len(opened) == 2
    # And counts from when it was opened again.
    channels.open(sealed, KEY, info_for(), START + 2 * LIFETIME - 1)
    assert len(opened) == 2


@pytest.mark.parametrize("info", [info_for(MARRIAGE), info_for(label="another key")], ids=["party", "key"])
def test_a_known_capsule_opens_for_nobody_else(info: bytes) -> None:
    """Its channel lies in memory, but not under this requester's name."""
    channels, sealed = Channels(), capsule()
    channels.open(sealed, KEY, info_for(), START)
    with pytest.raises(SealError):
        channels.open(sealed, KEY, info, START)


def test_each_capsule_has_its_own_channel() -> None:
    channels = Channels()
    one, two = capsule(b"1" * CHANNEL), capsule(b"2" * CHANNEL)
    for _ in range(2):
        assert channels.open(one, KEY, info_for(), START) == b"1" * CHANNEL
        assert channels.open(two, KEY, info_for(), START) == b"2" * CHANNEL


@pytest.mark.parametrize("sealed", [b"", b"x" * 1168, capsule()[:-1], capsule() + b"x"], ids=len)
def test_what_does_not_open_is_not_remembered(sealed: bytes, opened: list[bytes]) -> None:
    channels = Channels()
    for _ in range(2):
        with pytest.raises(SealError):
            channels.open(sealed, KEY, info_for(), START)
    assert len(opened) == 2


def test_no_more_than_the_most_are_remembered(opened: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    channels, sealed = Channels(), [capsule(bytes([number]) * CHANNEL) for number in range(3)]
    for one in sealed:
        channels.open(one, KEY, info_for(), START)
    for one in sealed[1:]:
        channels.open(one, KEY, info_for(), START)
    assert len(opened) == 3
    channels.open(sealed[0], KEY, info_for(), START)
    assert len(opened) == 4


def test_where_a_name_ends_and_the_next_begins_makes_a_difference(opened: list[bytes]) -> None:
    """What it is bound to and the capsule are hashed together: the cut between them is part of it."""
    channels, sealed = Channels(), capsule()
    channels.open(sealed, KEY, info_for(), START)
    with pytest.raises(SealError):
        channels.open(sealed[1:], KEY, info_for() + sealed[:1], START)
