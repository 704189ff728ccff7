"""The broker's metrics for Prometheus, in a registry of their own. Accounts appear by their id, and by nothing else."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from authstate.adapters.broker.broker import Broker
from authstate.adapters.broker.served_accounts import Reading
from authstate.engine.model.errors import StoreUnavailable
from authstate.engine.model.events import Event, RefreshEnded, RefreshFailed, RefreshRetried, StateChanged
from authstate.engine.model.states import Trigger
from authstate.engine.pool import PoolMetrics

MOST_LABELS = 1000
"""Accounts that appear by their id. Later ones are counted together."""
OTHER_ACCOUNTS = "other accounts"
_SINCE_START = ("opened", "open_failures", "evicted", "refreshed", "refresh_failures")
_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0)  # seconds


class BrokerMetrics:
    """Counts what a broker does from here on.

    Args:
        broker: whose engines and leases are counted.
    """

    def __init__(self, broker: Broker) -> None:
        self.registry: CollectorRegistry = CollectorRegistry()
        self._labels: set[str] = set()
        self._grants = Counter(
            "authstate_grants", "Requests to the token endpoint, by their result", ["result"], registry=self.registry
        )
        self._seconds = Histogram(
            "authstate_grant_seconds", "Time to answer the token endpoint", buckets=_BUCKETS, registry=self.registry
        )
        self._revocations = Counter(
            "authstate_revocations",
            "Requests to the revocation endpoint, by their result",
            ["result"],
            registry=self.registry,
        )
        self._refreshes = Counter(
            "authstate_refreshes",
            "Refreshes at the issuer, by their result: done, transient, permanent",
            ["account", "result"],
            registry=self.registry,
        )
        self._refresh_seconds = Histogram(
            "authstate_refresh_seconds",
            "Time that a refresh took, by its outcome",
            ["outcome"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._refresh_retries = Counter(
            "authstate_refresh_retries", "Tries of a refresh that were repeated", registry=self.registry
        )
        self.streams: Gauge = Gauge("authstate_event_streams", "Open streams of events", registry=self.registry)
        self.dropped_streams: Counter = Counter(
            "authstate_dropped_event_streams",
            "Streams that ended because their reader was too slow",
            registry=self.registry,
        )
        self._collector = _BrokerCollector(broker)
        self.registry.register(self._collector)
        broker.events.subscribe(self._on_event)

    def count_grant(self, result: str, seconds: float) -> None:
        """Count an answer of the token endpoint.

        Args:
            result: `granted`, or the `error` of the refusal.
            seconds: that the answer took.
        """
        self._grants.labels(result).inc()
        self._seconds.observe(seconds)

    def count_revocation(self, result: str) -> None:
        """Count an answer of the revocation endpoint: `done`, or the `error` of the refusal."""
        self._revocations.labels(result).inc()

    async def text(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics, and the content type of the format that the `Accept` header asks for."""
        await self._collector.read()
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def _on_event(self, account: str, event: Event) -> None:
        account = self._label(account)
        if isinstance(event, StateChanged) and event.trigger is Trigger.TOKENS_REFRESHED:
            self._refreshes.labels(account, "done").inc()
        elif isinstance(event, RefreshFailed):
            self._refreshes.labels(account, "permanent" if event.permanent else "transient").inc()
        elif isinstance(event, RefreshEnded):
            self._refresh_seconds.labels(event.outcome).observe(event.duration)
        elif isinstance(event, RefreshRetried):
            self._refresh_retries.inc()

    def _label(self, account: str) -> str:
        """Return how an account appears: Prometheus keeps a series for each."""
        if account not in self._labels and len(self._labels) >= MOST_LABELS:
            return OTHER_ACCOUNTS
        self._labels.add(account)
        return account


class _BrokerCollector(Collector):
    """Shows what the broker itself knows: as it was read last."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._readings: Sequence[Reading] = ()
        self._leases: Mapping[tuple[str, str], int] = {}

    async def read(self) -> None:
        """Read what the broker knows. Leases that cannot be read now are left out."""
        self._readings = await self._broker.accounts.readings()
        self._leases = {}
        with suppress(StoreUnavailable):
            self._leases = await self._broker.leases.count() or {}

    def collect(self) -> Iterable[Metric]:
        leases = GaugeMetricFamily("authstate_leases", "Leases, by account and state", labels=["account", "state"])
        for labels, count in self._leases.items():
            leases.add_metric(labels, count)
        gauges = [GaugeMetricFamily(one.name, one.help, value=one.value) for one in self._readings]
        return leases, *gauges, *_of_pool(self._broker.accounts.pool.metrics())


def _of_pool(numbers: PoolMetrics) -> Iterable[Metric]:
    """Return the numbers of the pool of engines: docs/broker-api.md lists them."""
    for name, value in msgspec.structs.asdict(numbers).items():
        kind = CounterMetricFamily if name in _SINCE_START else GaugeMetricFamily
        yield kind(f"authstate_pool_{name}", f"Engines: {name.replace('_', ' ')}", value=value)
