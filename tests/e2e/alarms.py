"""What Prometheus would make of the pages that real programs give: alerts.yml, evaluated by promtool."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.founding import BROKER, REGISTRY
from tests.e2e.processes import ROOT

Figures = Mapping[str, float]
"""The values of one page, by name with labels as they are written; nothing where nobody answered."""

PROMTOOL = shutil.which("promtool")
RULES = ROOT / "deploy" / "prometheus" / "alerts.yml"
JOBS = {BROKER: "exchange-broker", REGISTRY: "exchange-adapter"}
_NAME = re.compile(r"\b(?:up|exchange_[a-z_]+)\b")
_MINUTES = {"m": 1, "h": 60, "d": 24 * 60}
_GROWING = ("_total", "_bucket", "_count", "_sum")
# Steps before the fault; and after its `for` is over, for what is a rate over a quarter of an hour.
_BEFORE, _AFTER = 5, 40


def figures(exposition: str) -> Figures:
    """The values of a page."""
    lines = (line.rpartition(" ") for line in exposition.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines if "_created" not in name}


@cache
def rules() -> Mapping[str, Mapping[str, Any]]:
    """Every alert, by its name."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


Pages = Mapping[str, Figures]
"""The pages of broker and registry, by home."""


def require_firing(folder: Path, alert: str, before: Pages, now: Pages) -> None:
    """That an alert fires where pages were like those before, and then are like those of now for long enough.

    What is counted grows on by as much with every scrape; all else stays.

    Args:
        folder: for promtool's file.
        alert: its name.
        before, now: the pages.
    """
    _evaluate(folder, [alert], (before, now), [{"labels": "{}", "value": 1}])


def require_quiet(folder: Path, alerts: Iterable[str], now: Pages) -> None:
    """That none of these alerts fires where pages stay as they are now."""
    _evaluate(folder, alerts, (now, now), [])


def _evaluate(folder: Path, alerts: Iterable[str], pages: tuple[Pages, Pages], expected: Any) -> None:
    names = sorted(alerts)
    step, steps = _pace(rules()[name].get("for", "0m") for name in names)
    wanted = {figure for name in names for figure in _NAME.findall(rules()[name]["expr"])}
    before, now = pages
    series = [one for home in JOBS for one in _series(home, before[home], now[home], steps) if one[0] in wanted]
    selected = f'ALERTS{{alertstate="firing", alertname=~"{"|".join(names)}"}}'
    case = {
        "interval": f"{step}m",
        "input_series": [{"series": f"{name}{labels}", "values": values} for name, labels, values in series],
        "promql_expr_test": [
            {
                "expr": f"count(last_over_time({selected}[7d])) > bool 0",
                "eval_time": f"{step * (_BEFORE + steps)}m",
                "exp_samples": expected,
            }
        ],
    }
    file = folder / "pages.json"
    file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": f"{step}m", "tests": [case]}))
    done = subprocess.run(
        [str(PROMTOOL), "test", "rules", str(file)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _pace(durations: Iterable[str]) -> tuple[int, int]:
    """Minutes between two scrapes, and how many scrapes a fault lasts that `for` holds back so long."""
    minutes = max(int(duration[:-1]) * _MINUTES[duration[-1]] for duration in durations)
    step = 1 if minutes <= 60 else 10
    return step, minutes // step + _AFTER


def _series(home: str, before: Figures, now: Figures, steps: int) -> Iterator[tuple[str, str, str]]:
    """Name, labels and values of all that a page gives, and of whether it was given."""
    scraped = f'job="{JOBS[home]}", instance="{home}"'
    yield "up", f"{{{scraped}}}", f"{int(bool(before))}+0x{_BEFORE} {int(bool(now))}+0x{steps}"
    for full in {**before, **now}:
        name, _, labels = full.rstrip("}").partition("{")
        first, then = before.get(full), now.get(full)
        growth = then - first if first is not None and then is not None and name.endswith(_GROWING) else 0.0
        old = f"_x{_BEFORE + 1}" if first is None else f"{first!r}+0x{_BEFORE}"
        new = f"_x{steps}" if then is None else f"{then!r}+{growth!r}x{steps}"
        yield name, f"{{{scraped}{', ' if labels else ''}{labels}}}", f"{old} {new}"
