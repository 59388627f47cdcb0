"""The shapes that `make-pair --inflate` grows a pair to, by the target's number of parameters.

Widths are multiples of 256, the block of GGUF's K-quants. Layers are at least the reference pair's, and heads of 64 as
its are: twice as many as a model with heads of 128 has, for the same weights and the same cache.
"""

from typing import NamedTuple

from .settings import ModelSize


class GrownShape(NamedTuple):
    """Both models of a pair; the drafter has an eighth to a twelfth of the target's parameters."""

    target: ModelSize
    drafter: ModelSize


GROWN_SHAPES = {
    "100m": GrownShape(ModelSize(38, 512, 1280, 8, 2), ModelSize(4, 512, 1024, 8, 2)),
    "1b": GrownShape(ModelSize(38, 1536, 4352, 24, 8), ModelSize(8, 1024, 3072, 16, 4)),
    "8b": GrownShape(ModelSize(38, 4096, 13568, 64, 16), ModelSize(16, 2048, 8192, 32, 8)),
}
