"""Where the texts to record come from: the target writes them now, or a trace folder holds them."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol, Self

import numpy as np
import pyarrow as pa

from ..controller.errors import InputError, named
from ..controller.ranges import require_at_least
from ..runtime.build import plain_decoder
from ..runtime.pair import Pair
from ..runtime.request import Request
from ..runtime.sampling import Sampling
from .prompts.prompt import Prompt, prompt_request
from .prompts.sources import PromptConfig, load_prompts
from .text import Text, check_temperatures
from .trace import TraceHeader, read_texts

log = logging.getLogger(__name__)

Take = Callable[[Sequence[int]], list[Text]]


class TextSource(Protocol):
    """Texts by number; the same on every machine of a run and when it is resumed."""

    @property
    def settings(self) -> dict[str, Any]:
        """What was asked for, as the header of the trace folder tells it."""
        ...

    @property
    def documents(self) -> list[str]:
        """The name of each text's document."""
        ...

    @property
    def digest(self) -> str:
        """A hash of all that the texts depend on besides the settings."""
        ...

    def open(self, pair: Pair) -> Take:
        """What takes texts by their numbers; InputError where the pair does not fit one of them."""
        ...


@dataclass(frozen=True)
class TextConfig:
    """How the target writes the texts that are recorded."""

    temperatures: tuple[float, ...] = (0.0, 0.6, 1.0)
    """Temperatures, dealt out to the prompts in turn"""
    top_p: float = 1.0
    """Nucleus cut of all texts, 1 for none"""
    max_tokens: int = 64
    """Tokens written per prompt"""
    seed: int = 1
    """Seed of the first text; each text takes the next"""

    def __post_init__(self) -> None:
        check_temperatures("texts.temperatures", self.temperatures)
        with named("texts.top_p"):
            Sampling(top_p=self.top_p)
        with named("texts.seed"):
            Sampling(seed=self.seed)
        require_at_least("texts.max_tokens", self.max_tokens, 1)


@dataclass(frozen=True)
class PromptedTexts:
    """The target continues prompts, some at once."""

    settings: dict[str, Any]
    prompts: list[Prompt]
    texts: TextConfig

    @classmethod
    def load(cls, prompts: PromptConfig, texts: TextConfig) -> Self:
        """InputError in one sentence where there are no prompts."""
        return cls({"prompts": asdict(prompts), "texts": asdict(texts)}, load_prompts(prompts), texts)

    @property
    def documents(self) -> list[str]:
        return [prompt.document for prompt in self.prompts]

    @property
    def digest(self) -> str:
        return _sha256(prompt.identity for prompt in self.prompts)

    def open(self, pair: Pair) -> Take:
        requests = [self._request(number, pair) for number in range(len(self.prompts))]

        def write(numbers: Sequence[int]) -> list[Text]:
            started = perf_counter()
            streams, _ = plain_decoder(pair).generate([requests[number] for number in numbers])
            decode_ms = (perf_counter() - started) * 1e3 / len(numbers)
            return [
                _written(self.prompts[number], requests[number], stream.token_ids, decode_ms)
                for number, stream in zip(numbers, streams, strict=True)
            ]

        return write

    def _request(self, number: int, pair: Pair) -> Request:
        texts = self.texts
        temperature = texts.temperatures[number % len(texts.temperatures)]
        sampling = Sampling(temperature, top_p=texts.top_p, seed=texts.seed + number)
        return prompt_request(self.prompts[number], pair, texts.max_tokens, sampling)


@dataclass(frozen=True)
class StoredTexts:
    """A trace folder's texts, read again."""

    folder: Path
    header: TraceHeader
    table: pa.Table  # columns of `schema.TEXTS`

    @classmethod
    def load(cls, folder: Path) -> Self:
        """InputError in one sentence where there are none, or none with tokens."""
        header, table = read_texts(folder)
        if not table.num_rows:
            raise InputError(f"{folder} holds no texts yet; relabel it once there are some")
        return cls(folder, header, table)

    @property
    def settings(self) -> dict[str, Any]:
        return {"relabel": {"pair": self.header.pair, "schema_version": self.header.schema_version}}

    @property
    def documents(self) -> list[str]:
        return self.table["document"].to_pylist()

    @property
    def digest(self) -> str:
        return _sha256(row for batch in self.table.to_batches(1024) for row in batch.to_pylist())

    def open(self, pair: Pair) -> Take:
        if self.header.tokenizer_sha256 != pair.tokenizer_sha256:
            raise InputError(
                f"{self.folder} holds texts of the pair {self.header.pair!r}, whose tokenizer differs from that of "
                f"{pair.name!r}; relabel them with models of the tokenizer they were written with"
            )
        if self.header.target_sha256 not in ("", pair.target.fingerprint):
            log.warning(
                "the texts of %s were generated by other weights than %s has, or in a number format that rounds them "
                "otherwise: the labels will be of texts that this target would not generate",
                self.folder,
                pair.config.target,
            )
        longest = int(np.diff(self.table["tokens"].combine_chunks().offsets.to_numpy()).max())
        if longest > pair.target.context_length:
            raise InputError(
                f"{self.folder} holds a text of {longest} tokens, but the target's context holds "
                f"{pair.target.context_length}; relabel with the target that wrote it"
            )
        return lambda numbers: [Text.from_row(row) for row in self.table.take(list(numbers)).to_pylist()]


def _written(prompt: Prompt, request: Request, token_ids: list[int], decode_ms: float) -> Text:
    return Text(
        text_id=f"{request.sampling.seed:08d}",
        domain=prompt.domain,
        document=prompt.document,
        tokens=[*request.prompt_ids, *token_ids],
        prompt_length=len(request.prompt_ids),
        sampling=request.sampling,
        decode_ms=decode_ms,
    )


def _sha256(rows: Iterable[dict[str, Any]]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row).encode())
    return digest.hexdigest()
