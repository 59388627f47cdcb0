"""How llama.cpp runs a pair: the `pair.llamacpp.*` options."""

from dataclasses import dataclass

from ....controller.errors import InputError
from ....controller.ranges import require_at_least, require_between

MOST_IDS = 256  # sequence ids of a llama.cpp context
CACHE_TYPES = ("f32", "f16", "bf16", "q8_0")
LEAST_CONTEXT, MOST_CONTEXT = 256, 10_000_000  # llama.cpp counts in 32 bits, and rounds up


@dataclass(frozen=True)
class LlamaCppConfig:
    """How llama.cpp runs both models; its defaults are the most exact settings."""

    texts: int = 8
    """Most texts decoded together; the tree of each may have 256 / texts leaves"""
    context: int = 0
    """Tokens that the cache of each model holds, of all texts together; 0 takes what `texts` of the model's own length
    need, 16384 at most"""
    gpu_layers: int = 0
    """Layers of each model on a GPU, where llama.cpp was built for one; -1 takes all"""
    flash_attention: bool = False
    """Faster on long texts, but its logits are rounded two orders of magnitude more coarsely"""
    cache_type: str = "f32"
    """Number format of cached keys and values: f32, f16, bf16, or with flash attention q8_0"""

    def __post_init__(self) -> None:
        require_between("pair.llamacpp.texts", self.texts, 1, MOST_IDS)
        if self.context:
            require_between("pair.llamacpp.context", self.context, LEAST_CONTEXT, MOST_CONTEXT)
        require_at_least("pair.llamacpp.gpu_layers", self.gpu_layers, -1)
        if self.cache_type not in CACHE_TYPES:
            raise InputError(f"pair.llamacpp.cache_type is one of {', '.join(CACHE_TYPES)}, got {self.cache_type!r}")
        if self.cache_type == "q8_0" and not self.flash_attention:
            raise InputError(
                "pair.llamacpp.cache_type q8_0 needs flash attention, which is off; set "
                "pair.llamacpp.flash_attention=true, or take f16"
            )
