"""The Python interface: `treewright.load` makes a model of a pair, `Model.generate` continues prompts with it."""

import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, Unpack, overload

from .build import build_decoder
from .decoder import raise_first_error
from .generate import TextOptions
from .pair import REFERENCE, Pair, PairConfig, load_pair
from .request import Request
from .speculation import SpeculationConfig

# Requests decoded together; the default of `serve`, and the largest batch that configs/profile.yaml measures.
MAX_BATCH = 8


@dataclass(frozen=True)
class Generation:
    """One continuation."""

    text: str
    """What follows the prompt"""
    token_ids: tuple[int, ...]
    """Its tokens, an end token included"""
    finish_reason: str
    """`stop` at an end token or a stop string, `length` at max_tokens"""
    block_efficiency: float
    """Tokens per step: 1 in plain decoding"""


class Options(TypedDict, total=False):
    """Keywords of `Model.generate`, for type checkers."""

    max_tokens: int
    temperature: float
    top_k: int
    top_p: float
    seed: int
    stop: str | Sequence[str]


class Model:
    """A target with its drafter and the decoder that `load` has built. Not for use from several threads at once."""

    def __init__(self, pair: Pair, speculation: SpeculationConfig):
        self.pair = pair
        self._decoder = build_decoder(pair, speculation, max_batch=MAX_BATCH)

    @overload
    def generate(self, prompts: str, **options: Unpack[Options]) -> Generation: ...

    @overload
    def generate(self, prompts: list[str] | tuple[str, ...], **options: Unpack[Options]) -> list[Generation]: ...

    def generate(
        self,
        prompts: str | list[str] | tuple[str, ...],
        *,
        max_tokens: int = 64,
        temperature: float = 0.6,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int = 0,
        stop: str | Sequence[str] = (),
    ) -> Generation | list[Generation]:
        """Continue one prompt, or each of several, up to eight together; the results are in the order of the prompts.

        A text is a function of its prompt, these options and the target: it does not depend on the other prompts.
        Temperature 0 is greedy; top_k 0 and top_p 1 keep all tokens. Raises InputError for an option out of range, an
        empty prompt, and one that does not fit the target's context.
        """
        strings = (stop,) if isinstance(stop, str) else tuple(stop)
        text = TextOptions(temperature, top_k, top_p, max_tokens, seed, strings)
        texts = [prompts] if isinstance(prompts, str) else prompts
        results = self._run([Request(self.pair.encode(one), max_tokens, text.sampling, strings) for one in texts])
        return results[0] if isinstance(prompts, str) else results

    def _run(self, requests: Sequence[Request]) -> list[Generation]:
        streams = self._decoder.open_streams(requests)
        num_steps = [0] * len(requests)
        batch, waiting = self._decoder.open_batch(), deque(zip(requests, streams, strict=True))
        while waiting or len(batch):
            while waiting and len(batch) < MAX_BATCH:
                batch.join(*waiting.popleft())
            before = [len(stream.token_ids) for stream in streams]
            batch.step()
            num_steps = [
                steps + (len(stream.token_ids) > length)
                for steps, stream, length in zip(num_steps, streams, before, strict=True)
            ]
        raise_first_error(requests, streams)
        return [
            Generation(stream.text, tuple(stream.token_ids), str(stream.finish_reason), len(stream.token_ids) / steps)
            for stream, steps in zip(streams, num_steps, strict=True)
        ]


def load(
    target: str | os.PathLike[str] = REFERENCE,
    drafter: str | os.PathLike[str] = REFERENCE,
    *,
    selector: str | os.PathLike[str] | None = None,
    tree: str | None = None,
    dynamic: tuple[int, int, int] | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    threads: int = 0,
) -> Model:
    """Load a pair by folders or hub ids, `reference` for the embedded one, and build its decoder.

    Trees come from a learned `selector` (a checkpoint folder, which needs this machine's latency table from `treewright
    profile`), a static `tree` or a `dynamic` one, as in `--speculation.*`; without any of them decoding is plain.
    Raises InputError where a folder, a device or a table is missing, or parts do not fit together.
    """
    pair = PairConfig(os.fspath(target), os.fspath(drafter), dtype, device, threads)
    folder = None if selector is None else Path(os.path.expanduser(selector))
    return Model(load_pair(pair, heads=True), SpeculationConfig(folder, tree, dynamic))
