"""The decode loop: draft, select, verify, commit."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch
from tokenizers import Tokenizer

from ..controller.context import StepContext
from ..controller.contract import WALK, require_sound
from ..controller.errors import InputError
from ..controller.policies.base import ShapePolicy
from ..controller.tree import Array, DraftTree
from .backends.base import CHUNK
from .drafters.base import Drafter
from .history import TextHistory
from .sampling import Sampling, TokenSampler
from .stats import DecodeStats, StepRecord
from .stopping import TextStream
from .target import Target
from .verification.base import DraftRows, Verifier

Observer = Callable[[StepRecord], None]


@dataclass(frozen=True)
class Request:
    """One text to continue. The prompt holds at least one token."""

    prompt_ids: Sequence[int]
    max_tokens: int
    sampling: Sampling
    stop: tuple[str, ...] = ()
    ignore_end: bool = False  # go on past the end-of-text token


class Decoder:
    """Runs requests of equal age as one batch; refuses an unsound law, selector and verifier when built.

    Without drafter and selector this is plain decoding: a tree of the root alone, through the same code.
    """

    def __init__(
        self,
        target: Target,
        verifier: Verifier,
        tokenizer: Tokenizer,
        end_tokens: frozenset[int],
        *,
        drafter: Drafter | None = None,
        selector: ShapePolicy | None = None,
        observer: Observer | None = None,
    ):
        assert (drafter is None) == (selector is None), "a drafter needs a selector and a selector a drafter"
        if drafter is not None and selector is not None:
            require_sound(drafter.law, selector.looks, verifier.terms)
        self._target = target
        self._verifier = verifier
        self._tokenizer = tokenizer
        self._end_tokens = end_tokens
        self._drafter = drafter
        self._selector = selector
        self._observer = observer

    def generate(self, requests: Sequence[Request]) -> tuple[list[TextStream], DecodeStats]:
        """Run the requests to their ends."""
        streams = self.open_streams(requests)
        stats = DecodeStats()
        for record in self.steps(requests, streams):
            stats.add(record)
        return streams, stats

    def open_streams(self, requests: Sequence[Request]) -> list[TextStream]:
        """One text per request; InputError for a request that cannot be decoded."""
        for request in requests:
            check_request(request, self._target.model.context_length)
        return [
            TextStream(
                self._tokenizer,
                max_tokens=request.max_tokens,
                end_tokens=() if request.ignore_end else self._end_tokens,
                stop=request.stop,
            )
            for request in requests
        ]

    def steps(self, requests: Sequence[Request], streams: Sequence[TextStream]) -> Iterator[StepRecord]:
        """Decode step by step into `streams`; ends when every text has ended. A caller may stop asking earlier."""
        model = self._target.model
        sampler = TokenSampler([request.sampling for request in requests], model.vocabulary_size, model.device)
        texts = [np.asarray(request.prompt_ids, dtype=np.int64) for request in requests]
        tree_rows = 1
        if self._selector is not None:
            limits = self._selector.limits
            tree_rows += max(limits.budget, limits.frontier * limits.max_depth)
        longest = max(len(request.prompt_ids) + request.max_tokens for request in requests)
        capacity = longest + max(tree_rows, CHUNK)
        self._target.start(texts, capacity)
        if self._drafter is not None:
            self._drafter.start(texts, capacity)
        roots = np.array([text[-1] for text in texts])
        positions = np.array([len(text) - 1 for text in texts])
        history = TextHistory(len(texts))
        while any(stream.remaining for stream in streams):
            context = StepContext(
                positions=positions,
                remaining=np.array([stream.remaining for stream in streams]),
                temperatures=sampler.temperatures,
                top_ps=sampler.top_ps,
                history=history.values.astype(np.float32),
            )
            record = self._step(roots, context, sampler, streams, history)
            if self._observer is not None:
                self._observer(record)
            roots = np.where(context.remaining > 0, record.verdict.next_tokens, roots)
            positions = positions + np.where(context.remaining > 0, record.verdict.accepted_lengths + 1, 0)
            yield record

    @torch.inference_mode()
    def _step(
        self,
        roots: Array,
        context: StepContext,
        sampler: TokenSampler,
        streams: Sequence[TextStream],
        history: TextHistory,
    ) -> StepRecord:
        clock = Clock()
        drafted = DraftTree.from_roots(roots)
        kept, nodes, widths = drafted, np.zeros((len(roots), 1), dtype=np.int64), []
        draft_rows: DraftRows = [{} for _ in roots]
        if self._drafter is not None and self._selector is not None:
            drafted, widths = self._draft(drafted, context, sampler, clock)
            if widths:
                nodes = self._selector.keep(drafted, context)
                kept = drafted.subtree(nodes)
                # The walk may verify any part of a drawn tree; the others count on the places of `draft_rows`.
                is_whole = self._verifier.terms is WALK or (kept.num_nodes == drafted.num_nodes).all()
                assert is_whole, "a sampled token is never dropped"
            draft_rows = self._drafter.draft_rows
            clock.charge("controller", "keep")
        rows = self._target.score(kept)
        clock.charge("target")
        verdict = self._verifier.verify(kept, rows, draft_rows, sampler, context.positions)
        clock.charge("verify")
        active = context.remaining > 0
        path = np.where(active[:, None], verdict.path, -1)
        self._target.commit(path, active)
        if self._drafter is not None and self._selector is not None:
            drafted_path = np.where(path >= 0, np.take_along_axis(nodes, np.maximum(path, 0), axis=1), -1)
            self._drafter.commit(drafted, drafted_path, verdict.next_tokens, active)
            self._selector.record(kept, context, widths, verdict.accepted_lengths + 1)
            if self._selector.reads_history:
                history.record(kept, rows, verdict, sampler, active)
        num_emitted = emit(streams, kept, verdict.path, verdict.next_tokens)
        clock.charge("commit")
        return StepRecord(context, drafted, kept, verdict, widths, num_emitted, **clock.spent)

    def _draft(
        self, tree: DraftTree, context: StepContext, sampler: TokenSampler, clock: "Clock"
    ) -> tuple[DraftTree, list[int]]:
        """Grow the candidates level by level until the frontier is empty; the caller charges that last decision."""
        assert self._drafter is not None and self._selector is not None
        widths = []
        while True:
            frontier = self._selector.frontier(tree, context)
            if frontier.shape[1] == 0:
                return tree, widths
            clock.charge("controller")
            widths.append(max(len({*row.tolist()} - {-1}) for row in frontier))
            tree = self._drafter.expand(tree, frontier, self._selector.limits.width, sampler)
            clock.charge("draft")


class Clock:
    """Milliseconds since the last charge, booked under every name given."""

    def __init__(self) -> None:
        phases = ("draft_ms", "controller_ms", "target_ms", "verify_ms", "commit_ms", "keep_ms")
        self.spent: dict[str, float] = dict.fromkeys(phases, 0.0)
        self._last = perf_counter()

    def charge(self, *names: str) -> None:
        now = perf_counter()
        for name in names:
            self.spent[f"{name}_ms"] += (now - self._last) * 1e3
        self._last = now


def emit(streams: Sequence[TextStream], tree: DraftTree, path: Array, next_tokens: Array) -> Array:
    """Append each accepted path and next token to its text, up to the text's end; [B] tokens taken."""
    counts = np.zeros(len(streams), dtype=np.int64)
    for row, stream in enumerate(streams):
        accepted = path[row][path[row] >= 0]
        for token in (*tree.tokens[row, accepted].tolist(), int(next_tokens[row])):
            if not stream.remaining:
                break
            stream.append(token)
            counts[row] += 1
    return counts


def check_request(request: Request, context_length: int) -> None:
    """InputError for an empty prompt or one that does not fit the context with the tokens asked for."""
    if len(request.prompt_ids) == 0:
        raise InputError("the prompt is empty; give at least one token")
    if len(request.prompt_ids) + request.max_tokens > context_length:
        raise InputError(
            f"the prompt has {len(request.prompt_ids)} tokens and {request.max_tokens} more are asked for, but the "
            f"target's context holds {context_length}; shorten the prompt or lower max_tokens"
        )
