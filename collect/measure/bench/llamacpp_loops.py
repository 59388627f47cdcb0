"""llama.cpp's own server as runnable policies: plain, with a draft model, and with prompt lookup, each over its own
options. The package xllamacpp brings it, with a llama.cpp of its own."""

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch

from ....controller.plans.grids import NUM_TRIALS
from ....runtime.pair import Pair
from ....runtime.pair_config import PairConfig
from .measure import run_interleaved, tokens_per_second
from .policies import Job, Policy, Run

PACKAGE = "xllamacpp"
PLAIN, DRAFT, LOOKUP = "llama.cpp server", "llama.cpp draft model", "llama.cpp lookup"


class ServerOptions(NamedTuple):
    """How the server drafts: by a chain of a draft model, or by what followed the text's last `match` tokens before."""

    family: str = PLAIN
    most: int = 0  # tokens drafted
    least_prob: float = 0.0  # of a drafted token
    match: int = 0

    @property
    def text(self) -> str:
        """As a table shows them."""
        return {
            PLAIN: "",
            DRAFT: f"n_max={self.most} p_min={self.least_prob:g}",
            LOOKUP: f"size_n={self.match} size_m={self.most}",
        }[self.family]


DRAFTS = ((3, 0.0), (1, 0.0), (2, 0.0), (4, 0.0), (8, 0.0), (8, 0.5), (16, 0.75), (4, 0.75))
LOOKUPS = ((4, 2), (2, 2), (8, 2), (4, 3), (8, 3), (16, 3), (4, 4), (48, 12))
GRIDS = (
    tuple(ServerOptions(DRAFT, most, prob) for most, prob in DRAFTS),
    tuple(ServerOptions(LOOKUP, most, match=match) for most, match in LOOKUPS),
)
assert all(len(grid) == NUM_TRIALS for grid in GRIDS)


def is_installed() -> bool:
    """Whether the server's package is there."""
    return find_spec(PACKAGE) is not None


def server_policies(pair: Pair, jobs: Sequence[Job], label: str) -> list[Policy]:
    """The server plain, and each of its ways to speculate at its fastest options on `jobs`, by measured time; at the
    first of its grid without jobs."""
    chosen = [ServerOptions()]
    for grid in GRIDS:
        best = 0
        if jobs:
            runs = run_interleaved([server_policy(pair, options) for options in grid], jobs, label)
            best = int(np.argmax([tokens_per_second(of_options) for of_options in runs]))
        chosen.append(grid[best])
    return [server_policy(pair, options) for options in chosen]


def server_policy(pair: Pair, options: ServerOptions) -> Policy:
    """The server's noise is its own, so texts differ at T > 0."""
    run = _runner(pair.config, options, torch.get_num_threads())
    return Policy(options.family, "-", options.text, run, same_text=False)


def _runner(config: PairConfig, options: ServerOptions, threads: int) -> Any:
    @cache
    def server() -> Any:  # started by the first run, which is for warming up
        library = import_module(PACKAGE)
        return library.Server(_parameters(library, config, options, threads))

    def run(job: Job) -> Run:
        request = _request(job)
        started = perf_counter()
        answer = server().handle_completions(request)
        seconds = perf_counter() - started
        assert answer["timings"]["predicted_n"] == job.max_tokens, "the server has ended a text"
        return Run([0] * job.max_tokens, seconds, None)  # which tokens they are it does not say

    return run


def _request(job: Job) -> dict[str, Any]:
    """Every loop is to draw from the same distribution, and to read the whole prompt."""
    cuts = {"top_k": job.sampling.top_k, "top_p": job.sampling.top_p, "min_p": 0.0, "typical_p": 1.0}
    return {
        "prompt": job.prompt_ids,
        "n_predict": job.max_tokens,
        "temperature": job.sampling.temperature,
        "seed": job.sampling.seed % 2**32,
        "ignore_eos": True,
        "cache_prompt": False,
        "repeat_penalty": 1.0,
        **cuts,
    }


def _parameters(library: Any, config: PairConfig, options: ServerOptions, threads: int) -> Any:
    """The settings of the pair: files, cache, attention, GPU layers and threads."""
    engine = config.llamacpp
    kind = getattr(library.ggml_type, f"GGML_TYPE_{engine.cache_type.upper()}")
    parameters = library.CommonParams()
    parameters.model.path = config.target
    parameters.n_ctx, parameters.n_parallel, parameters.n_gpu_layers = 4096, 1, engine.gpu_layers
    parameters.cache_type_k = parameters.cache_type_v = kind
    flash = library.llama_flash_attn_type
    parameters.flash_attn_type = (
        flash.LLAMA_FLASH_ATTN_TYPE_ENABLED if engine.flash_attention else flash.LLAMA_FLASH_ATTN_TYPE_DISABLED
    )
    parameters.port, parameters.verbosity, parameters.warmup = 0, -1, False
    drafting, kinds = parameters.speculative, library.common_speculative_type
    cpus = [parameters.cpuparams, parameters.cpuparams_batch]
    if options.family == DRAFT:
        drafting.types = [kinds.COMMON_SPECULATIVE_TYPE_DRAFT_SIMPLE]
        draft = drafting.draft
        draft.mparams.path = config.drafter
        draft.n_max, draft.n_min, draft.p_min = options.most, 0, options.least_prob
        draft.n_gpu_layers = engine.gpu_layers
        draft.cache_type_k = draft.cache_type_v = kind
        cpus += [draft.cpuparams, draft.cpuparams_batch]
    elif options.family == LOOKUP:
        drafting.types = [kinds.COMMON_SPECULATIVE_TYPE_NGRAM_SIMPLE]
        lookup = drafting.ngram_simple
        lookup.size_n, lookup.size_m, lookup.min_hits = options.match, options.most, 1
    for cpu in cpus:
        cpu.n_threads = threads
    return parameters
