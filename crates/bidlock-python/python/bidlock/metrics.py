"""Counters of everything that bidlock does in this process, for whoever collects metrics.

For prometheus_client, which bidlock does not depend on::

    from prometheus_client import REGISTRY
    REGISTRY.register(bidlock.metrics.Collector())

None of the labels names a posting: ``marketplace`` is the marketplace, or ``named`` for keys that
have none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from bidlock import _native

__all__ = ["Collector", "Sample", "samples"]

# For each family its second label, and what it tells.
_FAMILIES = {
    "acquires": ("outcome", "Acquires that have ended"),
    "wakes": ("source", "Waiters that looked again"),
    "renewals": ("outcome", "Renewals of leases"),
    "lost": ("reason", "Leases that were lost"),
    "releases": ("outcome", "Releases of leases"),
    "bids": ("outcome", "Bids that have ended, or were not made"),
    "reconciled": ("outcome", "Attempts in doubt that were asked about"),
}
_TIMES = {
    "acquire_seconds": "How long acquires took",
    "held_seconds": "How long leases were held",
}


class Sample(NamedTuple):
    """One counter."""

    name: str
    labels: dict[str, str]
    value: float


def samples() -> list[Sample]:
    """Read all counters, which rise from the start of the process."""
    found: list[Sample] = []
    for metric, marketplace, label, value in _native.metrics():
        labels = {"marketplace": marketplace}
        family = _FAMILIES.get(metric.removesuffix("_total"))
        if family is not None:
            labels[family[0]] = label
        found.append(Sample(f"bidlock_{metric}", labels, value))
    return found


class Collector:
    """A collector for ``prometheus_client``; one for each process is enough."""

    def collect(self) -> Iterator[Any]:
        """Make the metrics of this moment."""
        from prometheus_client.core import CounterMetricFamily, SummaryMetricFamily

        read = samples()
        for family, (second, what) in _FAMILIES.items():
            metric = CounterMetricFamily(
                f"bidlock_{family}", what, labels=["marketplace", second]
            )
            for sample in read:
                if sample.name == f"bidlock_{family}_total":
                    metric.add_metric(list(sample.labels.values()), sample.value)
            yield metric
        for family, what in _TIMES.items():
            times = SummaryMetricFamily(f"bidlock_{family}", what, labels=["marketplace"])
            sums = {s.labels["marketplace"]: s.value for s in read if s.name == f"bidlock_{family}_sum"}
            for sample in read:
                if sample.name == f"bidlock_{family}_count":
                    marketplace = sample.labels["marketplace"]
                    times.add_metric(
                        [marketplace],
                        count_value=int(sample.value),
                        sum_value=sums.get(marketplace, 0.0),
                    )
            yield times

    def describe(self) -> list[Any]:
        """Nothing: whoever registers it need not count first."""
        return []
