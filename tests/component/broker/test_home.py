"""A home keeps private keys: made there, never overwritten, never readable by others, written whole or not at all."""

import os
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from exchange.broker.authority import read_csr
from exchange.core.keys import SEALING_PUBLIC, key_id
from exchange.home import Home, HomeError, write_file
from tests.certificates import RSA_KEY
from tests.world import REGISTRY


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.create(tmp_path / "home", REGISTRY, "system")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_home_says_whose_it_is(home: Home) -> None:
    assert (home.party, home.role, home.is_made) == (REGISTRY, "system", True)
    assert mode(home.keys) == 0o700


def test_a_home_is_taken_once(home: Home) -> None:
    with pytest.raises(HomeError, match=r"the home of .* already"):
        Home.create(home.path, REGISTRY, "system")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(HomeError, match="cannot make"):
        Home.create(tmp_path / "file" / "home", REGISTRY, "system")


@pytest.mark.parametrize(
    "text",
    ["", "name = 1", "rubbish", 'name = "population"', 'name = "exchange://City.example"', "\xff"],
    ids=["empty", "a number", "no TOML", "no name", "an impossible name", "no text"],
)
def test_a_home_that_says_no_name_is_broken(home: Home, text: str) -> None:
    (home.path / "party.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(HomeError):
        _ = home.party


def test_nobody_lives_in_an_empty_folder(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert not home.is_made
    for look in ("party", "role", "trust"):
        with pytest.raises(HomeError) as caught:
            getattr(home, look)
        assert caught.value.hint


def test_keys_are_for_their_owners_eyes(home: Home) -> None:
    before = os.umask(0)
    try:
        home.new_private_key("signing")
        home.new_sealing_key()
        home.new_tls_request()
    finally:
        os.umask(before)
    assert [mode(path) for path in home.keys.iterdir()] == [0o600] * 3


def test_a_key_is_never_overwritten(home: Home) -> None:
    home.new_private_key("signing")
    before = (home.keys / "signing.pem").read_bytes()
    with pytest.raises(HomeError, match="exists already"):
        home.new_private_key("signing")
    assert (home.keys / "signing.pem").read_bytes() == before


def test_a_key_that_others_can_read_is_not_used(home: Home) -> None:
    home.new_private_key("signing")
    home.signer()
    for wrong in (0o640, 0o604, 0o660):
        (home.keys / "signing.pem").chmod(wrong)
        with pytest.raises(HomeError, match="can be read by others") as caught:
            home.signer()
        assert "chmod 600" in caught.value.hint


def pem_of(key: object) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize(
    "data",
    [b"", b"rubbish", pem_of(ed25519.Ed25519PrivateKey.generate()), pem_of(RSA_KEY)],
    ids=["empty", "rubbish", "Ed25519", "RSA"],
)
def test_a_signing_key_of_another_kind_is_refused(home: Home, data: bytes) -> None:
    write_file(home.keys / "signing.pem", data, 0o600)
    with pytest.raises(HomeError):
        home.signer()


def test_a_missing_key_says_how_one_is_made(home: Home) -> None:
    with pytest.raises(HomeError) as caught:
        home.signer()
    assert "exchange key new" in caught.value.hint


def test_a_tls_request_names_the_party_alone(home: Home) -> None:
    request = read_csr(home.new_tls_request(), REGISTRY)
    assert isinstance(request, x509.CertificateSigningRequest)


def test_sealing_keys_are_found_by_their_public_halves(home: Home) -> None:
    publics = [home.new_sealing_key() for _ in range(2)]
    assert {len(public) for public in publics} == {SEALING_PUBLIC}
    assert set(home.sealing_keys()) == {key_id(public) for public in publics}


def test_a_destroyed_sealing_key_is_gone_and_its_bytes_with_it(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = [key_id(home.new_sealing_key()) for _ in range(2)]
    path = home.keys / f"sealing-{digests[0].hex()}.key"
    seen = []
    unlink = Path.unlink

    def look(self: Path, missing_ok: bool = False) -> None:
        seen.append(self.read_bytes())
        unlink(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", look)
    home.destroy_sealing_key(digests[0])
    assert seen == [bytes(96)]
    assert not path.exists()
    assert set(home.sealing_keys()) == {digests[1]}


@pytest.mark.parametrize("data", [b"", bytes(95), bytes(97)], ids=len)
def test_a_sealing_key_that_was_cut_is_named(home: Home, data: bytes) -> None:
    write_file(home.keys / "sealing-00.key", data, 0o600)
    with pytest.raises(HomeError, match=r"sealing-00\.key"):
        home.sealing_keys()


def test_a_sealing_key_whose_destruction_was_cut_short_is_no_key(home: Home) -> None:
    """Its bytes are zero, and the file is still there: it must not pass for a key."""
    write_file(home.keys / f"sealing-{bytes(32).hex()}.key", bytes(96), 0o600)
    assert home.sealing_keys() == {}


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "folder" / "file"
    write_file(path, b"before", 0o600)

    def fail(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(HomeError, match="No space left"):
        write_file(path, b"after", 0o600)
    assert path.read_bytes() == b"before"
    assert list(path.parent.iterdir()) == [path]


def test_a_file_where_a_folder_should_be_is_an_error_of_the_home(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(HomeError, match="cannot write"):
        write_file(tmp_path / "file" / "below", b"data", 0o644)


def test_a_trust_file_that_cannot_be_read_is_named(home: Home) -> None:
    with pytest.raises(HomeError, match=r"trust\.toml"):
        _ = home.trust
    for data in (b"name = 1", b"\xff"):
        home.write("trust.toml", data)
        with pytest.raises(HomeError, match=r"trust\.toml"):
            _ = home.trust


def test_a_party_that_is_not_admitted_yet_has_no_tls_identity(home: Home) -> None:
    home.new_tls_request()
    with pytest.raises(HomeError) as caught:
        home.tls_identity()
    assert "not admitted yet" in caught.value.hint
