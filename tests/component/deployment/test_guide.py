"""docs/operator.md on configuration, upgrades and running: commands, variables and files are those that there are."""

import re
import shlex

from exchange.overrides import variable_of
from exchange.witness.config import PREFIX as WITNESS_PREFIX
from exchange.witness.config import WitnessConfig
from tests.component.deployment.reading import (
    ADAPTER_PREFIX,
    BROKER_PREFIX,
    DEPLOY,
    ROOT,
    AdapterSettings,
    BrokerConfig,
    is_accepted,
)

SECTIONS = ("Configuration", "Upgrades", "Running it")
WHOLE = (ROOT / "docs" / "operator.md").read_text().replace("\\\n", " ")
TEXT = "".join(part for part in WHOLE.split("\n## ") if part.partition("\n")[0] in SECTIONS)


def test_its_commands_are_the_programs_own() -> None:
    commands = {code for code in re.findall(r"`(exchange(?:-adapter|-audit)? [^`…]+)`", TEXT) if "…" not in code}
    founded = re.findall(r"^    docker compose run .* broker (init .*)$", TEXT, re.MULTILINE)
    assert founded
    assert len(commands) > 5
    refused = [
        line for line in (*commands, *(f"exchange {line}" for line in founded)) if not is_accepted(shlex.split(line))
    ]
    assert refused == []


def test_its_variables_are_settings() -> None:
    known = {
        variable_of(prefix, name)
        for prefix, kind in (
            (BROKER_PREFIX, BrokerConfig),
            (ADAPTER_PREFIX, AdapterSettings),
            (WITNESS_PREFIX, WitnessConfig),
        )
        for name in kind.model_fields
    }
    named = set(re.findall(r"EXCHANGE_(?:BROKER|ADAPTER|WITNESS)_[A-Z_]+", TEXT))
    assert named
    assert named <= known


def test_its_files_are_there() -> None:
    named = set(re.findall(r"deploy/([\w./-]+[\w])", TEXT))
    assert named
    assert [name for name in named if not (DEPLOY / name).exists()] == []
