"""Figures that are read when they are asked for: nothing of what is measured knows that it is.

Each process has a registry of its own; nothing is kept in the module that `prometheus_client` shares.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Buckets of every latency."""


@dataclass(frozen=True, slots=True)
class Gauge:
    """A figure's help, and the labels that tell its values apart."""

    help: str
    labels: tuple[str, ...] = ()


COMMON: Mapping[str, Gauge] = {
    "exchange_build_info": Gauge("Always 1: the version that runs, and as what.", ("version", "role")),
    "exchange_expiry_seconds": Gauge("Seconds until what this process shows or signs with expires.", ("what",)),
    "exchange_directory_entries": Gauge("Entries of the directory, as far as this process knows it."),
    "exchange_directory_checkpoint_age_seconds": Gauge(
        "Seconds since witnesses cosigned the directory; without a quorum in trust.toml, since it was last seen."
    ),
    "exchange_disk_free_bytes": Gauge("Bytes that the disk with the home or its database has left."),
    "exchange_disk_bytes_per_day": Gauge("Bytes that were written a day, in the last week."),
}
"""What brokers and adapters both have."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of a figure, with the values of its labels in their order."""

    name: str
    value: float
    labels: tuple[str, ...] = ()


class Gauges(Collector):
    """A table of figures, and what reads them.

    Args:
        table: by name; every one is exposed, also while it has no value.
        read: gives the values of now.
    """

    def __init__(self, table: Mapping[str, Gauge], read: Callable[[], Iterable[Sample]]) -> None:
        self._table = table
        self._read = read

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """The figures, without values."""
        yield from self._families().values()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The figures with their values of now."""
        families = self._families()
        for sample in self._read():
            families[sample.name].add_metric(sample.labels, sample.value)
        yield from families.values()

    def _families(self) -> dict[str, GaugeMetricFamily]:
        return {name: GaugeMetricFamily(name, one.help, labels=one.labels) for name, one in self._table.items()}


def new_registry(table: Mapping[str, Gauge], read: Callable[[], Iterable[Sample]]) -> CollectorRegistry:
    """A registry of its own, with a table of figures."""
    registry = CollectorRegistry()
    registry.register(Gauges(table, read))
    return registry


@cache
def build_version() -> str:
    """The version of the package that runs."""
    return version("department-exchange")
