"""The checks of any home: what lies in it, the way to the brokers, the directory."""

import json
from collections.abc import Sequence

import httpx

from exchange.health.checks import Check, Finding, OnlineCheck, fail, ok, warn
from exchange.health.directory import of_directory
from exchange.health.files import of_files
from exchange.health.network import of_brokers
from exchange.home import Home
from exchange.metrics.gauges import build_version

_MOST = 64 * 1024


def of_party(home: Home) -> list[Check | OnlineCheck]:
    """The checks that every home has.

    Raises:
        HomeError: nobody lives there, or its trust file cannot be read.
    """
    # A home that nobody lives in has nothing to check.
    _ = home.party, home.role
    checks: list[Check | OnlineCheck] = [*of_files(home)]
    if not (home.path / "trust.toml").exists():
        mend = f"exchange join --status --home {home.path}; or exchange key install ADMISSION --home {home.path}"
        text = "none yet: nothing of the exchange can be checked"
        return [*checks, Check("trust file", lambda: [fail("trust file", text, mend)], mend)]
    checks += of_brokers(home)
    return [*checks, *of_directory(home)] if (home.path / "tls.pem").exists() else checks


def running(address: str, start: str) -> Check:
    """Whether the program of this home runs, and is ready.

    Args:
        address: its loopback port, or empty where it has none.
        start: the command that starts it.
    """
    return Check("running", lambda: _running(address, start), start)


def _running(address: str, start: str) -> Sequence[Finding]:
    if not address:
        return [warn("running", "not known: metrics names no port", 'metrics = "127.0.0.1:PORT" in its configuration')]
    try:
        answer = httpx.get(f"http://{address}/ready", timeout=4.0, trust_env=False)
        said = json.loads(answer.content[:_MOST])
        reasons, version = "; ".join(map(str, said["reasons"])), str(said["version"])
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        return [fail("running", f"{address} does not answer: {type(error).__name__}", start)]
    if answer.status_code != httpx.codes.OK:
        return [fail("running", f"not ready: {reasons}", "its log says more; docs/runbook.md")]
    if version != build_version():
        return [warn("running", f"{version} runs, {build_version()} is installed", f"restart it: {start}")]
    return [ok("running", f"{version}, ready")]
