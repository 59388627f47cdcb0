"""How the series are named and kept."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

REQUEST_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250)
STEP_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)


class Series:
    """Makes the series of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)

    def counter(self, name: str, what: str, *labels: str) -> Counter:
        return Counter(f"treewright_{name}", what, labels, registry=self.registry)

    def gauge(self, name: str, what: str) -> Gauge:
        return Gauge(f"treewright_{name}", what, registry=self.registry)

    def histogram(self, name: str, what: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(f"treewright_{name}", what, buckets=buckets, registry=self.registry)

    def seconds(self, name: str, what: str, buckets: Sequence[float] = REQUEST_SECONDS) -> Histogram:
        return self.histogram(name, f"{what}, in seconds", buckets)

    def read_counters(self, sums: Mapping[str, "Sum"]) -> None:
        """Counters of what is summed elsewhere, by their names."""
        self.registry.register(SumsCollector(sums))


class Sum(NamedTuple):
    what: str
    read: Callable[[], float]


class SumsCollector(Collector):
    """Reads the sums whenever Prometheus asks."""

    def __init__(self, sums: Mapping[str, Sum]):
        self._sums = sums

    def collect(self) -> Iterator[Metric]:
        for name, (what, read) in self._sums.items():
            yield CounterMetricFamily(f"treewright_{name}", what, read())
