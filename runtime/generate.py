"""The `generate` command: continue one prompt."""

from dataclasses import dataclass

from ..controller.console import print_json
from ..controller.errors import InputError
from ..controller.pricing.objective import nearest
from ..controller.ranges import require_at_least
from .build import build_decoder
from .constraints.constrain import Constrainer
from .constraints.settings import Constraints
from .pair import PairConfig, load_pair
from .request import Request
from .sampling import Sampling
from .speculation import SpeculationConfig


@dataclass(frozen=True)
class TextOptions:
    """How the text is drawn."""

    temperature: float = 0.6
    """0 is greedy"""
    top_k: int = 0
    """Keep the k most likely tokens; 0 keeps all"""
    top_p: float = 1.0
    """Keep the smallest set of tokens with this much probability"""
    max_tokens: int = 64
    """Longest continuation"""
    seed: int = 0
    """The same seed gives the same text, with speculation or without where the walk verifies"""
    stop: tuple[str, ...] = ()
    """Strings that end the text"""

    def __post_init__(self) -> None:
        require_at_least("text.max_tokens", self.max_tokens, 1)
        if not all(self.stop):
            raise InputError("text.stop holds an empty string, which would end every text; leave it out")
        self.sampling  # noqa: B018 - checks the rest

    @property
    def sampling(self) -> Sampling:
        return Sampling(self.temperature, self.top_k, self.top_p, self.seed)


def generate(
    prompt: str,
    pair: PairConfig = PairConfig(),
    speculation: SpeculationConfig = SpeculationConfig(),
    text: TextOptions = TextOptions(),
    constraints: Constraints = Constraints(),
) -> None:
    """Continue one prompt and print it.

    Args:
        prompt: The text to continue
        pair: The two models
        speculation: Which trees are drafted
        text: How the text is drawn
        constraints: Penalties, biases, bans, and a grammar that the text follows
    """
    models = load_pair(pair, heads=True)
    decoder = build_decoder(models, speculation)
    request = Request(models.encode(prompt), text.max_tokens, text.sampling, text.stop)
    request = Constrainer.of(models).constrained(request, constraints)
    (stream,), stats = decoder.generate([request])
    print(prompt + stream.text)
    print_json(
        {
            "command": "generate",
            "text": stream.text,
            "finish_reason": stream.finish_reason,
            "tokens": stats.num_tokens,
            "steps": stats.num_steps,
            "block_efficiency": round(stats.block_efficiency, 3),
            "tokens_per_second": round(stats.num_tokens / stats.total_ms * 1e3, 1),
        }
        | ({"theta_scale": nearest(scales, text.temperature)} if (scales := decoder.theta_scales) else {})
    )
