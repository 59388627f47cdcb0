"""The `generate` command: continue one prompt."""

from dataclasses import dataclass

from ..controller.console import print_json
from ..controller.objective import nearest
from .pair import PairConfig, load_pair
from .request import Request
from .sampling import Sampling
from .speculation import SpeculationConfig, build_decoder


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


def generate(
    prompt: str,
    pair: PairConfig = PairConfig(),
    speculation: SpeculationConfig = SpeculationConfig(),
    text: TextOptions = TextOptions(),
) -> None:
    """Continue one prompt and print it.

    Args:
        prompt: The text to continue
        pair: The two models
        speculation: Which trees are drafted
        text: How the text is drawn
    """
    sampling = Sampling(text.temperature, text.top_k, text.top_p, text.seed)
    models = load_pair(pair, heads=True)
    decoder = build_decoder(models, speculation)
    request = Request(models.tokenizer(prompt)["input_ids"], text.max_tokens, sampling, text.stop)
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
