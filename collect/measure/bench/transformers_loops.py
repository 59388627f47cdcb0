"""transformers' own loops as runnable policies: `generate`, and assisted generation over a grid of its own options."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import GenerationConfig, PreTrainedModel

from ....controller.plans.grids import NUM_TRIALS
from ....runtime.engines.transformers.model import TransformersModel
from ....runtime.engines.transformers.pair import transformers_model
from ....runtime.engines.transformers.support import num_rows
from ....runtime.pair import Pair
from .measure import run_interleaved, tokens_per_second
from .policies import Job, Policy, Run

ASSISTED = "transformers assisted"


class Assistance(NamedTuple):
    """The options of assisted generation; the defaults are transformers' own."""

    num_assistant_tokens: int = 20
    assistant_confidence_threshold: float = 0.4
    num_assistant_tokens_schedule: str = "constant"

    @property
    def text(self) -> str:
        """As a table shows them."""
        return f"tokens={self[0]} threshold={self[1]:g} {self[2]}"


# As many trials as every policy has; the first is used by an untuned run.
GRID = (
    Assistance(),
    Assistance(20, 0.2),
    Assistance(20, 0.6),
    Assistance(8, 0.4),
    Assistance(3, 0.0),
    Assistance(5, 0.0),
    Assistance(8, 0.0),
    Assistance(5, 0.0, "heuristic"),
)
assert len(GRID) == NUM_TRIALS


def runs_in_transformers(pair: Pair) -> bool:
    """Whether the models of a pair can be run by transformers' own loops."""
    return pair.target.engine == TransformersModel.engine


def generate_policy(pair: Pair) -> Policy:
    """`generate` without drafts."""
    return Policy("transformers.generate", "-", "", lambda job: generated(pair, [job]))


def assisted_policy(pair: Pair, options: Assistance) -> Policy:
    """Assisted generation by the pair's drafter. What it learns from call to call stays in its own configuration."""
    assistant = neutral_config(**options._asdict())
    return Policy(ASSISTED, "-", options.text, lambda job: generated(pair, [job], assistant))


def assisted_speeds(pair: Pair, grid: Sequence[Assistance], jobs: Sequence[Job], label: str) -> list[float]:
    """Tokens per second of each option of a grid, by measured time, for the latency table does not model its loop."""
    runs = run_interleaved([assisted_policy(pair, options) for options in grid], jobs, label)
    return [tokens_per_second(of_options) for of_options in runs]


def tuned_assisted(pair: Pair, jobs: Sequence[Job], label: str) -> list[Policy]:
    """Assisted generation at its fastest options on `jobs`; at its defaults without jobs. Empty for a pair whose
    embeddings differ in width."""
    target, drafter = models_of(pair)
    if num_rows(target) != num_rows(drafter):
        return []
    chosen = 0
    if jobs:
        chosen = int(np.argmax(assisted_speeds(pair, GRID, jobs, label)))
    return [assisted_policy(pair, GRID[chosen])]


def generated(pair: Pair, jobs: Sequence[Job], assistant: GenerationConfig | None = None, **loop: Any) -> Run:
    """transformers' own loop, or another `loop` that its `generate` takes, over one padded batch, all texts as long as
    the longest and drawn as the first is; the tokens that were asked for count, one text after another. Its noise is
    its own, so texts differ at T > 0.

    What the target's folder asks for in generation_config.json (penalties, beams, cuts) does not count: every loop is
    to draw from the same distribution.
    """
    width, max_tokens = max(len(job.prompt_ids) for job in jobs), max(job.max_tokens for job in jobs)
    padding = [width - len(job.prompt_ids) for job in jobs]
    ids = [[0] * pad + job.prompt_ids for pad, job in zip(padding, jobs, strict=True)]
    seen = [[0] * pad + [1] * (width - pad) for pad in padding]
    sampling = jobs[0].sampling
    drawn: dict[str, Any] = {"do_sample": False}
    if not sampling.is_greedy:
        drawn = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
    target, drafter = models_of(pair)
    torch.manual_seed(sampling.seed)
    with with_config(target, neutral_config()), with_config(drafter, assistant or drafter.generation_config):
        started = perf_counter()
        with torch.inference_mode():
            model: Any = target
            output = model.generate(
                torch.tensor(ids, device=pair.target.device),
                attention_mask=torch.tensor(seen, device=pair.target.device),
                max_new_tokens=max_tokens,
                **({"assistant_model": drafter} if assistant else {}),
                **drawn,
                **loop,
            )
        texts = zip(output[:, width:].tolist(), jobs, strict=True)
        tokens = [token for row, job in texts for token in row[: job.max_tokens]]
        return Run(tokens, perf_counter() - started, None)


def models_of(pair: Pair) -> tuple[PreTrainedModel, PreTrainedModel]:
    """Target and drafter as transformers' loops run them; InputError for those of another engine."""
    target, drafter = (transformers_model(each, "transformers' loop") for each in (pair.target, pair.drafter))
    return target.model, drafter.model


def neutral_config(**options: Any) -> GenerationConfig:
    """A configuration that changes no distribution and ends no text."""
    return GenerationConfig(pad_token_id=0, eos_token_id=None, **options)


@contextmanager
def with_config(model: PreTrainedModel, config: GenerationConfig) -> Iterator[None]:
    """The model with another generation configuration, for as long."""
    own = model.generation_config
    model.generation_config = config
    try:
        yield
    finally:
        model.generation_config = own
