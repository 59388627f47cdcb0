"""`record`: the target continues prompts, and both models label what it generated."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from time import perf_counter

from ..controller.errors import named
from ..controller.ranges import require_at_least
from ..runtime.build import plain_decoder
from ..runtime.pair import Pair, PairConfig
from ..runtime.sampling import Sampling
from .labels.recorder import RunConfig
from .measure.profile import ProfileConfig
from .pipeline import Take, TextSource, sha256_of, store_texts
from .prompts.prompt import Prompt, prompt_request
from .prompts.sources import PromptConfig, load_prompts
from .text import check_temperatures, text_row
from .trace import TextRow, TraceFolder


@dataclass(frozen=True)
class TextConfig:
    """How the target generates the texts that are recorded."""

    temperatures: tuple[float, ...] = (0.0, 0.6, 1.0)
    """Temperatures, dealt out to the prompts in turn"""
    top_p: float = 1.0
    """Nucleus cut of all texts, 1 for none"""
    max_tokens: int = 64
    """Tokens generated per prompt"""
    seed: int = 1
    """Seed of the first text; each text takes the next"""

    def __post_init__(self) -> None:
        check_temperatures("texts.temperatures", self.temperatures)
        with named("texts.top_p"):
            Sampling(top_p=self.top_p)
        with named("texts.seed"):
            Sampling(seed=self.seed)
        require_at_least("texts.max_tokens", self.max_tokens, 1)

    def sampling(self, number: int) -> Sampling:
        """Of the text of prompt `number`."""
        temperature = self.temperatures[number % len(self.temperatures)]
        return Sampling(temperature, top_p=self.top_p, seed=self.seed + number)


def record(
    out: Path,
    pair: PairConfig = PairConfig(),
    prompts: PromptConfig = PromptConfig(),
    texts: TextConfig = TextConfig(),
    run: RunConfig = RunConfig(),
    profile: ProfileConfig = ProfileConfig(),
) -> TraceFolder:
    """Generate a text per prompt and store all texts with their labels in the folder `out`; it is returned finished.

    An unfinished folder of the same settings is resumed. InputError where there are no prompts, one does not fit the
    target's context, or `out` holds anything else.
    """
    chosen = load_prompts(prompts)
    settings = {"prompts": asdict(prompts), "texts": asdict(texts)}
    digest = sha256_of(prompt.identity for prompt in chosen)
    documents = [prompt.document for prompt in chosen]
    some_sampled = any(not texts.sampling(number).is_greedy for number in range(len(chosen)))
    source = TextSource(settings, documents, digest, some_sampled, partial(_generator, chosen, texts))
    return store_texts(out, source, pair, run, profile, envelope_seed=texts.seed)


def _generator(prompts: Sequence[Prompt], texts: TextConfig, pair: Pair) -> Take:
    requests = [
        prompt_request(prompt, pair, texts.max_tokens, texts.sampling(number)) for number, prompt in enumerate(prompts)
    ]

    def generate(numbers: Sequence[int]) -> list[TextRow]:
        started = perf_counter()
        streams, _ = plain_decoder(pair).generate([requests[number] for number in numbers])
        decode_ms = (perf_counter() - started) * 1e3 / len(numbers)
        rows = []
        for number, stream in zip(numbers, streams, strict=True):
            names = {"domain": prompts[number].domain, "document": prompts[number].document}
            text_id = f"{requests[number].sampling.seed:08d}"
            row = text_row(requests[number], stream.token_ids, text_id=text_id, **names)
            rows.append(row._replace(decode_ms=decode_ms))
        return rows

    return generate
