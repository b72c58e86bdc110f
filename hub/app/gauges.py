"""Gauges that are read from the ledger now and then: what waits, where, for how long."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from hub.store.group import CommitTimes


class _Ledger:
    """A collector over counts that the sweep took."""

    def __init__(self, counts: Mapping[str, Any], times: CommitTimes) -> None:
        self._counts, self._times = counts, times

    def collect(self) -> Iterator[Metric]:
        messages = GaugeMetricFamily("vaguemestre_messages_unfinished", "Messages that are not DONE, by state", labels=["state"])
        for state, n in self._counts.get("messages", {}).items():
            messages.add_metric([state], n)
        yield messages
        depth = GaugeMetricFamily("vaguemestre_deliveries", "Deliveries that are not DELIVERED", labels=["destination", "state"])
        waiting: Counter[tuple[str, str]] = Counter()
        for row in self._counts.get("deliveries", ()):
            waiting[_kind(row["destination"]), row["state"]] += row["count"]
        for labels, n in waiting.items():
            depth.add_metric(labels, n)
        yield depth
        ages: dict[str, float] = {}
        counts: Counter[str] = Counter()
        for row in self._counts.get("lanes", ()):
            kind = _kind(row["destination"])
            counts[kind] += row["count"]
            ages[kind] = max(ages.get(kind, 0.0), time.time() - datetime.fromisoformat(row["oldest_at"]).timestamp())
        age = GaugeMetricFamily("vaguemestre_lane_age_seconds", "Age of the oldest open delivery", labels=["destination"])
        lanes = GaugeMetricFamily("vaguemestre_lanes", "Lanes with open deliveries", labels=["destination"])
        for kind, n in counts.items():
            age.add_metric([kind], ages[kind])
            lanes.add_metric([kind], n)
        yield age
        yield lanes
        members = GaugeMetricFamily("vaguemestre_members", "Processes that share the store, by role", labels=["role"])
        for role, n in self._counts.get("members", {}).items():
            members.add_metric([role], n)
        yield members
        pruned = CounterMetricFamily("vaguemestre_messages_pruned", "Messages that retention removed", labels=["source", "state"])
        size = CounterMetricFamily("vaguemestre_message_bytes_pruned", "Their bytes", labels=["source", "state"])
        for source, state, n, total in self._counts.get("pruned", ()):
            pruned.add_metric([source, state], n)
            size.add_metric([source, state], total)
        yield pruned
        yield size
        yield CounterMetricFamily("vaguemestre_commits", "Commits of the writer", value=self._times.groups)
        yield CounterMetricFamily("vaguemestre_commit_seconds", "Time inside COMMIT", value=self._times.seconds)
        yield CounterMetricFamily("vaguemestre_committed_items", "Pieces of work committed", value=self._times.items)
        yield GaugeMetricFamily("vaguemestre_last_commit_seconds", "The last COMMIT", value=self._times.last)


def _kind(destination: str) -> str:
    """Mail destinations hold an address: only their kind is a label."""
    return "mssante" if destination.startswith("mssante:") else destination


def render(counts: Mapping[str, Any], times: CommitTimes) -> bytes:
    """The text of these gauges."""
    registry = CollectorRegistry()
    registry.register(_Ledger(counts, times))
    return generate_latest(registry)
