"""The configuration of speculation: a selector or a tree, and how it is drafted."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..controller.contract import FIXED, WALK
from ..controller.errors import InputError
from ..controller.memory import MemoryConfig
from ..controller.ranges import require_above, require_between
from ..controller.trees.limits import LARGEST
from ..controller.trees.shapes import parse_paths

# Which limit bounds each number of a dynamic tree.
DYNAMIC = {"depth": "max_depth", "width": "width", "budget": "budget"}


@dataclass(frozen=True)
class MemoryOptions:
    """A memory of the drafter's errors in the text so far, which corrects its drafts.

    Whatever is not given is as the selector carries it, and without such a selector nothing is remembered unless a
    window is given."""

    window: int | None = None
    """Last committed tokens of a text that are remembered, those of its prompt included; 0 for no memory"""
    entries: int | None = None
    """Tokens remembered of each: those where the probabilities of target and drafter differ most"""
    eta: float | None = None
    """How far remembered differences of probability move the drafter's logits"""
    beta: float | None = None
    """How alike two of the drafter's hidden states must be: one counts exp(beta (cosine - 1))"""
    mass: float | None = None
    """Trust: where the states count so much in sum, the logits move half as far as they can"""

    def __post_init__(self) -> None:
        replace(MemoryConfig(), **self.given)

    @property
    def given(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}

    def over(self, own: MemoryConfig | None) -> MemoryConfig | None:
        """What to remember where a selector has its `own`; InputError for an option that would do nothing."""
        if own is None and self.given and self.window is None:
            raise InputError(
                f"memory.{next(iter(self.given))} does nothing without memory.window, for no selector is used that "
                "carries a memory; give that too, or leave it out"
            )
        settings = replace(own or MemoryConfig(), **self.given) if own or self.given else None
        return settings if settings is not None and settings.window else None


@dataclass(frozen=True)
class SpeculationConfig:
    """Which trees are drafted; with neither a selector nor a tree of any kind, decoding is plain."""

    selector: Path | None = None
    """Checkpoint folder of a learned selector; `reference` is the one that ships with the reference pair. Beside a
    verifier other than the walk, one of `train-shapes`, which chooses the (K, L1, L2) of every step's sampled tree"""
    tree: str | None = None
    """A static tree instead, as a list of paths: "[(0,), (1,), (0, 0)]" """
    dynamic: tuple[int, int, int] | None = None
    """A tree grown by the drafter's own confidence instead (EAGLE-2), (depth, width, budget): each level expands the
    `width` surest nodes by as many children, and the `budget` surest of all are verified"""
    sampled: tuple[int, int, int] | None = None
    """A sampled tree instead, (K, L1, L2): a trunk of L1 tokens, then K branches of L2; under the hybrid scheme L2 is
    0, and each token of the trunk has K - 1 candidates as siblings"""
    scheme: str | None = None
    """Drafting scheme of a static or dynamic tree, coupled (where none is given) or fixed, or of a sampled one:
    iid-paths, without-replacement, greedy-plus-one or hybrid; a selector brings its own. `auto` is the fastest there
    is: coupled, or the one that the verifier of a sampled tree is fastest under; beside a selector of sampled trees
    that has no verifier named, it names that"""
    verifier: str = "walk"
    """Verifier of a sampled tree, or of a selector's sampled trees; all but the walk keep the distribution of the text,
    but not the text of a seed"""
    lookup: bool = False
    """Draft a static tree from what followed the same tokens before, in the text or the datastore, without the drafter
    model (prompt lookup)"""
    datastore: tuple[Path, ...] = ()
    """UTF-8 text files that drafts are looked up in besides the text itself, by lookup or by a selector that drafts the
    text's n-grams"""
    ahead: int = 0
    """Tokens guessed ahead of the drafter model, which reads them together in one forward instead of one per level: by
    the smaller model of a stack, `pair.drafter`, else by the text's own n-grams and the datastore; 0 for none"""
    min_prob: float = 0.0
    """Nodes whose next-token maximum probability is below this are not expanded"""
    path_prob: float = 0.0
    """Branches whose cumulative path probability is below this are cut"""
    memory: MemoryOptions = MemoryOptions()
    theta_scale: float | None = None
    """Line search around a selector's tokens per millisecond, larger drafts less; where none is given, what replay
    tuned for the temperature nearest to each request's"""
    guard: bool = True
    """Turn speculation off while it is slower than plain decoding, and probe it again; with the walk alone, for under
    another verifier the text would then depend on the clock"""

    def __post_init__(self) -> None:
        require_between("speculation.min_prob", self.min_prob, 0, 1)
        require_between("speculation.path_prob", self.path_prob, 0, 1)
        require_between("speculation.ahead", self.ahead, 0, LARGEST.max_depth)
        if self.theta_scale is not None:
            require_above("speculation.theta_scale", self.theta_scale, 0)
        if self.dynamic is not None and len(self.dynamic) != len(DYNAMIC):
            raise InputError(f"speculation.dynamic is (depth, width, budget), got {self.dynamic}")
        for (name, limit), size in zip(DYNAMIC.items(), self.dynamic or (), strict=False):
            require_between(f"speculation.dynamic's {name}", size, 1, getattr(LARGEST, limit))
        if self.tree is not None:
            require_between("the nodes of speculation.tree", len(parse_paths(self.tree)), 1, LARGEST.budget)


def refuse_idle_options(config: SpeculationConfig) -> None:
    """InputError for an option that would change nothing beside the others."""
    by_hand = config.tree is not None or config.dynamic is not None
    learned, sampled = config.selector is not None, config.sampled is not None
    walks = config.verifier == WALK.name
    needs = {
        "lookup": (config.lookup, config.tree is not None, "a static tree, speculation.tree"),
        "ahead": (
            config.ahead > 0,
            config.dynamic is not None or learned or sampled,
            "speculation.selector or speculation.dynamic",
        ),
        "datastore": (
            bool(config.datastore),
            config.lookup or learned or config.ahead > 0,
            "speculation.lookup or speculation.ahead or speculation.selector",
        ),
        "min_prob": (config.min_prob > 0, by_hand, "speculation.tree or speculation.dynamic"),
        "path_prob": (config.path_prob > 0, by_hand, "speculation.tree or speculation.dynamic"),
        "memory": (
            bool(config.memory.given),
            by_hand or learned or sampled,
            "speculation.selector, tree, dynamic or sampled",
        ),
        "theta_scale": (config.theta_scale is not None, learned, "speculation.selector"),
        "verifier": (config.verifier != WALK.name, sampled or learned, "speculation.sampled or speculation.selector"),
        "guard": (
            not config.guard,
            (by_hand or learned) and walks,
            "the walk's speculation.selector, tree or dynamic",
        ),
        "scheme": (config.scheme is not None, by_hand or sampled, "speculation.tree, dynamic or sampled"),
    }
    for name, (is_given, is_used, need) in needs.items():
        if is_given and not is_used:
            raise InputError(f"speculation.{name} does nothing without {need}; give that too, or leave it out")
    if config.ahead and config.memory.window:
        raise InputError(
            "speculation.memory corrects a drafter that reads its own drafts, and under speculation.ahead it reads "
            "those of others; leave one of them out"
        )
    if config.lookup and config.memory.window:
        raise InputError(
            "speculation.memory corrects a drafter model, and speculation.lookup drafts without one; leave one of "
            "them out"
        )
    if config.lookup and config.scheme not in (None, FIXED.name):
        raise InputError(
            f"speculation.lookup drafts without the drafter's noise, under the fixed scheme, got {config.scheme!r}; "
            "leave speculation.scheme out"
        )
