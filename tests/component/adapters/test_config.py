from pathlib import Path

import pytest

from adapters.config import AdapterConfig, ConfigError, configured_codes, load_config
from exchange.v1.directory_pb2 import FIELD_TYPE_TEXT
from tests.connector_contract import described

GOOD = """
[adapter]
home = "state"
row_limit = 200
statement_timeout_ms = 2500

[sources.housing]
url = "env:HOUSING_URL"

[sources."old files"]
url = "sqlite:///old/homes.db"

[datasets."housing.ownership"]
source = "housing"
table = "registry.ownerships"
columns = { id_number = "owner ID" }
row_limit = 50

[datasets.homes]
source = "old files"
table = "房屋"
"""
ENVIRONMENT = {"HOUSING_URL": "postgresql://reader:s3cret@db.example/housing", "BAD_URL": "mysql://u:s3cret@h/d"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "adapter.toml"


def load(file: Path, text: str) -> AdapterConfig:
    file.write_text(text, encoding="utf-8")
    return load_config(file, ENVIRONMENT)


def test_the_codes_can_be_read_whatever_else_is_wrong(file: Path) -> None:
    """A stop must not need the database's password, nor wait for a mistake elsewhere in the file to be put right."""
    file.write_text(GOOD.replace("row_limit = 200", "row_limit = 'many'"), encoding="utf-8")
    assert configured_codes(file) == {"housing.ownership", "homes"}
    file.write_text("datasets = 3")
    assert configured_codes(file) == frozenset()
    file.write_text("")
    assert configured_codes(file) == frozenset()
    file.write_text("datasets\n")
    with pytest.raises(ConfigError, match=r"adapter\.toml:1: "):
        configured_codes(file)
    file.unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        configured_codes(file)


def test_reads_everything(file: Path) -> None:
    config = load(file, GOOD)
    assert config.adapter.home == file.parent / "state"
    assert config.adapter.statement_timeout_ms == 2500
    assert config.sources["housing"].url.get_secret_value() == ENVIRONMENT["HOUSING_URL"]
    assert config.sources["old files"].url.get_secret_value() == f"sqlite:///{file.parent}/old/homes.db"
    assert config.datasets["housing.ownership"].columns == {"id_number": "owner ID"}
    assert config.row_limit("housing.ownership") == 50
    assert config.row_limit("homes") == 200


def test_fills_in_what_is_left_out(file: Path) -> None:
    config = load(file, "")
    assert config.adapter.home == file.parent
    assert config.adapter.row_limit == 1000
    assert config.adapter.statement_timeout_ms == 5000
    assert config.adapter.max_directory_age == 300
    assert config.sources == {}
    assert config.datasets == {}


def test_joins_a_description_with_its_table(file: Path) -> None:
    config = load(file, GOOD)
    types = dict.fromkeys(("id_number", "address"), FIELD_TYPE_TEXT)
    table = config.table(described("housing.ownership", "id_number", **types))
    assert table.columns == {"id_number": "owner ID", "address": "address"}
    assert table.schema_and_name == ("registry", "ownerships")
    with pytest.raises(ConfigError, match=r"datasets: unknown is not configured"):
        config.table(described("unknown"))
    with pytest.raises(ConfigError, match=r"datasets\.housing\.ownership: .* does not describe the field id_number"):
        config.table(described("housing.ownership", "address", address=FIELD_TYPE_TEXT))


def test_shows_no_password(file: Path) -> None:
    config = load(file, GOOD)
    for shown in (str(config), repr(config), config.model_dump_json(), repr(config.sources["housing"])):
        assert "s3cret" not in shown


SOURCE = '[sources.a]\nurl = "sqlite:///a.db"\n'
WRONG = {
    "[adapter\n": (1, "Expected"),
    "[adapter]\nrow_limit = 1\nrow_limit = 2\n": (3, "Cannot overwrite"),
    "[adapter]\n\nrow_limit = 0\n": (3, "adapter.row_limit: Input should be greater"),
    "[adapter]\nrow_limit = '10'\n": (2, "adapter.row_limit: Input should be a valid integer"),
    "[adapter]\nrow_limit = true\n": (2, "adapter.row_limit: Input should be a valid integer"),
    "adapter.statement_timeout_ms = 0\n": (1, "adapter.statement_timeout_ms: Input should be greater"),
    "[adapter]\nmax_directory_age = 301\n": (2, "adapter.max_directory_age: Input should be less than or equal"),
    "\n[adapter]\nrow_limits = 10\n": (3, "adapter.row_limits: Extra inputs are not permitted"),
    "\n[adapters]\n": (2, "adapters: Extra inputs are not permitted"),
    "adapter = 5\n": (1, "adapter: "),
    "[sources.a]\n": (1, "sources.a.url: Field required"),
    "[sources.a]\nurl = 's3cret'\n": (2, "sources.a.url: not a database URL"),
    "[sources.a]\nurl = 's3cret://'\n": (2, "sources.a.url: write sqlite:///PATH or postgresql://"),
    "[sources.a]\nurl = 'postgresql://h:s3cret/d'\n": (2, "sources.a.url: not a database URL"),
    "[sources.a]\nurl = 'env:BAD_URL'\n": (2, "sources.a.url: write sqlite:///PATH or postgresql://"),
    "[sources.a]\nurl = 'env:NOT_SET'\n": (2, "sources.a.url: the environment variable NOT_SET is not set"),
    "[sources.a]\nurl = 'sqlite://'\n": (2, "sources.a.url: write sqlite:///PATH"),
    "[sources.a]\nurl = 'sqlite:///a?mode=rwc'\n": (2, "sources.a.url: write sqlite:///PATH"),
    "[sources]\na = { url = 'mysql://u:s3cret@h/d' }\n": (2, "sources.a.url: write sqlite:///PATH"),
    "[sources.a]\nurl = 'sqlite:///a.db'\npassword = 's3cret'\n": (3, "sources.a.password: Extra inputs"),
    "[datasets.homes]\nsource = 'a'\ntable = 't'\n": (2, "datasets.homes.source: there is no source of this name"),
    SOURCE + "[datasets.Homes]\nsource = 'a'\ntable = 't'\n": (3, "datasets.Homes: not a dataset's code"),
    SOURCE + "[datasets.'a.b']\nsource = 'a'\ntable = 'x.y.z'\n": (5, "datasets.a.b.table: write TABLE or SCHEMA"),
    SOURCE + "[datasets.homes]\nsource = 'a'\ntable = ''\n": (5, "datasets.homes.table: write TABLE or SCHEMA"),
    SOURCE + "[datasets.homes]\nsource = 'a'\ntable = 't'\ncolumns = { X = 'x' }\n": (6, "columns: write FIELD"),
    SOURCE + "[datasets.homes]\nsource = 'a'\ntable = 't'\ncolumns = { x = '' }\n": (6, "columns: write FIELD"),
    SOURCE + "[datasets.homes]\nsource = 'a'\ntable = 't'\ncolumns = { x = 5 }\n": (6, "columns.x: Input should be"),
    SOURCE + "[datasets.homes]\nsource = 'a'\ntable = 't'\n[datasets.homes.columns]\nx = 5\n": (7, "columns.x: Input"),
}


@pytest.mark.parametrize("text", WRONG)
def test_errors_name_file_line_and_key_and_no_value(file: Path, text: str) -> None:
    line, message = WRONG[text]
    with pytest.raises(ConfigError) as caught:
        load(file, text)
    assert str(caught.value).startswith(f"{file}:{line}: ")
    assert message in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_a_file_that_cannot_be_read_is_said(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"adapter\.toml: cannot be read: No such file or directory"):
        load_config(file)
    file.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"adapter\.toml: is not UTF-8"):
        load_config(file)


