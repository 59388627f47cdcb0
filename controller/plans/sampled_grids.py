"""The sampled trees under comparison: for every verifier and scheme that go together, a grid of (K, L1, L2).

Like those of `grids`, with as many trials each. Replay has recorded candidates and no draws, so these are tuned live
only.
"""

from functools import partial

from ..checkpoint import ShapesCheckpoint
from ..contract import HYBRID, IID_PATHS, SAMPLED_SCHEMES, VERIFIERS, Scheme, VerifierTerms
from ..learned.shape_menu import TRAVERSAL, scheme_of
from ..policies.delayed import sampled_shape
from ..policies.learned_shapes import learned_shapes
from ..pricing.latency import LatencyTable
from .grids import NUM_TRIALS
from .plan import PolicyPlan
from .setting import DECIMALS
from .tuned import PolicySettings

LEARNED_SHAPES = "learned shapes"
SHAPES = ((2, 1, 2), (2, 0, 2), (2, 0, 3), (3, 0, 2), (4, 0, 2), (2, 2, 2), (3, 1, 3), (4, 2, 3))
TRUNKS = ((2, 3, 0), (2, 1, 0), (2, 2, 0), (2, 4, 0), (2, 6, 0), (3, 2, 0), (3, 4, 0), (4, 3, 0))
# For verifiers that use one draw per node: they are best on one path, where replacement makes no difference.
CHAINS = ((1, 3, 0), (1, 1, 0), (1, 2, 0), (1, 4, 0), (1, 5, 0), (1, 6, 0), (1, 7, 0), (1, 8, 0))
CHAIN_VERIFIERS = ("naive", "block")
# On a trunk of one path, Traversal equals block verification, and the walk needs no sampled candidates: the fixed
# scheme has them for free.
LEFT_OUT = (("hybrid-traversal", HYBRID), ("walk", HYBRID))


def verifier_grids() -> dict[tuple[str, str], list[PolicyPlan]]:
    """The plans of every verifier by (verifier, scheme)."""
    grids = {}
    for verifier in VERIFIERS.values():
        schemes = (IID_PATHS,) if verifier.name in CHAIN_VERIFIERS else SAMPLED_SCHEMES.values()
        for scheme in schemes:
            if scheme.name in verifier.schemes and (verifier.name, scheme) not in LEFT_OUT:
                shapes = TRUNKS if scheme == HYBRID else CHAINS if verifier.name in CHAIN_VERIFIERS else SHAPES
                assert len(shapes) == NUM_TRIALS
                grids[verifier.name, scheme.name] = [_plan(verifier, scheme, shape) for shape in shapes]
    return grids


def shaped_plans(checkpoint: ShapesCheckpoint, table: LatencyTable) -> dict[tuple[str, str], list[PolicyPlan]]:
    """The one plan of every verifier whose shapes the checkpoint chooses, by (family, scheme)."""
    return {
        (family := f"{verifier}, {LEARNED_SHAPES}", scheme := scheme_of(verifier).name): [
            PolicyPlan(family, scheme, {}, partial(learned_shapes, checkpoint, verifier, table), verifier)
        ]
        for verifier in checkpoint.config.verifiers
    }


def fixed_plan(checkpoint: ShapesCheckpoint, verifier: str, temperature: float, top_p: float) -> PolicyPlan | None:
    """The tree that was the best of all at every step on the texts by which the checkpoint's choice was tuned; None
    where there were none of this sampling, or where no tree was better than none."""
    for row in [*checkpoint.metrics.get("programme", ()), *checkpoint.metrics.get("traversal", ())]:
        is_of = row.get("verifier", TRAVERSAL) == verifier
        if is_of and (row["temperature"], row["top_p"]) == (round(temperature, DECIMALS), round(top_p, DECIMALS)):
            num_paths, trunk_length, branch_length = row["trees"]["fixed"]
            if trunk_length + branch_length:
                return _plan(VERIFIERS[verifier], scheme_of(verifier), (num_paths, trunk_length, branch_length))
    return None


def _plan(verifier: VerifierTerms, scheme: Scheme, shape: tuple[int, int, int]) -> PolicyPlan:
    settings: PolicySettings = {"K": shape[0], "L1": shape[1], "L2": shape[2]}
    return PolicyPlan(verifier.name, scheme.name, settings, partial(sampled_shape, scheme, *shape), verifier.name)
