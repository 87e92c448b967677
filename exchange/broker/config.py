"""The broker's configuration file, broker.toml."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from exchange.home import HomeError


class BrokerConfig(BaseModel):
    """What an operator may set; paths are relative to the broker's home."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    listen: str = Field(pattern=r"^[^\s:]+:\d{1,5}$|^\[[0-9a-f:]+\]:\d{1,5}$")
    hosts: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9.:*-]+$")], ...] = ("localhost", "127.0.0.1")
    database: Path = Path("exchange.db")
    anchor: Path = Path("anchor")
    requests_per_second: float = Field(default=2000, gt=0)
    burst: float = Field(default=4000, ge=1)
    drain_seconds: float = Field(default=10, ge=0)


def load_config(home: Path) -> BrokerConfig:
    """Read broker.toml.

    Raises:
        HomeError: it is missing or malformed; the text names file and key.
    """
    path = home / "broker.toml"
    try:
        return BrokerConfig.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise HomeError(
            f"cannot read {path}: {error.strerror}", "a broker's home is made with `exchange init`"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise HomeError(f"{path}: {error}") from error
    except ValidationError as error:
        raise HomeError(f"{path}: {_first(error)}") from error


def new_config(listen: str, hosts: Sequence[str]) -> BrokerConfig:
    """The configuration of a new broker, every other setting as it is by default.

    Raises:
        HomeError: the address or a host is not in its form.
    """
    try:
        return BrokerConfig(listen=listen, hosts=tuple(hosts))
    except ValidationError as error:
        raise HomeError(_first(error)) from error


def encode_config(config: BrokerConfig) -> str:
    """The text of a new broker.toml, with every setting shown."""
    hosts = ", ".join(f'"{host}"' for host in config.hosts)
    return (
        "# The broker's settings; paths are relative to this folder.\n"
        f'listen = "{config.listen}"\n'
        "# Names and addresses that the TLS certificate is good for.\n"
        f"hosts = [{hosts}]\n"
        f'database = "{config.database}"\n'
        f'anchor = "{config.anchor}"\n'
        "# What one party may ask.\n"
        f"requests_per_second = {config.requests_per_second:g}\n"
        f"burst = {config.burst:g}\n"
        "# How long a stopping broker waits for what is in flight.\n"
        f"drain_seconds = {config.drain_seconds:g}\n"
    )


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