def test_figures_are_for_this_machine_alone(file: Path) -> None:
    assert load(file, '[adapter]\nmetrics = "127.0.0.1:9744"\n').adapter.metrics == "127.0.0.1:9744"
    assert load(file, "[adapter]\n").adapter.metrics == ""
    with pytest.raises(ConfigError, match=r"adapter\.toml:2: adapter\.metrics: write 127\.0\.0\.1:PORT"):
        load(file, '[adapter]\nmetrics = "0.0.0.0:9744"\n')


def test_the_environment_stands_above_the_file(file: Path) -> None:
    file.write_text(GOOD, encoding="utf-8")
    above = {"EXCHANGE_ADAPTER_ROW_LIMIT": "300", "EXCHANGE_ADAPTER_HOME": "/var/lib/registry"}
    config = load_config(file, ENVIRONMENT | above)
    assert (config.adapter.row_limit, config.adapter.statement_timeout_ms) == (300, 2500)
    assert config.adapter.home == Path("/var/lib/registry")
    assert load_config(file, ENVIRONMENT | {"EXCHANGE_ADAPTER_HOME": "7"}).adapter.home == file.parent / "7"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("EXCHANGE_ADAPTER_ROW_LIMIT", "0", "^EXCHANGE_ADAPTER_ROW_LIMIT: "),
        ("EXCHANGE_ADAPTER_ROW_LIMIT", "many", "^EXCHANGE_ADAPTER_ROW_LIMIT: "),
        ("EXCHANGE_ADAPTER_ROW_LIMIT", "", "^EXCHANGE_ADAPTER_ROW_LIMIT: "),
        ("EXCHANGE_ADAPTER_ROW_LIMITS", "1", "unknown variable; did you mean EXCHANGE_ADAPTER_ROW_LIMIT"),
    ],
)
def test_a_wrong_variable_is_named(file: Path, name: str, value: str, says: str) -> None:
    file.write_text(GOOD, encoding="utf-8")
    with pytest.raises(ConfigError, match=says):
        load_config(file, ENVIRONMENT | {name: value})


def test_a_source_may_be_a_secret_file(file: Path) -> None:
    secret = file.parent / "housing-url"
    secret.write_text(ENVIRONMENT["HOUSING_URL"] + "\n")
    secret.chmod(0o400)
    text = GOOD.replace("env:HOUSING_URL", "file:housing-url")
    assert load(file, text).sources["housing"].url.get_secret_value() == ENVIRONMENT["HOUSING_URL"]
    secret.chmod(0o644)
    with pytest.raises(ConfigError, match=r"adapter\.toml:8: sources\.housing\.url: .*can be read by everybody"):
        load(file, text)
    secret.unlink()
    with pytest.raises(ConfigError, match=r"adapter\.toml:8: sources\.housing\.url: cannot read"):
        load(file, text)
