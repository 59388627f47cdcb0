"""All series of one server, and the route that Prometheus asks."""

from collections.abc import Callable

from fastapi import FastAPI
from fastapi.responses import Response
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from ....controller.pricing.objective import Objective
from ..totals import Totals
from .predictions import PredictionMetrics
from .requests import RequestMetrics
from .series import Series, Sum
from .steps import StepMetrics


class ServerMetrics:
    """Read by any thread."""

    def __init__(
        self,
        totals: Totals,
        num_running: Callable[[], int],
        num_waiting: Callable[[], int],
        find_objective: Callable[[], Objective | None],
    ):
        series, prefixes = Series(), totals.prefixes
        self.registry = series.registry
        self.requests = RequestMetrics(series, num_running, num_waiting)
        self.steps = StepMetrics(series)
        self.predictions = PredictionMetrics(series, find_objective)
        series.gauge("prefix_cache_tokens", "Tokens of prefixes held").set_function(lambda: prefixes.tokens_held)
        series.read_counters(
            {
                "prefix_cache_queries": Sum("Tokens of prompts that joined", lambda: prefixes.prompt_tokens),
                "prefix_cache_hits": Sum("Of those, tokens that were not read again", lambda: prefixes.tokens_reused),
                "prefix_cache_evictions": Sum("Tokens of prefixes that made room", lambda: prefixes.tokens_dropped),
                "texts_recorded": Sum("Texts kept by --record", lambda: totals.texts_recorded),
                "texts_unrecorded": Sum("Texts that could not be kept", lambda: totals.texts_unrecorded),
            }
        )


def add_metrics(app: FastAPI, metrics: ServerMetrics) -> None:
    @app.head("/metrics", include_in_schema=False)
    @app.get("/metrics", include_in_schema=False)
    async def scrape() -> Response:
        return Response(generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
