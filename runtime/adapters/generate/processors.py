"""Logits processors of transformers at the nodes of a tree: those that are functions of a row's text alone.

Temperature, top-k and top-p at the end of a list become a `Sampling`, what comes before them a `RowProcessor`. A
processor that may remember is refused by its name, for drafts ask out of order.
"""

import copy
from collections.abc import Callable, Collection, Sequence
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers.generation import logits_process

from ....controller.errors import InputError
from ....controller.trees.tree import Array
from ...machine.transfer import to_device
from ...processing import by_length
from ...sampling import Sampling

# Functions of a row's tokens and scores, whichever rows lie beside it.
BY_ROW = frozenset(
    getattr(logits_process, name)
    for name in [
        "MinLengthLogitsProcessor",
        "MinNewTokensLengthLogitsProcessor",
        "TemperatureLogitsWarper",
        "TopPLogitsWarper",
        "TopKLogitsWarper",
        "TopHLogitsWarper",
        "MinPLogitsWarper",
        "TypicalLogitsWarper",
        "EpsilonLogitsWarper",
        "EtaLogitsWarper",
        "NoRepeatNGramLogitsProcessor",
        "SequenceBiasLogitsProcessor",
        "NoBadWordsLogitsProcessor",
        "ForcedBOSTokenLogitsProcessor",
        "ForcedEOSTokenLogitsProcessor",
        "InfNanRemoveLogitsProcessor",
        "ExponentialDecayLengthPenalty",
        "LogitNormalization",
        "SuppressTokensAtBeginLogitsProcessor",
        "SuppressTokensLogitsProcessor",
        "WatermarkLogitsProcessor",
    ]
)


class ProcessorList:
    """A `RowProcessor` of one row: `processors` in their order over its prompt [L], padding included, and what is
    generated behind it; their scores times `scale`."""

    def __init__(self, processors: Sequence[Any], prompt: Tensor, scale: float = 1.0):
        self._processors = processors
        self._prompt = prompt
        self._scale = scale

    def __call__(self, text: Sequence[int], paths: Array, logits: Tensor, *, of_target: bool) -> Tensor:
        for places, generated in by_length(text, paths):  # processors take texts of one length
            at = to_device(places, logits.device)
            logits[at] = self.scores(to_device(generated, logits.device), logits[at]).to(logits.dtype)
        return logits

    def scores(self, generated: Tensor, logits: Tensor) -> Tensor:
        """[n, V] for `logits` [n, V] behind n continuations of one length, `generated` [n, g] int64."""
        device = self._prompt.device  # what processors hold lies there, as for `generate`
        texts = torch.cat((self._prompt.expand(len(generated), -1), generated.to(device)), dim=1)
        scores = (logits if logits.dtype == torch.float64 else logits.float()).to(device)
        for processor in self._processors:
            scores = processor(texts, scores)
        return (scores if self._scale == 1.0 else scores * self._scale).to(logits.device)


class Warping(NamedTuple):
    """How the tokens of one row are chosen."""

    whole: ProcessorList  # all processors: scores as `generate` returns them
    before: ProcessorList | None  # those that the sampling does not stand for
    sampling: Sampling


def warping(
    processors: Sequence[Any], input_ids: Tensor, row: int, *, seed: int | None, stateless: Collection[Any]
) -> Warping:
    """Of a row of `input_ids` [B, L], whose noise is its own; greedy without a seed.

    InputError for a processor that cannot be honoured, unless it or its class is among the `stateless`.
    """
    of_row = [_of_row(each, row, len(input_ids), stateless) for each in processors]
    rest, sampling = of_row, Sampling(temperature=0.0)
    if seed is not None:
        rest, top_k, top_p = _without_cuts(of_row)
        factor = prod(each.temperature for each in of_row if _is(each, "TemperatureLogitsWarper"))
        sampling = Sampling(factor, top_k, top_p, seed, choice=row)
    # Temperatures that are not left to the sampling are taken back, for it divides by the product of all.
    scale = prod(each.temperature for each in rest if seed is not None and _is(each, "TemperatureLogitsWarper"))
    prompt = input_ids[row]
    before = ProcessorList(rest, prompt, float(scale)) if rest else None
    return Warping(ProcessorList(of_row, prompt), before, sampling)


def _without_cuts(processors: Sequence[Any]) -> tuple[list[Any], int, float]:
    """The processors without those at the end that are temperature, top-k and top-p in this order; the last two."""
    rest, top_k, top_p = [*processors], 0, 1.0
    if rest and _is(rest[-1], "TopPLogitsWarper") and rest[-1].min_tokens_to_keep == 1 and rest[-1].top_p > 0:
        top_p = rest.pop().top_p
    if rest and _is(rest[-1], "TopKLogitsWarper"):
        top_k = rest.pop().top_k
    if rest and _is(rest[-1], "TemperatureLogitsWarper"):
        rest.pop()
    return rest, top_k, top_p


def _is(processor: Any, name: str) -> bool:
    return type(processor) is getattr(logits_process, name)


def _of_row(processor: Any, row: int, num_rows: int, stateless: Collection[Any]) -> Any:
    """The processor as it treats one of `num_rows` rows, for any number of continuations of it."""
    kind = type(processor)
    if kind in BY_ROW or processor in stateless or kind in stateless:
        return processor
    own = copy.copy(processor)
    if _is(processor, "RepetitionPenaltyLogitsProcessor"):
        if isinstance(processor.prompt_ignore_length, Tensor):
            own.prompt_ignore_length = int(processor.prompt_ignore_length[row])
        return own
    if _is(processor, "PrefixConstrainedLogitsProcessor"):
        allowed = processor._prefix_allowed_tokens_fn
        own._prefix_allowed_tokens_fn = lambda _, text: allowed(row, text)
        return own
    if _is(processor, "EncoderRepetitionPenaltyLogitsProcessor"):
        prompt = row * len(processor.encoder_input_ids) // num_rows  # each is repeated for its return sequences
        return _for_each_row(own, processor.encoder_input_ids[prompt : prompt + 1])
    if _is(processor, "EncoderNoRepeatNGramLogitsProcessor"):
        own.generated_ngrams = [processor.generated_ngrams[row * processor.batch_size // num_rows]]
        own.batch_size = 1
        return own
    name = getattr(processor, "__name__", kind.__name__)
    vouch = ", or, if it is a function of (input_ids, scores) alone, say so by generate_with(stateless=[...])"
    raise InputError(
        f"the logits processor {name} may remember what it was asked before, and draft trees ask in another order; "
        f"leave it out{'' if kind.__module__ == logits_process.__name__ else vouch}"
    )


def _for_each_row(processor: Any, prompt: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """An encoder's repetition penalty, of as many rows behind one `prompt` [1, L] as there are."""

    def process(texts: Tensor, scores: Tensor) -> Tensor:
        processor.encoder_input_ids = prompt.expand(len(scores), -1)
        return processor(texts, scores)

    return process
