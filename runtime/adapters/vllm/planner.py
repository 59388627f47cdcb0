"""What is drafted for the requests of an engine: opened after a step, remembered until the next one has verified it."""

from collections.abc import Mapping, Sequence
from typing import Any

from vllm.distributed.parallel_state import get_tp_group

from ....controller.policies.base import ShapePolicy
from ....controller.trees.limits import TreeLimits
from .best_first import TreeProposer
from .counters import Counters
from .drafting import Drafted, Growth, settle
from .forest import Branches, chain_of
from .policy import Loaded, shaping
from .settings import VllmSettings
from .slots import DraftSlots, Outcome
from .texts import Drafting, Text


class Planner:
    """The policy, its slots and the trees of the step at hand. `most` bounds what `proposer` can draft; a text and its
    tree fit into `longest` tokens."""

    def __init__(
        self,
        settings: VllmSettings,
        loaded: Loaded,
        most: TreeLimits,
        proposer: Any,
        counters: Counters,
        *,
        vocabulary_size: int,
        longest: int,
    ):
        self._loaded, self._most, self._counters = loaded, most, counters
        self.change(settings)
        limits = self._shaping.policy.limits
        drafter = proposer.drafter(self._shaping.scheme, limits) if isinstance(proposer, TreeProposer) else None
        self._slots = DraftSlots(vocabulary_size, limits, longest, drafter)
        self._drafted: Drafted | None = None

    def change(self, settings: VllmSettings) -> None:
        """Draft by other thresholds from the next step on."""
        self._shaping = shaping(settings, self._loaded, self._most)

    def shape(self, policy: ShapePolicy) -> None:
        """Draft by another policy of the same kind, as to measure what steps take."""
        self._shaping = self._shaping._replace(policy=policy)

    def branches(self, request_id: str, tokens: Sequence[int]) -> Branches:
        """The tree that the scheduled drafts of a request are: ours, or a chain."""
        drafted = self._drafted.branches.get(request_id) if self._drafted is not None else None
        known = drafted.scheduled(tokens) if drafted is not None else None
        if known is None:
            self._counters.add(foreign=1)
        return known or chain_of(tokens)

    def forget(self, request_id: str) -> None:
        """The text of this request is another one now, so what was drafted for it says nothing of it."""
        if self._drafted is not None:
            self._drafted.branches.pop(request_id, None)

    def settle(self, verified: Mapping[str, tuple[Branches | None, Outcome]]) -> None:
        """What vLLM made of the trees, by request: what it verified, the path in that and the tokens. Requests whose
        trees were not verified as they were drafted leave their slots, and join again with all of their text."""
        drafted, self._drafted = self._drafted, None
        if drafted is None:  # nothing was asked for after the last step, so no slot knows what it emitted
            self._slots.update({})
            return
        outcomes = {}
        for slot, request_id in enumerate(drafted.ids):
            branches, outcome = verified.get(request_id, (None, None))
            tokens = [] if branches is None else branches.tokens
            known = drafted.branches.get(request_id)
            if outcome is not None and known is not None and known.tokens[: len(tokens)] == tokens:
                path = [int(drafted.nodes[slot, node]) for node in outcome.path]
                outcomes[request_id] = outcome._replace(path=path)
        settle(drafted, outcomes)
        self._slots.commit(drafted.tree, outcomes)

    def open(self, texts: Mapping[str, Text]) -> Growth | None:
        """The trees of these requests, as lone roots; None where nothing may be drafted for any."""
        wanted = {name: text for name, text in texts.items() if text.drafting is not Drafting.NOTHING}
        self._counters.add(undrafted=len(texts) - len(wanted))
        self._slots.update(wanted)
        if not wanted:
            return None
        context = self._slots.context(texts)
        return Growth(self._shaping, self._slots, context, self._slots.roots(texts))

    def close(self, growth: Growth, texts: Mapping[str, Text]) -> dict[str, list[int]]:
        """The drafts of each request, in the order of their nodes."""
        self._drafted = drafted = growth.close(texts)
        _require_agreement(drafted.branches)
        chains = sum(texts[request_id].drafting is Drafting.CHAIN for request_id in drafted.ids)
        self._counters.add(levels=len(growth.widths), chains=chains)
        return {request_id: branches.tokens for request_id, branches in drafted.branches.items()}


def _require_agreement(branches: dict[str, Branches]) -> None:
    """RuntimeError where the workers of one model drafted different trees: each would verify its own."""
    group = get_tp_group()
    if group.world_size > 1 and group.broadcast_object(branches) != branches:
        raise RuntimeError("two workers of one model drafted different trees; please report this")
