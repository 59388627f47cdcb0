"""Engines and adapters as one contract test runs them: tokens in, tokens out, with a drafter or without."""

import atexit
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Protocol

import pytest
import tiny
import torch
import vllm_toys
from treewright import generate_with
from treewright.controller.contract import COUPLED
from treewright.controller.policies.selector import Selector
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.trees.limits import TreeLimits
from treewright.runtime.decoder import Decoder
from treewright.runtime.drafters.language_model import LanguageModelDrafter
from treewright.runtime.engines.transformers.model import TransformersModel
from treewright.runtime.request import Request
from treewright.runtime.sampling import Sampling
from treewright.runtime.target import Target
from treewright.runtime.verification.walk import WalkVerifier

LIMITS = TreeLimits(max_depth=4, width=3, frontier=4, budget=10)


@dataclass(frozen=True)
class Options:
    """How the texts of one call are drawn; each text has the seed of its number more."""

    max_tokens: int = 24
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 1
    end: int | None = None  # a token that ends a text

    def sampling(self, number: int) -> Sampling:
        return Sampling(self.temperature, self.top_k, self.top_p, self.seed + number)


class Run(Protocol):
    """What a call gives."""

    texts: list[list[int]]  # generated tokens, the end token included
    num_steps: int  # forwards of the target for them


class Hosted(Protocol):
    """One engine or adapter over a small target and drafter of its own."""

    vocabulary_size: int
    context_length: int
    refusals: tuple[type[Exception], ...]  # what it raises for a prompt that it refuses

    def run(self, prompts: Sequence[Sequence[int]], options: Options, *, drafts: bool) -> Any:
        """Continue the prompts together, as a `Run`."""
        ...

    def abandon(self, prompts: Sequence[Sequence[int]], options: Options, *, after: int) -> None:
        """Begin the same with a drafter, and give up once `after` tokens have come."""
        ...


@dataclass(frozen=True)
class Result:
    """A `Run`."""

    texts: list[list[int]]
    num_steps: int


class Looped:
    """A target and a drafter under our own loop."""

    refusals: tuple[type[Exception], ...] = (ValueError,)

    def __init__(self, target: Any, drafter: Any):
        self.vocabulary_size, self.context_length = target.vocabulary_size, target.context_length
        self._target, self._drafter = target, drafter

    def _decoder(self, options: Options, drafts: bool) -> Decoder:
        ends = frozenset() if options.end is None else frozenset({options.end})
        drafter = LanguageModelDrafter(self._drafter, COUPLED) if drafts else None
        selector = Selector(ConfidenceScorer(), LIMITS) if drafts else None
        words = tiny.detokeniser()
        return Decoder(Target(self._target), WalkVerifier(), words, ends, drafter=drafter, selector=selector)

    def _requests(self, prompts: Sequence[Sequence[int]], options: Options) -> list[Request]:
        request = Request((), options.max_tokens, options.sampling(0))
        return [
            replace(request, prompt_ids=prompt, sampling=options.sampling(number))
            for number, prompt in enumerate(prompts)
        ]

    def run(self, prompts: Sequence[Sequence[int]], options: Options, *, drafts: bool) -> Result:
        streams, stats = self._decoder(options, drafts).generate(self._requests(prompts, options))
        return Result([stream.token_ids for stream in streams], stats.num_steps)

    def abandon(self, prompts: Sequence[Sequence[int]], options: Options, *, after: int) -> None:
        decoder, requests = self._decoder(options, True), self._requests(prompts, options)
        streams = decoder.open_streams(requests)
        for _ in decoder.steps(requests, streams):
            if sum(len(stream.token_ids) for stream in streams) >= after:
                return


class Counting:
    """A streamer that gives up once so many tokens have come."""

    def __init__(self, after: int):
        self._left = after

    def put(self, tokens: torch.Tensor) -> None:
        if tokens.dim() == 1:  # the prompt is [1, L]
            self._left -= 1
        if self._left <= 0:
            raise KeyboardInterrupt

    def end(self) -> None:
        raise AssertionError("a text that was given up has no end")


