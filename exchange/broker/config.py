"""The broker's configuration: broker.toml, and above it the variables EXCHANGE_BROKER_….

Errors name the file, the line and the setting, or the variable, and never what stands there: it may be a password.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from exchange.home import HomeError
from exchange.metrics.address import check_loopback
from exchange.overrides import OverrideError, overrides, read_secret, variable_of
from exchange.store.ports import StoreOpenError
from exchange.store.postgres_url import has_password
from exchange.toml_lines import line_of, syntax_error

PREFIX: Final = "EXCHANGE_BROKER_"
"""Of the variables that stand above broker.toml."""

_USAGE = 2
_EVERYWHERE = frozenset({"0.0.0.0", "[::]", "*"})  # noqa: S104 - listened on, but not dialled
# In a variable their parts are separated by commas.
_LISTS = frozenset({"hosts"})
# As RFC 3986 section 2 has it; none of them needs another spelling in TOML.
_PLAIN = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+", re.ASCII)


class ConfigError(HomeError):
    """A setting says something that it cannot say: whoever wrote it has to mend it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint, _USAGE)


def _checked_port(listen: str) -> str:
    if not 0 < int(listen.rpartition(":")[2]) < 1 << 16:
        raise ValueError("a port is a number from 1 to 65535")
    return listen


def _checked_join(listen: str) -> str:
    return _checked_port(listen) if listen else ""


def _checked_database(name: str) -> str:
    if "://" not in name:
        return name
    try:
        has_password(name)
    except StoreOpenError as error:
        raise ValueError(str(error)) from None
    if not _PLAIN.fullmatch(name):
        raise ValueError("characters that a URL cannot hold are written as %XX")
    return name


