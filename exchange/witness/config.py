"""A witness's home: its key, its memory, and witness.toml, which says where it listens and which logs it witnesses.

Above the settings of witness.toml stand variables: EXCHANGE_WITNESS_LISTEN and so on.
"""

import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from exchange.core.cosignature import Cosigner
from exchange.core.errors import CoreError
from exchange.core.note import Verifier
from exchange.core.policy import parse_policy
from exchange.core.trust import parse_trust
from exchange.home import Home, HomeError
from exchange.overrides import OverrideError, overrides, variable_of
from exchange.toml_lines import line_of, syntax_error

PREFIX = "EXCHANGE_WITNESS_"
"""Of the variables that stand above witness.toml."""

CONFIG, KEY, MEMORY = "witness.toml", "witness", "witness.db"
LISTEN = "127.0.0.1:8471"

_USAGE = 2


def _checked_port(listen: str) -> str:
    if int(listen.rpartition(":")[2]) >= 1 << 16:
        raise ValueError("a port is a number up to 65535, and 0 is any that is free")
    return listen


class WitnessConfig(BaseModel):
    """What a witness's operator may set; paths are relative to the witness's home."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    listen: Annotated[
        str, Field(pattern=r"^[^\s:]+:[0-9]{1,5}$|^\[[0-9a-f:]+\]:[0-9]{1,5}$"), AfterValidator(_checked_port)
    ] = LISTEN
    trust: tuple[Path, ...] = ()
    logs: str = ""
    tls_certificate: Path | None = None
    tls_key: Path | None = None

    @model_validator(mode="after")
    def _whole(self) -> "WitnessConfig":
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together")
        if not self.trust and not self.logs:
            raise ValueError("no log is witnessed: name a trust file under trust, or log lines under logs")
        return self


@dataclass(frozen=True, slots=True)
class WitnessHome:
    """A witness's folder; an auditor's home may be one too.

    witness.toml      its settings
    witness.db        what it has cosigned
    keys/witness.pem  its key, mode 0600
    """

    path: Path

    @classmethod
    def create(cls, path: Path, config: WitnessConfig) -> "WitnessHome":
        """Make a witness's key and settings.

        Raises:
            HomeError: there is one already, a log's key cannot be read, or the folder cannot be written.
        """
        home = Home(path)
        if (path / CONFIG).exists():
            raise HomeError(f"{path} is the home of a witness already", "choose another folder with --home", _USAGE)
        made = cls(path)
        made.logs(config)
        cosigner = _cosigner(config.name, Ed25519PrivateKey.generate())
        try:
            home.keys.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise HomeError(f"cannot make {path}: {error.strerror}") from error
        home.new_private_key(KEY, cosigner.private_key)
        home.write(CONFIG, _encoded(config).encode())
        return made

    def config(self, environment: Mapping[str, str] = os.environ) -> WitnessConfig:
        """Read witness.toml, and what the environment sets in place of it.

        Args:
            environment: EXCHANGE_WITNESS_LISTEN and so on.

        Raises:
            HomeError: something is missing or malformed; the text names file, line and setting, or the variable.
        """
        path = self.path / CONFIG
        data = Home(self.path).read(CONFIG, "a witness's home is made with `exchange-audit witness new`")
        try:
            text = data.decode("utf-8-sig")
            values = tomllib.loads(text)
        except UnicodeDecodeError:
            raise HomeError(f"{path}: is not UTF-8", "", _USAGE) from None
        except tomllib.TOMLDecodeError as error:
            line, message = syntax_error(error)
            raise HomeError(f"{path}:{line}: {message}" if line else f"{path}: {message}", "", _USAGE) from None
        try:
            above = overrides(PREFIX, WitnessConfig.model_fields, environment)
        except OverrideError as error:
            raise HomeError(str(error), error.hint, _USAGE) from None
        try:
            return WitnessConfig.model_validate(values | above | _split_trust(above))
        except ValidationError as error:
            raise HomeError(_located(path, text, above, error), "", _USAGE) from None

    def cosigner(self, name: str) -> Cosigner:
        """The witness's key, under its name.

        Raises:
            HomeError: it is missing, or of another kind.
        """
        key = Home(self.path).private_key(KEY)
        if not isinstance(key, Ed25519PrivateKey):
            raise HomeError(f"the witness's key in {self.path / 'keys'} is of another kind")
        return _cosigner(name, key)

    def logs(self, config: WitnessConfig) -> dict[str, Verifier]:
        """The logs that are witnessed, by their origin.

        Raises:
            HomeError: a file or line cannot be read, or two keys are of one log.
        """
        found: dict[str, Verifier] = {}
        for verifier in (*self._trusted(config.trust), *self._listed(config.logs)):
            if found.setdefault(verifier.name, verifier) != verifier:
                raise HomeError(f"two keys are given for the log {verifier.name}", "", _USAGE)
        return found

    def _trusted(self, files: Sequence[Path]) -> Iterable[Verifier]:
        for file in files:
            path = self.path / file
            try:
                trust = parse_trust(path.read_text(encoding="utf-8-sig"))
            except OSError as error:
                raise HomeError(f"cannot read the trust file {path}: {error.strerror}") from error
            except (CoreError, UnicodeDecodeError) as error:
                raise HomeError(f"{path}: {error}") from error
            yield from (trust.directory_log, trust.access_log)

    def _listed(self, lines: str) -> Iterable[Verifier]:
        if not lines:
            return ()
        try:
            policy = parse_policy(f"{lines.rstrip()}\nquorum none\n")
        except CoreError as error:
            raise HomeError(
                f"{self.path / CONFIG}: logs: {error}", "each line is `log VERIFIER-KEY`", _USAGE
            ) from error
        return tuple(log.verifier for log in policy.logs)


def new_config(name: str, listen: str, trust: Sequence[Path], logs: str = "") -> WitnessConfig:
    """The settings of a new witness.

    Raises:
        HomeError: one is not in its form.
    """
    try:
        return WitnessConfig(name=name, listen=listen, trust=tuple(trust), logs=logs)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise HomeError(f"{where or 'settings'}: {first['msg']}", "", _USAGE) from error


def _split_trust(above: Mapping[str, str]) -> dict[str, object]:
    """The one setting that is a list: in a variable its parts are separated by commas."""
    return {"trust": [part.strip() for part in above["trust"].split(",")]} if "trust" in above else {}


def _located(path: Path, text: str, above: Mapping[str, str], error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    keys = tuple(str(part) for part in first["loc"])
    if keys and keys[0] in above:
        return f"{variable_of(PREFIX, keys[0])}: {first['msg']}"
    line = line_of(text, keys)
    place = f"{path}:{line}" if line else str(path)
    return f"{place}: {'.'.join(keys) or 'settings'}: {first['msg']}"


def _cosigner(name: str, key: Ed25519PrivateKey) -> Cosigner:
    try:
        return Cosigner(name, key)
    except CoreError as error:
        hint = "a witness's name is a URL without its scheme, as witness.audit.city.example"
        raise HomeError(f"name: {error}", hint, _USAGE) from error


def _encoded(config: WitnessConfig) -> str:
    for text in (config.name, *(str(path) for path in config.trust)):
        if not text.isprintable() or any(character in text for character in "'\"\\"):
            raise HomeError(f"{text!r} cannot be written into {CONFIG}", "", _USAGE)
    if "'''" in config.logs:
        raise HomeError(f"a log's name with three apostrophes cannot be written into {CONFIG}", "", _USAGE)
    trust = ", ".join(f'"{path}"' for path in config.trust)
    return (
        "# A witness's settings; paths are relative to this folder.\n"
        f'name = "{config.name}"\n'
        "# Behind the department's own proxy, or with tls_certificate and tls_key (PEM files) here.\n"
        f'listen = "{config.listen}"\n'
        "# Trust files of the exchanges whose two logs are witnessed.\n"
        f"trust = [{trust}]\n"
        "# Logs of others, as lines `log VERIFIER-KEY` (C2SP tlog-policy).\n"
        f"logs = '''\n{config.logs}'''\n"
    )
