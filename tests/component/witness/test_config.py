"""witness.toml and the variables above it: what is wrong is named by its file and line, or by its variable."""

from pathlib import Path

import pytest

from exchange.home import HomeError
from exchange.witness.config import CONFIG, WitnessConfig, WitnessHome

GOOD = 'name = "witness.city.example"\nlisten = "127.0.0.1:8471"\ntrust = ["trust.toml"]\n'


def load(folder: Path, text: str = GOOD, **environment: str) -> WitnessConfig:
    (folder / CONFIG).write_text(text)
    return WitnessHome(folder).config(environment)


def test_the_environment_stands_above_the_file(tmp_path: Path) -> None:
    assert load(tmp_path).listen == "127.0.0.1:8471"
    above = {"EXCHANGE_WITNESS_LISTEN": "0.0.0.0:80", "EXCHANGE_WITNESS_TRUST": "a.toml, b.toml"}
    config = load(tmp_path, **above)
    assert (config.listen, config.trust) == ("0.0.0.0:80", (Path("a.toml"), Path("b.toml")))
    assert config.name == "witness.city.example"


@pytest.mark.parametrize(
    ("text", "environment", "says"),
    [
        (GOOD.replace("8471", "99999"), {}, r"witness\.toml:2: listen: "),
        (f"{GOOD}\nlisen = 1\n", {}, r"witness\.toml:5: lisen: "),
        ("name =\n", {}, r"witness\.toml:1: "),
        ('name = "w"\n', {}, r"witness\.toml: settings: .*no log is witnessed"),
        (GOOD, {"EXCHANGE_WITNESS_LISTEN": "nowhere"}, "^EXCHANGE_WITNESS_LISTEN: "),
        (GOOD, {"EXCHANGE_WITNESS_LISEN": "h:1"}, "^EXCHANGE_WITNESS_LISEN: unknown variable$"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, environment: dict[str, str], says: str) -> None:
    with pytest.raises(HomeError, match=says) as caught:
        load(tmp_path, text, **environment)
    assert caught.value.exit_code == 2
