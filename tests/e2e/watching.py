"""Reads the loopback ports of a city's programs, as Prometheus and a service supervisor do."""

import json
import re
import urllib.error
import urllib.request
from typing import Any

from tests.e2e.city import City, free_port
from tests.e2e.founding import BROKER, REGISTRY

_NAME = re.compile(r"^# TYPE (\w+) ", re.MULTILINE)


def watch(city: City) -> dict[str, str]:
    """Give broker and registry a port for their figures, each by its home's name; before they start."""
    addresses = {name: f"127.0.0.1:{free_port()}" for name in (BROKER, REGISTRY)}
    broker, adapter = city.path / BROKER / "broker.toml", city.path / REGISTRY / "adapter.toml"
    lines = [line for line in broker.read_text().splitlines() if not line.startswith("metrics")]
    broker.write_text("\n".join([*lines, f'metrics = "{addresses[BROKER]}"', ""]))
    text = adapter.read_text()
    setting = f'[adapter]\nmetrics = "{addresses[REGISTRY]}"'
    adapter.write_text(text.replace("[adapter]", setting, 1) if "[adapter]" in text else f"{setting}\n\n{text}")
    return addresses


def fetch(address: str, path: str) -> tuple[int, str]:
    """Status and body of a page."""
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def ready(address: str) -> tuple[int, Any]:
    """What `/ready` says."""
    status, body = fetch(address, "/ready")
    return status, json.loads(body)


def names(exposition: str) -> set[str]:
    """The figures that an exposition has, those of histograms by what they end with, too."""
    found = set(_NAME.findall(exposition))
    return found | {f"{name}{end}" for name in found for end in ("_bucket", "_sum", "_count")}


def figure(exposition: str, name: str) -> float:
    """One value, by its name with labels as they are written."""
    [line] = [line for line in exposition.splitlines() if line.rpartition(" ")[0] == name]
    return float(line.rpartition(" ")[2])
