"""What is asked of a server, and how often: the `--load.*` options."""

from dataclasses import dataclass
from pathlib import Path

from ....controller.errors import InputError, named
from ....controller.ranges import LARGEST_SEED, require_at_least, require_between, require_some
from ....runtime.pair_config import REFERENCE
from ....runtime.sampling import Sampling
from ....runtime.serve.protocol import MAX_TOKENS


@dataclass(frozen=True)
class LoadConfig:
    """What is asked, by how many clients at once."""

    concurrency: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    """Clients at once, each with one streamed request at a time"""
    rounds: int = 8
    """Rounds of texts for each of those numbers, the interval's grain; one more is for warming up"""
    texts_per_client: int = 3
    """Texts of a round, times the clients; at least 8"""
    source: str = REFERENCE
    """Prompts: split `bench` of a .jsonl file, a `datasets` name, or `reference`"""
    prompts: int = 24
    """How many of them"""
    max_tokens: int = 48
    """Tokens of a text, give or take a half; the end-of-text token does not end it"""
    temperature: float = 0.6
    """Of every text"""
    seed: int = 10_000
    """Seed of the first text"""
    out: Path | None = None
    """File of the report, written after every number of clients"""

    def __post_init__(self) -> None:
        require_some("load.concurrency", self.concurrency)
        if min(self.concurrency) < 1 or len(set(self.concurrency)) < len(self.concurrency):
            raise InputError(f"load.concurrency is of distinct numbers from 1 up, got {list(self.concurrency)}")
        require_at_least("load.rounds", self.rounds, 2)  # one has no interval
        require_at_least("load.texts_per_client", self.texts_per_client, 1)
        require_at_least("load.prompts", self.prompts, 1)
        require_between("load.max_tokens", self.max_tokens, 2, MAX_TOKENS // 2)
        require_between("load.seed", self.seed, 0, LARGEST_SEED)
        with named("load.temperature"):
            Sampling(self.temperature)
        if self.out is not None and (self.out.is_dir() or not self.out.parent.is_dir()):
            raise InputError(f"{self.out} cannot be written: give a file in a folder that exists")
