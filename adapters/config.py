"""An adapter's configuration, `adapter.toml`: which table of which source holds each dataset.

    [adapter]
    row_limit = 1000
    statement_timeout_ms = 5000

    [sources.housing]
    url = "env:HOUSING_DATABASE_URL"

    [datasets."housing.ownership"]
    source = "housing"
    table = "public.ownerships"
    columns = { id_number = "owner_id_number" }

Above the settings under `[adapter]` stand variables: EXCHANGE_ADAPTER_ROW_LIMIT and so on. A source's URL is out of
the environment where it says `env:VARIABLE`, and out of a file that holds it alone where it says `file:PATH`.

Errors name the file, the line and the key, or the variable, and never what stands there: it may be a password.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from sqlalchemy import exc

from adapters.connectors import ConnectorError
from adapters.connectors.sql_table import SCAN_LIMIT
from adapters.connectors.tables import Description, Table
from exchange.core.names import is_code, is_field
from exchange.core.policy import MAX_AGE
from exchange.metrics.address import check_loopback
from exchange.overrides import OverrideError, overrides, read_secret, variable_of
from exchange.toml_lines import line_of, syntax_error

PREFIX = "EXCHANGE_ADAPTER_"
"""Of the variables that stand above the settings under `[adapter]`."""

_ENVIRONMENT, _FILE = "env:", "file:"
_NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII)
_TABLE = re.compile(r"[^.\0]+(?:\.[^.\0]+)?")

_RowLimit = Annotated[int, Field(ge=1, le=1_000_000)]


class ConfigError(Exception):
    """The configuration cannot be used; the message is `FILE:LINE: KEY: what is wrong`, as far as each is known."""


@dataclass(frozen=True, slots=True)
class _Surroundings:
    """What the meaning of a value depends on besides the file."""

    environment: Mapping[str, str]
    folder: Path


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class AdapterSettings(_Model):
    """What holds for the whole adapter.

    Args:
        home: the party's home, where its keys, mirror and ledger lie; relative to the file, and its folder by default.
        row_limit: the most rows that one answer has.
        statement_timeout_ms: after which a database's statement is given up.
        scan_limit: the most rows that are read for one answer that filters or orders by hashed fields.
        max_directory_age: seconds since a quorum of witnesses cosigned the directory, where trust.toml has one; a
            department may be stricter than the exchange's five minutes, not laxer.
        metrics: a loopback address for /metrics, /health and /ready, such as 127.0.0.1:9744; empty is off.
    """

    home: Annotated[Path, Field(strict=False, validate_default=True)] = Path()
    row_limit: _RowLimit = 1000
    statement_timeout_ms: Annotated[int, Field(ge=1, le=600_000)] = 5000
    scan_limit: _RowLimit = SCAN_LIMIT
    max_directory_age: Annotated[int, Field(ge=1, le=MAX_AGE)] = MAX_AGE
    metrics: str = ""

    @field_validator("metrics", mode="after")
    @classmethod
    def _check_metrics(cls, metrics: str) -> str:
        return check_loopback(metrics)

    @field_validator("home", mode="after")
    @classmethod
    def _resolve(cls, home: Path, info: ValidationInfo) -> Path:
        return _context(info).folder / home


class Source(_Model):
    """A database.

    Args:
        url: `sqlite:///PATH`, relative to the file, or `postgresql://…`; `env:VARIABLE` takes it from the environment,
            `file:PATH` out of a file that holds it alone. Neither `str` nor `repr` shows it.
    """

    url: SecretStr

    @field_validator("url", mode="after")
    @classmethod
    def _resolve(cls, url: SecretStr, info: ValidationInfo) -> SecretStr:
        text = url.get_secret_value()
        if text.startswith(_ENVIRONMENT):
            variable = text.removeprefix(_ENVIRONMENT)
            text = _context(info).environment.get(variable, "")
            if not text:
                raise ValueError(f"the environment variable {variable} is not set")
        elif text.startswith(_FILE):
            text = _secret(_context(info).folder / text.removeprefix(_FILE))
        return SecretStr(_database_url(text, _context(info).folder))


class DatasetTable(_Model):
    """Where one dataset lies.

    Args:
        source: a name under `sources`.
        table: `TABLE` or `SCHEMA.TABLE`, or a view.
        columns: columns by field, for those that are named differently.
        row_limit: in place of the adapter's.
    """

    source: str
    table: str
    columns: dict[str, str] = {}
    row_limit: _RowLimit | None = None

    @field_validator("table", mode="after")
    @classmethod
    def _check_table(cls, table: str) -> str:
        if not _TABLE.fullmatch(table):
            raise ValueError("write TABLE or SCHEMA.TABLE")
        return table

    @field_validator("columns", mode="after")
    @classmethod
    def _check_columns(cls, columns: dict[str, str]) -> dict[str, str]:
        if not all(is_field(field) and column and "\0" not in column for field, column in columns.items()):
            raise ValueError('write FIELD = "COLUMN", a field\'s name being lowercase letters, digits and _')
        return columns


class AdapterConfig(_Model):
    """All of `adapter.toml`."""

    adapter: AdapterSettings
    sources: dict[str, Source]
    datasets: dict[str, DatasetTable]

    def row_limit(self, code: str) -> int:
        """The most rows that one answer about a dataset has."""
        return self.datasets[code].row_limit or self.adapter.row_limit

    def table(self, dataset: Description) -> Table:
        """Joins a published description with this configuration.

        Raises:
            ConfigError: the dataset is not configured, or its columns do not fit its description.
        """
        configured = self.datasets.get(dataset.code)
        if configured is None:
            raise ConfigError(f"datasets: {dataset.code} is not configured")
        try:
            return Table.holding(dataset, configured.table, configured.columns)
        except ConnectorError as error:
            raise ConfigError(f"datasets.{dataset.code}: {error.reason}") from error


def load_config(path: Path, environment: Mapping[str, str] = os.environ) -> AdapterConfig:
    """Reads and checks `adapter.toml`.

    Args:
        path: the file, TOML 1.0.
        environment: where `env:VARIABLE` is looked up, and EXCHANGE_ADAPTER_ROW_LIMIT and so on.

    Raises:
        ConfigError: the file cannot be read, is not TOML, or it or a variable says something wrong.
    """
    text, content = _read(path)
    above = _above(environment)
    try:
        config = AdapterConfig.model_validate(
            _merged({"adapter": {}, "sources": {}, "datasets": {}} | content, above),
            context=_Surroundings(environment, path.parent),
        )
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        message = first["msg"].removeprefix("Value error, ")
        if first["loc"][0] == "adapter" and (name := str(first["loc"][-1])) in above:
            raise ConfigError(f"{variable_of(PREFIX, name)}: {message}") from None
        raise _error(path, text, first["loc"], message) from None
    for code, dataset in config.datasets.items():
        if not is_code(code):
            raise _error(path, text, ("datasets", code), "not a dataset's code: lowercase segments joined by dots")
        if dataset.source not in config.sources:
            raise _error(path, text, ("datasets", code, "source"), "there is no source of this name")
    return config


def configured_codes(path: Path) -> frozenset[str]:
    """The codes of the datasets in an `adapter.toml`, whatever else is wrong with it: no variable need be set.

    Raises:
        ConfigError: the file cannot be read, or is not TOML.
    """
    _, content = _read(path)
    datasets = content.get("datasets")
    return frozenset(datasets) if isinstance(datasets, dict) else frozenset()


def _read(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
        return text, tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_toml_error(path, error)) from None


def _above(environment: Mapping[str, str]) -> dict[str, str]:
    try:
        return overrides(PREFIX, AdapterSettings.model_fields, environment)
    except OverrideError as error:
        raise ConfigError(f"{error}; {error.hint}") from None


def _merged(content: dict[str, Any], above: Mapping[str, str]) -> dict[str, Any]:
    settings = content["adapter"]
    if not above or not isinstance(settings, dict):
        return content
    fields = AdapterSettings.model_fields
    read = {
        name: int(text) if fields[name].annotation is int and _NUMBER.fullmatch(text) else text
        for name, text in above.items()
    }
    return content | {"adapter": settings | read}


def _secret(path: Path) -> str:
    try:
        return read_secret(path)
    except OverrideError as error:
        raise ValueError(str(error)) from None


def _context(info: ValidationInfo) -> _Surroundings:
    return cast("_Surroundings", info.context)


def _database_url(text: str, folder: Path) -> str:
    # Errors of SQLAlchemy quote the URL, and so the password.
    try:
        url = sa.make_url(text)
    except (exc.ArgumentError, ValueError):
        raise ValueError("not a database URL") from None
    if url.drivername in {"postgresql", "postgresql+psycopg"}:
        return text
    if url.drivername in {"sqlite", "sqlite+pysqlite"} and url.database and not url.query:
        return url.set(database=str((folder / url.database).resolve())).render_as_string(hide_password=False)
    raise ValueError("write sqlite:///PATH or postgresql://USER@HOST/DATABASE")


def _toml_error(path: Path, error: tomllib.TOMLDecodeError) -> str:
    line, message = syntax_error(error)
    return f"{path}:{line}: {message}" if line else f"{path}: {message}"


def _error(path: Path, text: str, location: tuple[int | str, ...], message: str) -> ConfigError:
    keys = tuple(str(key) for key in location if key != "[key]")
    line = line_of(text, keys)
    where = f"{path}:{line}" if line else str(path)
    return ConfigError(f"{where}: {'.'.join(keys)}: {message}")