class Guest:
    """A target and a drafter of transformers inside `generate`. Its seeds are of a call; a row's noise is its own."""

    refusals: tuple[type[Exception], ...] = (ValueError,)

    def __init__(self, target: TransformersModel, drafter: TransformersModel):
        self.vocabulary_size, self.context_length = target.vocabulary_size, target.context_length
        self._model: Any = target.model
        depth, width, budget = LIMITS.max_depth, LIMITS.width, LIMITS.budget
        self._guests = {False: generate_with(), True: generate_with(drafter.model, dynamic=(depth, width, budget))}

    def _generate(self, prompts: Sequence[Sequence[int]], options: Options, guest: Any, **more: Any) -> torch.Tensor:
        length = max(map(len, prompts))
        padded = torch.tensor([[0] * (length - len(prompt)) + list(prompt) for prompt in prompts], dtype=torch.int64)
        shown = torch.tensor([[0] * (length - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        drawn = {"temperature": options.temperature, "top_k": options.top_k, "top_p": options.top_p}
        torch.manual_seed(options.seed)
        return self._model.generate(
            padded,
            attention_mask=shown,
            max_new_tokens=options.max_tokens,
            eos_token_id=options.end,
            pad_token_id=0,
            do_sample=options.temperature > 0,
            custom_generate=guest,
            **drawn if options.temperature else {},
            **more,
        )[:, length:]

    def run(self, prompts: Sequence[Sequence[int]], options: Options, *, drafts: bool) -> Result:
        guest = self._guests[drafts]
        rows = self._generate(prompts, options, guest).tolist()
        texts = [row[: row.index(options.end) + 1] if options.end in row else row for row in rows]
        return Result(texts, guest.stats.num_steps)

    def abandon(self, prompts: Sequence[Sequence[int]], options: Options, *, after: int) -> None:
        with suppress(KeyboardInterrupt):
            self._generate(prompts[:1], options, self._guests[True], streamer=Counting(after))


class Served:
    """Toys inside vLLM. One engine lives in a process at a time, so one with drafts and one without take turns."""

    context_length = 256

    def __init__(self, folder: Path):
        refused: Any = import_module("vllm.exceptions").VLLMValidationError
        self.refusals: tuple[type[Exception], ...] = (ValueError, refused)
        self.vocabulary_size = vllm_toys.VOCABULARY_SIZE
        self._target = vllm_toys.write_model(folder / "target")
        self._drafter = vllm_toys.write_model(folder / "drafter", noise=0.03)
        self._opened = ExitStack()
        atexit.register(self._opened.close)
        self._llm: Any = None
        self._drafts: bool | None = None

    def _engine(self, drafts: bool) -> Any:
        if drafts is not self._drafts:
            self._opened.close()
            trees = vllm_toys.trees("whole", self._target, self._drafter, depth=LIMITS.max_depth, width=LIMITS.width)
            options = trees if drafts else {"model": self._target, "worker_cls": vllm_toys.WORKER}
            context: Any = vllm_toys.engine(**options)
            self._llm, self._drafts = self._opened.enter_context(context), drafts
        return self._llm

    def _params(self, options: Options, count: int) -> list[Any]:
        make: Any = import_module("vllm").SamplingParams
        drawn = {"temperature": options.temperature, "top_k": options.top_k, "top_p": options.top_p}
        ends = [] if options.end is None else [options.end]
        return [
            make(seed=options.seed + number, max_tokens=options.max_tokens, stop_token_ids=ends, **drawn)
            for number in range(count)
        ]

    def run(self, prompts: Sequence[Sequence[int]], options: Options, *, drafts: bool) -> Result:
        llm = self._engine(drafts)
        (before,) = llm.collective_rpc("treewright_counters")
        asked = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
        outputs = llm.generate(asked, self._params(options, len(asked)), use_tqdm=False)
        (after,) = llm.collective_rpc("treewright_counters")
        return Result([list(each.outputs[0].token_ids) for each in outputs], after["steps"] - before["steps"])

    def abandon(self, prompts: Sequence[Sequence[int]], options: Options, *, after: int) -> None:
        engine = self._engine(True).llm_engine
        names = [f"given up {number}" for number in range(len(prompts))]
        for name, prompt, params in zip(names, prompts, self._params(options, len(prompts)), strict=True):
            engine.add_request(name, {"prompt_token_ids": list(prompt)}, params)
        while sum(len(each.outputs[0].token_ids) for each in engine.step()) < after:
            pass
        engine.abort_request(names)


def transformers() -> Hosted:
    return Looped(tiny.llama(), tiny.llama(noise=0.02))


def generate() -> Hosted:
    return Guest(tiny.llama(), tiny.llama(noise=0.02))


def llamacpp() -> Hosted:
    import gguf_models

    return Looped(*gguf_models.models())


def vllm() -> Hosted:
    return Served(Path(mkdtemp(prefix="treewright-toys-")))


# How each is made, in the environment that has it.
HOSTED = {"transformers": transformers, "generate": generate, "llamacpp": llamacpp, "vllm": vllm}
MARKS = {"llamacpp": pytest.mark.engine, "vllm": pytest.mark.engine}
