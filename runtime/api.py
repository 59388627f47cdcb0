"""The Python interface: `treewright.load` makes a model of a pair, `Model.generate` continues prompts with it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, Unpack, overload

from ..controller.errors import InputError
from .build import build_decoder
from .constraints.constrain import Constrainer
from .constraints.settings import Constraints
from .generate import TextOptions
from .pair import REFERENCE, Pair, PairConfig, load_pair
from .request import Request
from .speculation import SpeculationConfig

MAX_BATCH = 8  # requests decoded together, as in `serve`; the largest batch that configs/profile.yaml measures


@dataclass(frozen=True)
class Generation:
    """One continuation: what follows the prompt, and its tokens with the end token that it may have."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str  # stop: an end token or a stop string; length: max_tokens
    block_efficiency: float  # tokens per step; 1 in plain decoding


class Options(TypedDict, total=False):  # keywords of `Model.generate`
    max_tokens: int
    temperature: float
    top_k: int
    top_p: float
    seed: int
    stop: str | Sequence[str]
    constraints: Constraints


class Model:
    """A pair with its decoder; `load` makes one. Not for use from several threads at once."""

    def __init__(self, pair: Pair, speculation: SpeculationConfig):
        self.pair = pair
        self._decoder = build_decoder(pair, speculation, max_batch=MAX_BATCH)
        self._constrainer = Constrainer.of(pair)

    @overload
    def generate(self, prompts: str, **options: Unpack[Options]) -> Generation: ...
    @overload
    def generate(self, prompts: list[str] | tuple[str, ...], **options: Unpack[Options]) -> list[Generation]: ...
    def generate(
        self,
        prompts: str | list[str] | tuple[str, ...],
        *,
        max_tokens: int = TextOptions.max_tokens,
        temperature: float = TextOptions.temperature,
        top_k: int = TextOptions.top_k,
        top_p: float = TextOptions.top_p,
        seed: int = TextOptions.seed,
        stop: str | Sequence[str] = (),
        constraints: Constraints = Constraints(),
    ) -> Generation | list[Generation]:
        """Continue one prompt, or each of several together, in their order.

        A text is a function of its prompt, these options and the target: it does not depend on the other prompts.
        Temperature 0 is greedy; top_k 0 and top_p 1 keep all tokens. `constraints` are penalties, biases, bans and a
        grammar, such as a JSON schema. Raises InputError for an option out of range, a grammar that cannot be followed,
        an empty prompt, and one that does not fit the target's context.
        """
        if not isinstance(prompts, (str, list, tuple)):
            raise InputError(f"prompts are a text or a list of texts, got {prompts!r}")
        strings = (stop,) if isinstance(stop, str) else tuple(stop)
        text = TextOptions(temperature, top_k, top_p, max_tokens, seed, strings)
        texts = [prompts] if isinstance(prompts, str) else prompts
        requests = [Request(self.pair.encode(one), max_tokens, text.sampling, strings) for one in texts]
        results = self._run([self._constrainer.constrained(request, constraints) for request in requests])
        return results[0] if isinstance(prompts, str) else results

    def _run(self, requests: Sequence[Request]) -> list[Generation]:
        streams = self._decoder.open_streams(requests)
        num_steps, lengths = [0] * len(streams), [0] * len(streams)
        for _ in self._decoder.steps(requests, streams, MAX_BATCH):
            for row, stream in enumerate(streams):
                num_steps[row] += len(stream.token_ids) > lengths[row]
                lengths[row] = len(stream.token_ids)
        return [
            Generation(stream.text, tuple(stream.token_ids), str(stream.finish_reason), length / steps)
            for stream, length, steps in zip(streams, lengths, num_steps, strict=True)
        ]


def load(
    target: str | os.PathLike[str] = REFERENCE,
    drafter: str | os.PathLike[str] = REFERENCE,
    *,
    selector: str | os.PathLike[str] | None = None,
    dynamic: tuple[int, int, int] | None = None,
    dtype: str = PairConfig.dtype,
    device: str = PairConfig.device,
    threads: int = PairConfig.threads,
) -> Model:
    """Load a pair by folders or hub ids, `reference` for the embedded one, and build its decoder.

    Trees come from a learned `selector` (a checkpoint folder, which needs this machine's latency table from `treewright
    profile`), or are `dynamic`, (depth, width, budget) as in `--speculation.dynamic`; without either decoding is plain.
    Raises InputError where a folder, a device or a table is missing, or parts do not fit together.
    """
    pair = PairConfig(os.fspath(target), os.fspath(drafter), dtype, device, threads)
    folder = None if selector is None else Path(os.path.expanduser(selector))
    return Model(load_pair(pair, heads=True), SpeculationConfig(folder, dynamic=dynamic))
