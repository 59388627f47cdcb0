"""What a worker counts, for `collective_rpc` and for vLLM's `/metrics`.

vLLM itself counts drafts, drafted tokens (here: nodes) and accepted ones by position (here: depth), as
`vllm:spec_decode_*`. What it cannot know is counted here. Of a worker in a process of its own, `/metrics` shows these
where PROMETHEUS_MULTIPROC_DIR is set for the whole server, as vLLM does for several API servers.
"""

from dataclasses import dataclass, field, fields

from prometheus_client import REGISTRY, Counter

HELP = {
    "steps": "Steps of requests, one per request and step",
    "tokens": "Tokens emitted by these steps, before a text ends at a stop",
    "nodes": "Drafted nodes verified, roots left out",
    "levels": "Levels drafted, of the whole batch",
    "chains": "Trees cut down to a chain, for a grammar",
    "undrafted": "Steps of requests that nothing may be drafted for",
    "foreign": "Drafts that were no tree of ours, verified as a chain",
}


@dataclass
class Counters:
    """Sums since the worker started."""

    steps: int = 0
    tokens: int = 0
    nodes: int = 0
    levels: int = 0
    chains: int = 0
    undrafted: int = 0
    foreign: int = 0
    _metrics: dict[str, Counter] = field(default_factory=lambda: {name: _metric(name) for name in HELP})

    def add(self, **counts: int) -> None:
        for name, count in counts.items():
            setattr(self, name, getattr(self, name) + count)
            self._metrics[name].inc(count)

    def as_dict(self) -> dict[str, int]:
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name in HELP}


def _metric(name: str) -> Counter:
    """One per process: the registry refuses a name twice."""
    full = f"treewright:{name}"
    for collector, names in REGISTRY._collector_to_names.items():
        if full in names and isinstance(collector, Counter):
            return collector
    return Counter(full, HELP[name])
