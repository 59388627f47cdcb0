"""From a configuration to a stack of drafters."""

from ....controller.contract import WALK, Scheme
from ....controller.errors import InputError
from ....controller.pricing.latency import LatencyTable
from ....controller.pricing.stacks import LEAST_PROB, least_prob
from ....controller.trees.limits import TreeLimits
from ...pair import Pair
from ...speculation import SpeculationConfig
from ..language_model import LanguageModelDrafter
from ..ngrams.datastore import Datastore
from ..ngrams.slots import SlotNgrams
from .model import ModelStage
from .ngrams import NgramStage
from .stacked import StackedDrafter


def stacked_drafter(
    pair: Pair,
    scheme: Scheme,
    limits: TreeLimits,
    ahead: int,
    *,
    table: LatencyTable | None = None,
    datastore: Datastore | None = None,
) -> StackedDrafter:
    """The pair's drafter above its smaller one, or where it has none, above the text's n-grams and a datastore; at most
    `ahead` nodes are guessed at once."""
    texts = SlotNgrams(datastore) if limits.ngrams or pair.smaller is None else None
    if pair.smaller is not None:
        stage = ModelStage(LanguageModelDrafter(pair.smaller, scheme), ahead)
    else:
        assert texts is not None
        stage = NgramStage(ahead, LEAST_PROB if table is None else least_prob(table), texts)
    return StackedDrafter(pair.drafter, scheme, stage, limits.max_depth, texts=texts, drafts_ngrams=limits.ngrams)


def check_stack(pair: Pair, config: SpeculationConfig) -> None:
    """InputError where nothing can be drafted ahead, and for what does nothing in a stack."""
    if pair.smaller is not None and not config.ahead:
        raise InputError(
            f"the first of pair.drafter {pair.config.drafter!r} drafts nothing without speculation.ahead, the tokens "
            "that it drafts for the second to read; give that too, or one drafter"
        )
    if not config.ahead:
        return
    if config.sampled is not None or config.verifier != WALK.name:
        raise InputError(
            "speculation.ahead stacks drafters, and the tokens of a sampled tree are draws from one drafter's own "
            "rows; leave it out, or use the walk with speculation.selector or speculation.dynamic"
        )
    if pair.head is not None:
        raise InputError(
            f"drafter {pair.config.drafter!r} is {pair.head.kind}, which reads nothing ahead of the target; leave "
            "speculation.ahead out"
        )
    if config.datastore and pair.smaller is not None and config.selector is None:
        raise InputError(
            f"the first of pair.drafter {pair.config.drafter!r} drafts ahead, and nothing asks speculation.datastore; "
            "leave it out"
        )
