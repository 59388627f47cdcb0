"""`generate_with`: treewright inside transformers' `generate`, in place of `assistant_model`.

`model.generate(**inputs, custom_generate=treewright.generate_with(drafter, selector))` writes the text that `generate`
writes, sooner: its options, logits processors, stopping criteria and streamers count, or are refused by name.
"""

import os
from collections.abc import Collection
from threading import Lock
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel
from transformers.generation.stopping_criteria import StopStringCriteria

from ....controller.errors import InputError
from ...request import Request
from ...sampling import Sampling
from ...stats import DecodeStats
from .decoders import Decoders
from .drafting import Drafting, TreePolicy
from .dropped import Dropped
from .models import lent, require_supported
from .options import refuse_inputs, refuse_options
from .output import GuestOutput, output_of
from .processors import warping
from .prompts import require_room, unpadded
from .scores import RowScores
from .text import Rows, RowText, longest, require_by_row

LARGEST_SEED = 2**63 - 1


def generate_with(
    drafter: PreTrainedModel | None = None,
    selector: str | os.PathLike[str] | None = None,
    *,
    dynamic: tuple[int, int, int] | None = None,
    scheme: str | None = None,
    theta_scale: float | None = None,
    guard: bool = True,
    tokenizer: Any = None,
    streamer: Any = None,
    seed: int | None = None,
    stateless: Collection[Any] = (),
) -> "Guest":
    """What `model.generate(..., custom_generate=...)` calls; keep it, for its caches outlive a call.

    Trees are drafted by `drafter`, a loaded model with the target's tokenizer, under a learned `selector` (a checkpoint
    folder, which needs this machine's latency table from `treewright profile`), or `dynamic`, (depth, width, budget) as
    in `--speculation.dynamic`, with a drafting `scheme` (coupled or fixed). `theta_scale` and `guard` are those of
    `--speculation`. Without a drafter decoding is plain.

    A `tokenizer` is needed for `stop_strings` alone, and checks that the selector is for it. Texts are drawn with
    `seed`; without one, with a number of torch's generator, so that `torch.manual_seed` repeats them. `stateless` names
    classes of your own logits processors that are functions of (input_ids, scores), and of your own stopping criteria
    that are functions of each row.

    Raises InputError for options that do not go together, and for a drafter or a selector that cannot be used.
    """
    drafting = Drafting(selector, dynamic, scheme, theta_scale, guard)
    if drafter is None and not drafting.is_default:
        raise InputError("a selector, a tree and how it is drafted do nothing without a drafter; give that too")
    if drafter is not None:
        require_supported(drafter, "the drafter")
    if seed is not None:
        Sampling(seed=seed)
    policy = None if drafter is None else TreePolicy(drafting, tokenizer)
    return Guest(drafter, policy, tokenizer=tokenizer, streamer=streamer, seed=seed, stateless=stateless)


class Guest:
    """The callable that `generate_with` makes. Not for use from several threads at once."""

    def __init__(
        self,
        drafter: PreTrainedModel | None,
        policy: TreePolicy | None,
        *,
        tokenizer: Any,
        streamer: Any,
        seed: int | None,
        stateless: Collection[Any],
    ):
        self.stats = DecodeStats()
        """Of the last call."""
        self._drafter = drafter
        self._decoders = Decoders(drafter, policy)
        self._tokenizer = tokenizer
        self._streamer = streamer
        self._seed = seed
        self._stateless = stateless
        self._lock = Lock()

    def release(self) -> None:
        """Free the caches, and forget the models that were used."""
        self._decoders.release()

    def __call__(
        self,
        model: Any,
        input_ids: Tensor,
        *,
        logits_processor: Any,
        stopping_criteria: Any,
        generation_config: GenerationConfig,
        stop_strings: Any = None,
        **model_kwargs: Any,
    ) -> Tensor | GuestOutput:
        """What `generate` hands over, and what it is to return."""
        require_supported(model, "the model")
        refuse_options(generation_config)
        refuse_inputs(model_kwargs)
        dropped = Dropped.of_running_call()
        dropped.refuse()
        streamer = self._streamer_of(dropped.streamer, input_ids)
        criteria = [*stopping_criteria, *self._stop_strings(stop_strings)]
        require_by_row(criteria, len(input_ids), self._stateless)
        prompts = unpadded(input_ids, model_kwargs.get("attention_mask"), model_kwargs.get("position_ids"))
        most_tokens = max(1, longest(criteria, generation_config) - input_ids.shape[1])
        seed = (next_seed() if self._seed is None else self._seed) if generation_config.do_sample else None
        rows, requests = Rows.of(len(prompts), criteria, generation_config), []
        for row, prompt in enumerate(prompts):
            how = warping(logits_processor, input_ids, row, seed=seed, stateless=self._stateless)
            scores = RowScores.of(how, generation_config)
            RowText(rows, input_ids[row], most_tokens, criteria, scores)
            requests.append(Request(prompt, most_tokens, how.sampling, processor=scores or how.before))
        is_new = dropped.streamer is None  # `generate` has given its own the prompt
        self._decode(model, requests, rows, streamer, input_ids.cpu() if is_new else None)
        return output_of(rows, input_ids, generation_config, self.stats)

    def _decode(
        self, model: PreTrainedModel, requests: list[Request], rows: Rows, streamer: Any, prompt: Tensor | None
    ) -> None:
        """Decode the requests into `rows`; the streamer is given the `prompt` first, if there is one."""
        if not self._lock.acquire(blocking=False):
            raise InputError("this generate_with is generating already; make another one for each thread")
        try:
            with lent([model] if self._drafter is None else [model, self._drafter]):
                opened = self._decoders.of(model)
                for request in requests:
                    require_room(request, opened.models[0])
                if streamer is not None and prompt is not None:
                    streamer.put(prompt)
                stats, num_streamed = DecodeStats(), 0
                for record in opened.decoder.steps(requests, rows.texts):
                    stats.add(record)
                    if streamer is not None:
                        num_streamed = _stream(streamer, rows.texts[0], num_streamed)
                self.stats = stats
        finally:
            self._lock.release()
        if streamer is not None:
            streamer.end()

    def _streamer_of(self, of_call: Any, input_ids: Tensor) -> Any:
        """The streamer of the call, or else the guest's."""
        if of_call is not None and self._streamer is not None and of_call is not self._streamer:
            raise InputError("generate and generate_with are given two streamers; leave one of them out")
        streamer = self._streamer if of_call is None else of_call
        if streamer is not None and len(input_ids) > 1:
            raise InputError(f"a streamer takes one text, got {len(input_ids)}; generate them one by one")
        return streamer

    def _stop_strings(self, strings: Any) -> list[StopStringCriteria]:
        """`generate` itself could not be told the tokenizer, so it never sees the strings."""
        if strings is None:
            return []
        if self._tokenizer is None:
            raise InputError("stop_strings are found by the tokenizer; give it as generate_with(tokenizer=...)")
        return [StopStringCriteria(self._tokenizer, strings)]


def next_seed() -> int:
    """A seed by torch's generator."""
    return int(torch.randint(LARGEST_SEED, ()).item())


def _stream(streamer: Any, text: RowText, num_streamed: int) -> int:
    """Put tokens behind those that were streamed, one by one, as `generate` does; how many have been by now."""
    tokens = text.token_ids[: text.num_until_end]
    for token in tokens[num_streamed:]:
        streamer.put(torch.tensor([token]))
    return len(tokens)
