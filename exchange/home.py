"""A party's home: the folder that keeps its keys, certificate and trust. Private keys are made here and never leave."""

import os
import secrets
import time
import tomllib
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
from exchange.files import HomeError, check_writable, permission, sync_folder, write_file
from exchange.transport import PeerError, TlsIdentity, certificate_party

__all__ = ["NEXT", "UNFINISHED", "Home", "HomeError", "PrivateKey", "check_writable", "write_file"]

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

ROOT = "root"
STEWARD = "steward"
"""The role of a home whose key signs in its department's place."""

NEXT = "-next"
"""What follows the name of a private key that is to take the other one's place."""

UNFINISHED = "unfinished"
"""The file that says that a home is still being made."""

_USAGE, _UNTRUSTED = 2, 5


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
            raise HomeError(f"cannot make {path}: {error.strerror}", permission(error, path)) from error
        if not finished:
            home.write(UNFINISHED, b"")
        home.write("party.toml", f'name = "{party}"\nrole = "{role}"\n'.encode())
        return home

    def finish(self) -> None:
        """Say that all that belongs to a new home is in it."""
        (self.path / UNFINISHED).unlink(missing_ok=True)
        sync_folder(self.path)

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
        data = self.read("trust.toml", self.waits_hint or "put the exchange's trust file there")
        try:
            trust = parse_trust(data.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise HomeError(f"{path} is not UTF-8", f"save it as UTF-8, or {again}") from error
        except CoreError as error:
            raise HomeError(f"{path}: {error}", again) from error
        if self.is_made and trust.name != self.party.domain:
            raise HomeError(f"{path} is of {trust.name}; this home belongs to {self.party.domain}", again, _UNTRUSTED)
        return trust

    @property
    def has_signing_key(self) -> bool:
        """Whether the party's signing key is here; the root's belongs elsewhere."""
        return (self.keys / "signing.pem").exists()

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
        certificate = self.certificate()
        self._check_certificate(certificate)
        return TlsIdentity(self._key_bytes("tls.pem"), certificate, self.trust.tls_ca.encode())

    def certificate(self) -> bytes:
        """The party's TLS certificate with the authority's, PEM, as it lies there.

        Raises:
            HomeError: it is missing.
        """
        return self.read("tls.pem", self._certificate_hint())

    def _certificate_hint(self) -> str:
        if self.is_made and self.role in {ROOT, "broker"}:
            return "restore this home from its backup"
        return self.waits_hint or "not admitted yet: its parent signs the request, and gives back the certificate"

    @property
    def waits_hint(self) -> str:
        """How somebody who used an invite asks whether it is approved; empty where none was used, or it was."""
        waits = (self.path / "invite.json").exists()
        return f"it waits to be approved: `exchange join --status --home {self.path}`" if waits else ""

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
        following = self.keys / f"tls{NEXT}.pem"
        if following.exists() and public_key == self.private_key(f"tls{NEXT}").public_key():
            # A renewal ended between its two steps: the certificate is here, its key not yet in its place.
            self.adopt_key("tls")
        if public_key != self.private_key("tls").public_key():
            raise HomeError(f"{path} is for another key than {self.keys / 'tls.pem'}", again)
        until = certificate.not_valid_after_utc
        if until.timestamp() < time.time():
            raise HomeError(
                f"the certificate {path} has expired: it was valid until {until:%Y-%m-%d}",
                "set the clock of this machine if it is wrong; else `exchange key rotate` (a system:"
                " with --by-department) makes a request, its parent signs that, and `exchange key install` puts the new"
                " one here",
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
        return self.tls_request(self.new_private_key("tls"))

    def tls_request(self, key: PrivateKey) -> bytes:
        """The certificate request of a TLS key, which names this party alone; PKCS #10, DER."""
        uri = x509.UniformResourceIdentifier(str(self.party))
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        builder = builder.add_extension(x509.SubjectAlternativeName([uri]), critical=True)
        return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)

    def adopt_key(self, name: str) -> None:
        """Put keys/NAME-next.pem in the place of keys/NAME.pem, in one step; see `exchange.succession`.

        Raises:
            HomeError: it cannot be done.
        """
        following = self.keys / f"{name}{NEXT}.pem"
        try:
            following.replace(self.keys / f"{name}.pem")
            sync_folder(self.keys)
        except FileNotFoundError:
            # Another program of this home was here first.
            return
        except OSError as error:
            raise HomeError(f"cannot move {following}: {error.strerror}", permission(error, following)) from error

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
            raise HomeError(f"cannot read {path}: {error.strerror}", permission(error, path) or hint) from error

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
        if self.is_made and (self.role in {ROOT, "broker"} or name.startswith("sealing-")):
            return "restore it from this home's backup"
        return "private keys are made with `exchange key new`; a lost signing key, with `exchange key recover`"

    def _described(self, key: str) -> str:
        data = self.read("party.toml", "make a home with `exchange key new`, or choose one with --home")
        try:
            value = tomllib.loads(data.decode("utf-8-sig")).get(key)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise HomeError(f"{self.path / 'party.toml'} cannot be read: {error}") from error
        if not isinstance(value, str):
            raise HomeError(f"{self.path / 'party.toml'}: {key}: a text is expected")
        return value
