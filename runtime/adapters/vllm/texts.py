"""What is known of each request from its first token to its last, whichever batches it is in."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from ....controller.learned.history import START, advance
from ...noise import KeyedNoise
from ...sampling import Sampling

GREEDY = 1e-5  # what vLLM takes a temperature below for 0
HOTTEST = 100.0  # our own limit; beyond it a drafter's row is as good as flat


class Drafting(Enum):
    """What may be drafted for a request."""

    TREE = "tree"
    CHAIN = "chain"  # what vLLM checks token by token in a row
    NOTHING = "nothing"


@dataclass
class Text:
    """One request."""

    sampling: Sampling
    noise: KeyedNoise | None  # None where it is greedy
    drafting: Drafting
    prompt: Sequence[int]
    max_tokens: int
    stops: frozenset[int] = frozenset()  # tokens that end it
    min_tokens: int = 0
    is_plain: bool = True  # whether `sampling` says all of how it is sampled
    history: list[float] = field(default_factory=START.astype(float).tolist)
    emitted: list[int] = field(default_factory=list)

    @property
    def root_position(self) -> int:
        """Index of the last token in the text."""
        return len(self.prompt) + len(self.emitted) - 1

    @property
    def has_ended(self) -> bool:
        """Whether the tokens alone end it; vLLM may end it before, as at a stop string."""
        kept = self.kept
        return len(kept) == self.max_tokens or len(kept) < len(self.emitted) or bool(kept and self._stops_at(len(kept)))

    @property
    def kept(self) -> list[int]:
        """What vLLM keeps of the tokens emitted: a step may go beyond the end."""
        lengths = range(1, min(self.max_tokens, len(self.emitted)) + 1)
        return self.emitted[: next(filter(self._stops_at, lengths), self.max_tokens)]

    def _stops_at(self, length: int) -> bool:
        return self.emitted[length - 1] in self.stops and length > self.min_tokens

    def emit(self, tokens: Sequence[int], log_probs: Sequence[float], entropies: Sequence[float]) -> None:
        """The target drew these tokens, each with this log-probability from a row of this entropy."""
        self.emitted.extend(tokens)
        for log_prob, entropy in zip(log_probs, entropies, strict=True):
            self.history = advance(self.history, log_prob, entropy)


def sampling_of(params: Any, seed: int) -> Sampling:
    """Of vLLM's `SamplingParams`, as far as a drafter knows it."""
    temperature = 0.0 if params.temperature < GREEDY else min(float(params.temperature), HOTTEST)
    return Sampling(temperature, top_k=max(0, params.top_k), top_p=float(params.top_p), seed=seed % 2**64)


def text_of(state: Any, engine_seed: int, vocabulary_size: int) -> Text:
    """Of a `CachedRequestState`. A request without a seed gets one of its own, the same on every worker."""
    params = state.sampling_params
    seed = params.seed
    if seed is None:
        digest = hashlib.sha256(f"{engine_seed} {state.req_id}".encode()).digest()
        seed = int.from_bytes(digest[:8], "little")
    sampling = sampling_of(params, seed)
    return Text(
        sampling,
        None if sampling.is_greedy else KeyedNoise(sampling.seed, 0, vocabulary_size),
        drafting_of(state),
        state.prompt_token_ids or (),
        params.max_tokens if params.max_tokens is not None else 2**31,
        stops=frozenset(params.stop_token_ids or () if params.ignore_eos else params.all_stop_token_ids),
        min_tokens=params.min_tokens,
        is_plain=_is_plain(state),
        emitted=list(state.output_token_ids),
    )


def _is_plain(state: Any) -> bool:
    """Whether nothing but the prompt's tokens, temperature, top-k and top-p shape a row of the target."""
    params = state.sampling_params
    if state.prompt_token_ids is None or state.prompt_embeds is not None or state.lora_request is not None:
        return False
    neutral = {
        "min_p": 0.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "repetition_penalty": 1.0, "min_tokens": 0,
    }  # fmt: skip
    others = ("logit_bias", "allowed_token_ids", "bad_words", "structured_outputs")
    if params.thinking_token_budget is not None:
        return False
    return all(getattr(params, name) == value for name, value in neutral.items()) and not any(
        getattr(params, name) for name in others
    )


def drafting_of(state: Any) -> Drafting:
    """Grammars are checked along a row of drafts; a budget of thinking tokens, and a prompt of embeddings, are not
    known to a drafter."""
    params = state.sampling_params
    if state.prompt_token_ids is None or getattr(params, "thinking_token_budget", None) is not None:
        return Drafting.NOTHING
    return Drafting.CHAIN if params.structured_outputs is not None else Drafting.TREE
