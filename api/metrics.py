"""Metrics for Prometheus: counters of this process, and values that all processes share.

The shared values come from the database and the node at each scrape, by queries that an index answers however
many batches there are.
"""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from api.db import repository
from api.db.store import Store
from api.db.tables import now
from api.outbox.models import IN_BLOCK, UNSETTLED, InFlight, State, Submission

disable_created_metrics()  # type: ignore[no-untyped-call]

_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)
_MINUTES = (0.3, 1, 3, 10, 30, 60, 120, 300, 600, 1800)

REQUESTS = Histogram(
    "creneau_request_seconds",
    "Requests, by the route's template",
    ["method", "route", "status"],
    buckets=_SECONDS,
)
TRANSITIONS = Counter("creneau_sends", "Changes of state; batches have kind create", ["kind", "state"])
TO_BLOCK = Histogram("creneau_seconds_to_block", "From accepted to in a block", ["kind"], buckets=_MINUTES)
TO_FINAL = Histogram("creneau_seconds_to_final", "From accepted to final", ["kind"], buckets=_MINUTES)
GAS = Counter("creneau_gas_used", "By transactions that are final")
FEES = Counter("creneau_fees_gwei", "Paid for them")
REORGANISED = Counter("creneau_reorganised_sends", "Whose block was reorganised away")
RPC = Histogram("creneau_rpc_seconds", "Calls to the node; those of one batch take as long as it", ["method"])
RPC_ERRORS = Counter("creneau_rpc_errors", "Calls without a result; a revert is one", ["method", "reason"])
WEBHOOKS = Counter("creneau_webhook_attempts", "Attempts to deliver", ["outcome"])
for outcome in ("delivered", "failed", "dead"):
    WEBHOOKS.labels(outcome)


def moved(before: Submission | InFlight, state: State) -> None:
    """Count a change of state; the submission is as it was before."""
    TRANSITIONS.labels(before.kind, state).inc()
    if state is State.MINED:
        TO_BLOCK.labels(before.kind).observe((now() - before.created_at) / 1e6)
    elif state is State.FINAL:
        TO_FINAL.labels(before.kind).observe((now() - before.created_at) / 1e6)
    if before.state not in {*IN_BLOCK, State.FINAL} or not isinstance(before, Submission):
        return
    was_final = before.state is State.REVERTING and state is State.ACCEPTED
    if state is not State.FINAL and not was_final:
        REORGANISED.inc()
    elif before.nonce is not None:  # Else another account paid.
        GAS.inc(before.gas_used or 0)
        FEES.inc(before.fee or 0)


class Shared(Collector):
    """Collects the values that all processes share."""

    def __init__(self, store: Store, balances_and_lag: Callable[[], tuple[Mapping[str, int], int]]) -> None:
        self._store = store
        self._balances_and_lag = balances_and_lag

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauges."""
        up = "creneau_database_up", "Whether the database answers"
        try:
            with self._store.read() as db:
                counts = repository.counts(db, [*UNSETTLED, State.MINED])
                pending, dead = repository.count_messages(db)
                oldest = repository.oldest_unsettled(db)
        except SQLAlchemyError:
            yield GaugeMetricFamily(*up, 0)
            return
        yield GaugeMetricFamily(*up, 1)
        yield _gauge(
            "creneau_sends_waiting",
            "Not final yet",
            "state",
            {state: counts.get(state, 0) for state in (*UNSETTLED, State.MINED)},
        )
        age = 0 if oldest is None else (now() - oldest) / 1e6
        yield GaugeMetricFamily("creneau_oldest_pending_seconds", "Not in a block for so long", age)
        yield GaugeMetricFamily("creneau_webhooks_pending", "Not delivered yet", pending)
        yield GaugeMetricFamily("creneau_webhooks_dead", "Given up", dead)
        balances, lag = self._balances_and_lag()
        yield GaugeMetricFamily("creneau_node_up", "Whether the node answers", float(bool(balances)))
        edu = {address: wei / 1e18 for address, wei in balances.items()}
        yield _gauge("creneau_relayer_balance_ether", "Of each key, in the chain's own coin", "address", edu)
        if balances:
            yield GaugeMetricFamily("creneau_follower_lag_blocks", "Not in the view yet", lag)


def page(shared: Shared) -> bytes:
    """Return all metrics in the text format, version 0.0.4."""
    registry = CollectorRegistry()
    registry.register(shared)
    return generate_latest(REGISTRY) + generate_latest(registry)


def _gauge(name: str, text: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family
