"""A party's home: the folder that keeps its keys, certificate and trust. Private keys are made here and never leave."""

import datetime
import os
import secrets
import tomllib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hpke import MLKEM768X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from exchange.core.errors import CoreError
from exchange.core.keys import (
    SEALING_PRIVATE,
    EcdsaSigner,
    key_id,
    sealing_private_key,
    sealing_public_bytes,
)
from exchange.core.names import Party
from exchange.core.trust import Trust, parse_trust
from exchange.transport import PeerError, TlsIdentity, certificate_party

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

STEWARD = "steward"
"""The role of a home whose key signs in its department's place."""

UNFINISHED = "unfinished"
"""The file that says that a home is still being made."""

_USAGE, _UNCHECKED, _UNTRUSTED = 2, 3, 5


class HomeError(Exception):
    """A home lacks something, or something in it cannot be used.

    Args:
        message: what is wrong.
        hint: what to do about it; may be empty.
        exit_code: of a command that ends with it: 2 wrong usage, 3 could not check, 5 not to be trusted.
    """

    def __init__(self, message: str, hint: str = "", exit_code: int = _UNCHECKED) -> None:
        super().__init__(message)
        self.hint = hint
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Home:
    """One party's folder.

    trust.toml      what the party trusts of the exchange
    party.toml      its name and role
    tls.pem         its TLS certificate, and the authority's
    keys/           private keys, mode 0600: signing.pem, tls.pem, sealing-*.key
    """

    path: Path

    @property
    def keys(self) -> Path:
        """The folder of private keys."""
        return self.path / "keys"

    @classmethod
    def create(cls, path: Path, party: Party, role: str, *, finished: bool = True) -> "Home":
        """Make a new home; what stands there already is not touched.

        Args:
            path: its folder.
            party, role: whose it is.
            finished: False where more belongs to it: whoever makes it ends with `finish`.

        Raises:
            HomeError: the folder is somebody's home already, or cannot be made.
        """
        home = cls(path)
        if (path / UNFINISHED).exists():
            raise HomeError(f"the home in {path} was not finished", f"delete {path}, and run this again", _USAGE)
        if home.is_made:
            hint = "choose another folder with --home"
            raise HomeError(f"{path} is the home of {home.party} already", hint, _USAGE)
        try:
            home.keys.mkdir(parents=True, exist_ok=True, mode=0o700)
            home.keys.chmod(0o700)
        except OSError as error:
            raise HomeError(f"cannot make {path}: {error.strerror}", _permission(error, path)) from error
        if not finished:
            home.write(UNFINISHED, b"")
        home.write("party.toml", f'name = "{party}"\nrole = "{role}"\n'.encode())
        return home

    def finish(self) -> None:
        """Say that all that belongs to a new home is in it."""
        (self.path / UNFINISHED).unlink(missing_ok=True)
        _sync_folder(self.path)

    @property
    def is_made(self) -> bool:
        """Whether a party lives here."""
        return (self.path / "party.toml").exists()

    @property
    def party(self) -> Party:
        """Whose home this is.

        Raises:
            HomeError: nobody's, or the name cannot be read.
        """
        try:
            return Party.parse(self._described("name"))
        except CoreError as error:
            raise HomeError(f"{self.path / 'party.toml'}: name: {error}") from error

    @property
    def acts_for(self) -> Party:
        """Whose entries this home's key signs: a steward's its department's, every other one its own.

        Raises:
            HomeError: nobody's, or the name cannot be read.
        """
        return self.party.own_department if self.role == STEWARD else self.party

    @property
    def role(self) -> str:
        """The party's role, in lower case."""
        return self._described("role")

    @property
    def trust(self) -> Trust:
        """What this party trusts of the exchange.

        Raises:
            HomeError: no trust file, it cannot be read, or it is of another exchange than the home.
        """
        path, again = self.path / "trust.toml", "get the exchange's trust file again, from somebody you know"
        data = self.read("trust.toml", "put the exchange's trust file there")
        try:
            trust = parse_trust(data.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise HomeError(f"{path} is not UTF-8", f"save it as UTF-8, or {again}") from error
        except CoreError as error:
            raise HomeError(f"{path}: {error}", again) from error
        if self.is_made and trust.name != self.party.domain:
            raise HomeError(f"{path} is of {trust.name}; this home belongs to {self.party.domain}", again, _UNTRUSTED)
        return trust

    def signer(self) -> EcdsaSigner:
        """The party's signing key.

        Raises:
            HomeError: none here, or not a P-256 key.
        """
        key = self.private_key("signing")
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise HomeError(f"{self.keys / 'signing.pem'} is not a P-256 key")
        return EcdsaSigner.of(key)

    def tls_identity(self) -> TlsIdentity:
        """The party's TLS key and certificate, with the exchange's authority.

        Raises:
            HomeError: one of them is missing, or they do not belong together, or the certificate has expired.
        """
        certificate = self.read("tls.pem", self._certificate_hint())
        self._check_certificate(certificate)
        return TlsIdentity(self._key_bytes("tls.pem"), certificate, self.trust.tls_ca.encode())

    def _certificate_hint(self) -> str:
        if self.is_made and self.role in {"root", "broker"}:
            return "restore this home from its backup"
        return "the party is not admitted yet: its parent signs its key request, and gives back the certificate"

    def _check_certificate(self, pem: bytes) -> None:
        """What TLS would say of the certificate only as a handshake that failed."""
        path, again = self.path / "tls.pem", "install the party's admission again with `exchange key install`"
        try:
            certificate = x509.load_pem_x509_certificate(pem)
            public_key = certificate.public_key()
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise HomeError(f"{path} is not a certificate", again) from error
        try:
            named = certificate_party(pem)
        except PeerError as error:
            raise HomeError(f"{path}: {error}", again) from error
        if named != self.party:
            raise HomeError(f"{path} is the certificate of {named}; this is the home of {self.party}", again)
        if public_key != self.private_key("tls").public_key():
            raise HomeError(f"{path} is for another key than {self.keys / 'tls.pem'}", again)
        until = certificate.not_valid_after_utc
        if until < datetime.datetime.now(datetime.UTC):
            raise HomeError(
                f"the certificate {path} has expired: it was valid until {until:%Y-%m-%d}",
                "its parent renews it with the same key request (`exchange department admit` or `exchange system add`),"
                " and `exchange key install` puts the new one here",
            )

    def new_private_key(self, name: str, key: PrivateKey | None = None) -> PrivateKey:
        """Make a private key (P-256 unless one is given) and keep it as keys/NAME.pem.

        Raises:
            HomeError: there is one already, or it cannot be written.
        """
        key = key or ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self._write_key(f"{name}.pem", pem)
        return key

    def new_tls_request(self) -> bytes:
        """Make the TLS key, and the certificate request that names this party alone; PKCS #10, DER.

        Raises:
            HomeError: there is a TLS key already, or it cannot be written.
        """
        key = self.new_private_key("tls")
        uri = x509.UniformResourceIdentifier(str(self.party))
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        builder = builder.add_extension(x509.SubjectAlternativeName([uri]), critical=True)
        return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)

    def private_key(self, name: str) -> PrivateKey:
        """Load keys/NAME.pem.

        Raises:
            HomeError: not here, or not a key of a kind that this exchange uses.
        """
        data = self._key_bytes(f"{name}.pem")
        try:
            key = load_pem_private_key(data, None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise HomeError(f"{self.keys / name}.pem cannot be read as a private key") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
            raise HomeError(f"{self.keys / name}.pem is a key of another kind")
        return key

    def new_sealing_key(self) -> bytes:
        """Make a sealing key and keep it as keys/sealing-ID.key; returns its public encoding, 1,216 bytes."""
        private = secrets.token_bytes(SEALING_PRIVATE)
        public = sealing_public_bytes(private)
        self._write_key(f"sealing-{key_id(public).hex()}.key", private)
        return public

    def sealing_keys(self) -> dict[bytes, MLKEM768X25519PrivateKey]:
        """Every sealing key kept here, by the SHA-256 of its public encoding.

        Raises:
            HomeError: one cannot be read, or is no key.
        """
        found = {}
        for path in sorted(self.keys.glob("sealing-*.key")):
            private = self._key_bytes(path.name)
            # Its destruction was cut short.
            if private == bytes(SEALING_PRIVATE):
                continue
            try:
                found[key_id(sealing_public_bytes(private))] = sealing_private_key(private)
            except CoreError as error:
                raise HomeError(f"{path}: {error}") from error
        return found

    def sealing_public(self, digest: bytes) -> bytes:
        """The public encoding of a sealing key kept here, 1,216 bytes.

        Raises:
            HomeError: it cannot be read.
        """
        return sealing_public_bytes(self._key_bytes(f"sealing-{digest.hex()}.key"))

    def destroy_sealing_key(self, digest: bytes) -> None:
        """Remove a sealing key: what was sealed to it cannot be opened again."""
        path = self.keys / f"sealing-{digest.hex()}.key"
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.write(b"\0" * size)
            file.flush()
            os.fsync(file.fileno())
        path.unlink()

    def read(self, name: str, hint: str = "") -> bytes:
        """Read a file of the home.

        Raises:
            HomeError: it cannot be read; `hint` is passed on.
        """
        path = self.path / name
        try:
            return path.read_bytes()
        except OSError as error:
            raise HomeError(f"cannot read {path}: {error.strerror}", _permission(error, path) or hint) from error

    def write(self, name: str, data: bytes) -> Path:
        """Write a public file of the home, whole or not at all.

        Raises:
            HomeError: it cannot be written.
        """
        path = self.path / name
        write_file(path, data, 0o644)
        return path

    def _write_key(self, name: str, data: bytes) -> None:
        path = self.keys / name
        if path.exists():
            raise HomeError(f"{path} exists already", "a key is never overwritten: move it away first")
        write_file(path, data, 0o600)

    def _key_bytes(self, name: str) -> bytes:
        path = self.keys / name
        data = self.read(f"keys/{name}", self._key_hint(name))
        if path.stat().st_mode & 0o077:
            raise HomeError(f"{path} can be read by others", f"chmod 600 {path}")
        return data

    def _key_hint(self, name: str) -> str:
        """A key of the exchange itself was made once, by `exchange init`, and nothing else makes it again."""
        if self.is_made and (self.role in {"root", "broker"} or name.startswith("sealing-")):
            return "restore it from this home's backup"
        return "private keys are made with `exchange key new`"

    def _described(self, key: str) -> str:
        data = self.read("party.toml", "make a home with `exchange key new`, or choose one with --home")
        try:
            value = tomllib.loads(data.decode("utf-8-sig")).get(key)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise HomeError(f"{self.path / 'party.toml'} cannot be read: {error}") from error
        if not isinstance(value, str):
            raise HomeError(f"{self.path / 'party.toml'}: {key}: a text is expected")
        return value


def write_file(path: Path, data: bytes, mode: int) -> None:
    """Write a file whole or not at all, with this mode from its first byte on, and sync it.

    Raises:
        HomeError: it cannot be written, or something else than a file stands there.
    """
    _check_regular(path)
    temporary = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise HomeError(f"cannot write {path}: {error.strerror}", _permission(error, path)) from error


def check_writable(path: Path) -> None:
    """Find out whether `write_file` can write a file, without touching it: before anything that cannot be undone.

    Raises:
        HomeError: it cannot be written, or something else than a file stands there.
    """
    _check_regular(path)
    temporary = _beside(path)
    try:
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        temporary.unlink()
    except OSError as error:
        raise HomeError(f"cannot write {path}: {error.strerror}", _permission(error, path)) from error


def _check_regular(path: Path) -> None:
    """A rename would put a file in the place of a device, a pipe or a socket."""
    try:
        found = path.exists() and not path.is_file()
    except OSError as error:
        raise HomeError(f"cannot write {path}: {error.strerror}", _permission(error, path)) from error
    if found:
        raise HomeError(f"cannot write {path}: {'a folder' if path.is_dir() else 'no plain file'} is there")


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}")


def _permission(error: OSError, path: Path) -> str:
    """What to do where the system denies access; empty where it does not."""
    if not isinstance(error, PermissionError):
        return ""
    return f"this user may not: see the permissions of {path} and its folder with `ls -ld`, or run as its owner"


def _sync_folder(path: Path) -> None:
    """Make a rename durable (POSIX: the folder is a file of its own)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
