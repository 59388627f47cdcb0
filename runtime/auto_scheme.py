"""`speculation.scheme=auto`: what was the fastest, wherever something is left to choose."""

from dataclasses import replace

from ..controller.contract import AUTO, VERIFIERS, WALK
from ..controller.errors import InputError
from .selectors import chooses_shapes, read_shapes
from .speculation import SpeculationConfig
from .verification import get_verifier

# Of a selector of sampled trees, which always chooses for block: the faster ones first.
SHAPED_FASTEST = ("spectr", "specinfer", "naive-tree", "block")


def with_scheme(config: SpeculationConfig) -> SpeculationConfig:
    """The configuration with what `auto` stands for: coupled for a tree that is not sampled, because the target's noise
    is the drafter's too in every loop of ours, at every temperature; for a sampled tree the first scheme of its
    verifier; and for a selector of sampled trees a verifier. InputError where none of that is left to choose."""
    if config.scheme != AUTO:
        return config
    if config.sampled is not None:
        if config.verifier == WALK.name:
            raise InputError(
                "speculation.scheme=auto chooses by the verifier, and the walk takes a sampled tree of any scheme; "
                "give it a tree as speculation.dynamic, which is faster, or name another speculation.verifier"
            )
        get_verifier(config.verifier)  # refuses a name that is none
        return replace(config, scheme=VERIFIERS[config.verifier].schemes[0])
    if config.selector is not None:
        if config.verifier != WALK.name or not chooses_shapes(config.selector):
            raise InputError(
                f"speculation.scheme=auto has nothing to choose: selector {config.selector} is for one scheme, and the "
                "verifier is known; leave speculation.scheme out"
            )
        known = read_shapes(config.selector, tokenizer_sha256=None).config.verifiers
        return replace(config, scheme=None, verifier=next(name for name in SHAPED_FASTEST if name in known))
    by_hand = config.dynamic is not None or (config.tree is not None and not config.lookup)
    return replace(config, scheme=WALK.schemes[0]) if by_hand else config
