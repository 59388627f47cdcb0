"""What a worker counts."""

from dataclasses import dataclass


@dataclass
class Counters:
    """Sums over the steps of all requests; a step of one request counts once in a batch of any size."""

    steps: int = 0
    tokens: int = 0  # emitted, before vLLM ends a text at a stop
    nodes: int = 0  # drafted and verified, roots left out
    foreign_drafts: int = 0  # drafts that were no tree of ours, verified as a chain

    def count(self, num_nodes: int, num_tokens: int) -> None:
        self.steps += 1
        self.nodes += num_nodes
        self.tokens += num_tokens