class BrokerConfig(BaseModel):
    """What an operator may set; paths are relative to the broker's home.

    `database` is what `database_file` holds, where one is named.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    listen: Annotated[
        str, Field(pattern=r"^[^\s:]+:[0-9]{1,5}$|^\[[0-9a-f:]+\]:[0-9]{1,5}$"), AfterValidator(_checked_port)
    ]
    hosts: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9.:*-]+$")], ...] = ("localhost", "127.0.0.1")
    # It may hold a password: nothing prints it.
    database: Annotated[str, AfterValidator(_checked_database), Field(repr=False)] = "exchange.db"
    database_file: Path | None = None
    anchor: Path = Path("anchor")
    requests_per_second: float = Field(default=2000, gt=0)
    burst: float = Field(default=4000, ge=1)
    drain_seconds: float = Field(default=10, ge=0)
    retention_days: int = Field(default=3 * 365, ge=1)
    missing_quorum: Literal["alarm", "stop"] = "alarm"
    missing_quorum_seconds: float = Field(default=60, gt=0)
    witness_round_seconds: float = Field(default=3, gt=0)
    witness_heartbeat_seconds: float = Field(default=60, gt=0, le=120)
    witness_authorities: str = ""
    metrics: Annotated[str, AfterValidator(check_loopback)] = ""
    # Where those who were invited hand in their keys, without a certificate; empty opens no such port.
    join_listen: Annotated[
        str, Field(pattern=r"^$|^[^\s:]+:[0-9]{1,5}$|^\[[0-9a-f:]+\]:[0-9]{1,5}$"), AfterValidator(_checked_join)
    ] = ""
    # What invites say, where that is another address than the one listened on.
    join_address: Annotated[
        str, Field(pattern=r"^$|^[^\s:]+:[0-9]{1,5}$|^\[[0-9a-f:]+\]:[0-9]{1,5}$"), AfterValidator(_checked_join)
    ] = ""
    joins_per_second: float = Field(default=2, gt=0)
    joins_burst: float = Field(default=20, ge=1)

    @property
    def is_shared(self) -> bool:
        """Whether the logs are in a PostgreSQL database, where other brokers may stand beside this one."""
        return "://" in self.database

    @property
    def takes_invites_at(self) -> str:
        """Where newcomers reach the broker; empty where they cannot: no port for it, or one that nobody can dial."""
        address = (self.join_address or self.join_listen) if self.join_listen else ""
        return "" if address.rpartition(":")[0] in _EVERYWHERE else address

    def store_name(self, home: Path) -> Path | str:
        """What `SqlLogStore` opens.

        Args:
            home: the broker's folder.
        """
        return self.database if self.is_shared else home / self.database


def load_config(home: Path, environment: Mapping[str, str] = os.environ) -> BrokerConfig:
    """Read broker.toml, and what the environment sets in place of it.

    Args:
        home: the broker's folder.
        environment: EXCHANGE_BROKER_LISTEN and so on.

    Raises:
        HomeError: the file cannot be read.
        ConfigError: something is malformed; the text names file, line and setting, or the variable.
    """
    path = home / "broker.toml"
    text, values = _read(path)
    _check_names(path, text, values)
    try:
        above = overrides(PREFIX, BrokerConfig.model_fields, environment)
        database, source = _database(home, values, above)
    except OverrideError as error:
        raise ConfigError(str(error), error.hint) from None
    try:
        config = BrokerConfig.model_validate(values | _split(above) | database)
    except ValidationError as error:
        raise ConfigError(_located(path, text, above, source, error)) from None
    if not above.keys() & {"database", "database_file"} and config.database_file is None:
        _check_private(path, config)
    return config


def _read(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        return text, tomllib.loads(text)
    except OSError as error:
        raise HomeError(
            f"cannot read {path}: {error.strerror}", "a broker's home is made with `exchange init`"
        ) from error
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        line, message = syntax_error(error)
        raise ConfigError(f"{path}:{line}: {message}" if line else f"{path}: {message}") from None


def _split(above: Mapping[str, str]) -> dict[str, object]:
    """Lists as lists; numbers are read by their settings."""
    return {
        name: tuple(part.strip() for part in text.split(",")) if name in _LISTS else text
        for name, text in above.items()
    }


def _database(home: Path, values: Mapping[str, Any], above: Mapping[str, str]) -> tuple[dict[str, object], str]:
    """What the database is, and for errors the name of what says so where it is neither file nor variable.

    The environment stands above the file also where one of the two names a file that holds it.
    """
    said = above if above.keys() & {"database", "database_file"} else values
    if "database" in said and said.get("database_file"):
        names = [variable_of(PREFIX, name) if said is above else name for name in ("database", "database_file")]
        raise OverrideError(f"{names[0]} and {names[1]}: one of the two says where the logs are", "take one away")
    named = said.get("database_file")
    if not named:
        # Also where broker.toml names a file, and a variable says the database itself.
        return {"database_file": None}, ""
    if not isinstance(named, str):
        return {}, ""
    path = (home / named).absolute()
    return {"database": read_secret(path), "database_file": path}, str(path)


def new_config(listen: str, hosts: Sequence[str], database: str = "exchange.db", join_listen: str = "") -> BrokerConfig:
    """The configuration of a new broker, every other setting as it is by default.

    Raises:
        ConfigError: the address, a host or the database is not in its form.
    """
    try:
        # Said twice, so that a broker which listens on every address of its machine still tells the one to dial.
        return BrokerConfig(
            listen=listen, hosts=tuple(hosts), database=database, join_listen=join_listen, join_address=join_listen
        )
    except ValidationError as error:
        raise ConfigError(_first(error)) from error


def encode_config(config: BrokerConfig) -> str:
    """The text of a new broker.toml, with every setting shown."""
    hosts = ", ".join(f'"{host}"' for host in config.hosts)
    return (
        "# The broker's settings; paths are relative to this folder.\n"
        f'listen = "{config.listen}"\n'
        "# Names and addresses that the TLS certificate is good for.\n"
        f"hosts = [{hosts}]\n"
        "# A SQLite file, or a PostgreSQL database that several brokers share: postgresql://USER@HOST/DATABASE.\n"
        "# Its password is better kept in ~/.pgpass; in here, this file must be its owner's alone to read.\n"
        "# Or database_file, a file that holds that one line, as container engines mount secrets.\n"
        f"{_encoded_database(config)}\n"
        f'anchor = "{config.anchor}"\n'
        "# What one party may ask.\n"
        f"requests_per_second = {config.requests_per_second:g}\n"
        f"burst = {config.burst:g}\n"
        "# How long a stopping broker waits for what is in flight.\n"
        f"drain_seconds = {config.drain_seconds:g}\n"
        "# Bodies of the access log that are younger are never erased, whoever signs for it.\n"
        f"retention_days = {config.retention_days}\n"
        "# With a witness_policy in trust.toml: once too few witnesses have cosigned for so many seconds,\n"
        '# "alarm" says so in the log, "stop" also releases nothing until they do again.\n'
        f'missing_quorum = "{config.missing_quorum}"\n'
        f"missing_quorum_seconds = {config.missing_quorum_seconds:g}\n"
        "# How often witnesses are asked, and how often for the same checkpoint again, so that its time is fresh.\n"
        f"witness_round_seconds = {config.witness_round_seconds:g}\n"
        f"witness_heartbeat_seconds = {config.witness_heartbeat_seconds:g}\n"
        "# Who certifies the witnesses whose address is https: a PEM file; without one, the public authorities.\n"
        f'witness_authorities = "{config.witness_authorities}"\n'
        "# Where Prometheus finds /metrics, and /health and /ready are: 127.0.0.1:9743, say; empty is off.\n"
        f'metrics = "{config.metrics}"\n'
        "# Where those who were invited hand in their keys, and show no certificate: every other party needs one.\n"
        "# Empty, no such port is open, and nobody can be invited. The rate is that of one network address.\n"
        f'join_listen = "{config.join_listen}"\n'
        "# The address in invites, where it is another one than that.\n"
        f'join_address = "{config.join_address}"\n'
        f"joins_per_second = {config.joins_per_second:g}\n"
        f"joins_burst = {config.joins_burst:g}\n"
    )


def _check_private(path: Path, config: BrokerConfig) -> None:
    if config.is_shared and has_password(config.database) and path.stat().st_mode & 0o077:
        hint = f"chmod 600 {path}, or keep the password in ~/.pgpass"
        raise ConfigError(f"{path} holds the database's password, and can be read by others", hint)


def _encoded_database(config: BrokerConfig) -> str:
    # What a file keeps secret is not written anywhere else.
    if config.database_file is not None:
        return f'database_file = "{config.database_file}"'
    return f'database = "{config.database}"'


def _check_names(path: Path, text: str, values: dict[str, object]) -> None:
    known = list(BrokerConfig.model_fields)
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            raise ConfigError(f"{_place(path, text, (name,))}: {name}: unknown setting", hint)


def _located(path: Path, text: str, above: Mapping[str, str], source: str, error: ValidationError) -> str:
    """The first thing that is wrong, with where it was said."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    keys, message = tuple(str(key) for key in first["loc"]), first["msg"].removeprefix("Value error, ")
    if keys[0] == "database" and source:
        return f"{source}: {message}"
    if keys[0] in above:
        return f"{variable_of(PREFIX, keys[0])}: {message}"
    return f"{_place(path, text, keys)}: {'.'.join(keys)}: {message}"


def _place(path: Path, text: str, keys: Sequence[str]) -> str:
    line = line_of(text, keys)
    return f"{path}:{line}" if line else str(path)


def _first(error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
