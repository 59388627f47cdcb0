"""From the decode loop's records of one request to events."""

import math
from collections.abc import Sequence

import numpy as np

from ...decoder import Parts
from ...stats import DecodeStats, StepRecord
from ...text.detokeniser import IncrementalDetokeniser
from .events import Emitted, Node, Step, Times, Totals


class StepTeller:
    """Tells the steps of one text, in their order; keeps its text and totals so far."""

    def __init__(self, parts: Parts, prompt_ids: Sequence[int]):
        assert parts.detokeniser is not None, "a decoder that serves has a detokeniser"
        self._names = {token: name for name, token in parts.detokeniser.special_tokens.items()}
        self._detokeniser, self._end_tokens = parts.detokeniser, parts.end_tokens
        self._text = IncrementalDetokeniser(parts.detokeniser, prompt_ids, self._names)
        self._stats = DecodeStats()
        self._predicted, self._predicted_accepted = 0.0, 0

    def step(self, record: StepRecord, row: int) -> Step:
        """The event of a step in which the request was row `row` of the batch."""
        own = record.row(row)
        (accepted,) = own.verdict.accepted_lengths.tolist()
        nodes, next_token = self._nodes(own), int(own.verdict.next_tokens[0])
        path = [node.token for node in nodes if node.accepted]
        predictions = [node.predicted for node in nodes[1:] if node.kept and node.predicted is not None]
        predicted = None if own.log_values is None else math.fsum(predictions)
        self._stats.add(own)
        if predicted is not None:
            self._predicted += predicted
            self._predicted_accepted += accepted
        emitted = [*path, next_token][: int(own.num_emitted[0])]
        depths = [*range(1, accepted + 1), 0]
        last = path[-1] if path else nodes[0].token
        return Step(
            step=self._stats.num_steps,
            position=int(own.context.positions[0]),
            batch=record.context.batch,
            nodes=nodes,
            emitted=[
                Emitted(token=token, text=self._piece(token), depth=depth)
                for token, depth in zip(emitted, depths, strict=False)
            ],
            next_token=next_token,
            next_text=self._shown(last, next_token),
            accepted=accepted,
            predicted=None if predicted is None else _rounded(predicted),
            level_widths=own.level_widths,
            times=_times(own),
            totals=self._totals(),
        )

    def _nodes(self, own: StepRecord) -> list[Node]:
        tree, path = own.drafted, own.verdict.path[0]
        tokens, parents, depths, ranks = tree.links[0].T.tolist()
        kept, accepted = set(own.nodes[0].tolist()), set(own.nodes[0, path[path >= 0]].tolist())
        draft_probs = np.exp(tree.log_probs[0], dtype=np.float64).tolist()
        predicted = None if own.log_values is None else np.exp(own.log_values[0]).tolist()
        return [
            Node(
                token=token,
                text=self._shown(tokens[parents[node]] if node else None, token),
                parent=parents[node],
                depth=depths[node],
                rank=ranks[node],
                draft_prob=_rounded(draft_probs[node]),
                predicted=None if predicted is None else _rounded(predicted[node]),
                kept=node in kept,
                accepted=node in accepted,
            )
            for node, token in enumerate(tokens)
        ]

    def _piece(self, token: int) -> str:
        """What an emitted token adds to the text."""
        return "" if token in self._end_tokens else self._text.append(token)

    def _shown(self, before: int | None, token: int) -> str:
        """A token as it reads behind another; a special one by its name."""
        if token in self._names:
            return self._names[token]
        decode = self._detokeniser.decode
        ahead = "" if before is None else decode([before])
        both = decode([token] if before is None else [before, token])
        # Where both are bytes of one character, the second has changed what the first showed.
        return both[len(ahead) :] if both.startswith(ahead) else decode([token])

    def _totals(self) -> Totals:
        stats = self._stats
        return Totals(
            steps=stats.num_steps,
            tokens=stats.num_tokens,
            drafted=stats.num_drafted,
            kept=stats.num_kept,
            accepted=stats.num_accepted,
            predicted=_rounded(self._predicted),
            predicted_accepted=self._predicted_accepted,
            block_efficiency=_rounded(stats.block_efficiency),
            nodes_per_step=_rounded(stats.nodes_per_step),
            acceptance_rate=_rounded(stats.acceptance_rate),
            controller_share=_rounded(stats.controller_share),
            total_ms=_rounded(stats.total_ms),
            tokens_per_second=_rounded(stats.num_tokens / stats.total_ms * 1e3),
        )


def _times(own: StepRecord) -> Times:
    parts = {name: getattr(own, f"{name}_ms") for name in Times.model_fields}
    return Times(**{name: round(ms, 3) for name, ms in parts.items()})


def _rounded(number: float) -> float:
    """Five digits are more than a page can show."""
    return float(f"{number:.5g}")
