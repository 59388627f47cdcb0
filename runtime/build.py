"""From a configuration to a decoder: the drafting policy and the verifier."""

import logging
from dataclasses import replace
from pathlib import Path

from ..controller.contract import COUPLED, FIXED, WALK, Scheme
from ..controller.errors import InputError
from ..controller.learned.shape_menu import scheme_of
from ..controller.memory import MemoryConfig
from ..controller.policies.base import ShapePolicy
from ..controller.policies.delayed import sampled_shape
from ..controller.policies.eagle2 import eagle2
from ..controller.policies.guard import Guard
from ..controller.policies.learned import learned_selector, tuned_scales
from ..controller.policies.learned_shapes import learned_shapes
from ..controller.policies.selector import Selector
from ..controller.policies.sequoia import static_selector
from ..controller.pricing.latency import LatencyTable
from ..controller.pricing.objective import Objective
from ..controller.trees.limits import TreeLimits
from ..controller.trees.shapes import parse_paths
from .auto_scheme import with_scheme
from .decoder import Decoder
from .drafters.base import Drafter
from .drafters.language_model import LanguageModelDrafter
from .drafters.lookup import LookupDrafter, read_datastore
from .drafters.memory import remembering
from .drafters.ngrams.datastore import Datastore
from .drafters.stacks.build import check_stack, stacked_drafter
from .loop import Observer
from .memory import carried_memory, require_states, warn_unused
from .pair import Pair
from .pair_config import REFERENCE
from .prices import prices, stored_prices
from .schemes.ranked import get_ranked_scheme
from .schemes.sampled import get_sampled_scheme
from .selectors import read_selector, read_shapes
from .speculation import SpeculationConfig, refuse_idle_options
from .table_fit import FitTotals, TableWatch
from .target import Target
from .verification import get_verifier
from .verification.spectr import MOST_DRAWS
from .verification.walk import WalkVerifier

log = logging.getLogger(__name__)


def build_decoder(
    pair: Pair, config: SpeculationConfig, fit: FitTotals | None = None, *, max_batch: int = 1
) -> Decoder:
    """The decoder of a configuration; InputError where it cannot be built or would not be lossless.

    If it uses a latency table, it counts in `fit` how well the table predicts, and warns at once if the table does not
    cover batches of `max_batch`.
    """
    config = with_scheme(config)
    refuse_idle_options(config)
    sources = {
        "a selector": config.selector,
        "a static tree": config.tree,
        "a dynamic tree": config.dynamic,
        "a sampled tree": config.sampled,
    }
    given = [source for source, value in sources.items() if value is not None]
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)} are both given; choose one of them")
    check_stack(pair, config)
    if pair.head is not None and (config.selector is not None or config.sampled is not None):
        raise InputError(
            f"drafter {pair.config.drafter!r} is {pair.head.kind}, which drafts static and dynamic trees only, got "
            f"{given[0]}; give one as speculation.tree or speculation.dynamic"
        )
    if config.sampled is not None:
        scheme = get_sampled_scheme(config.scheme or "no speculation.scheme")
        if config.verifier == "spectr-fixed" and config.sampled[0] > MOST_DRAWS:
            raise InputError(
                f"verifier 'spectr-fixed' takes at most {MOST_DRAWS} paths, got {config.sampled[0]}; use 'spectr'"
            )
        shape = sampled_shape(scheme, *config.sampled)
        return tree_decoder(pair, scheme, shape, verifier=config.verifier, memory=config.memory.over(None))
    if config.selector is not None:
        if config.verifier != WALK.name:
            return _shaped(pair, config, config.selector)
        return _learned(pair, config, config.selector, fit, max_batch)
    if config.tree is not None or config.dynamic is not None:
        return _by_hand(pair, config, fit, max_batch)
    if pair.config.drafter != REFERENCE:
        log.warning(
            "nothing is drafted, for neither a selector nor a tree is asked for: decoding is plain, without the drafter"
        )
    return plain_decoder(pair)


def _learned(pair: Pair, config: SpeculationConfig, folder: Path, fit: FitTotals | None, max_batch: int) -> Decoder:
    checkpoint, table = read_selector(folder, tokenizer_sha256=pair.tokenizer_sha256), prices(pair, config.ahead)
    scales = tuned_scales(checkpoint) if config.theta_scale is None else {0.0: config.theta_scale}
    selector = learned_selector(checkpoint, table, theta_scale=scales)
    if config.datastore and not selector.limits.ngrams and (pair.smaller is not None or not config.ahead):
        raise InputError(f"selector {folder} drafts no n-grams, so a datastore would not be asked; train one that does")
    if config.ahead:
        warn_unused(checkpoint, "a stack of drafters")
    memory = config.memory.over(None if config.ahead else carried_memory(pair, checkpoint))
    scheme = get_ranked_scheme(checkpoint.config.scheme)
    return _watched(pair, config, scheme, selector, table, fit, max_batch, memory)


def _shaped(pair: Pair, config: SpeculationConfig, folder: Path) -> Decoder:
    """The loop under sampled trees whose shapes a selector chooses, and the verifier they are for."""
    checkpoint, table = read_shapes(folder, tokenizer_sha256=pair.tokenizer_sha256), prices(pair)
    if config.datastore:
        raise InputError(f"verifier '{config.verifier}' takes drawn tokens alone; leave speculation.datastore out")
    policy = learned_shapes(checkpoint, config.verifier, table, theta_scale=config.theta_scale or 1.0)
    scheme, memory = scheme_of(config.verifier), config.memory.over(None)
    return tree_decoder(pair, scheme, policy, verifier=config.verifier, memory=memory)


def _by_hand(pair: Pair, config: SpeculationConfig, fit: FitTotals | None, max_batch: int) -> Decoder:
    """The loop under a static or dynamic tree, which needs no latency table; the guard uses one if there is one."""
    selector = _selector_by_hand(config)
    if config.lookup:
        policy = Guard(selector) if config.guard else selector
        datastore = read_datastore(config.datastore, pair.tokenizer)
        return tree_decoder(pair, FIXED, policy, drafter=LookupDrafter(datastore))
    most = pair.head.max_depth if pair.head is not None else None
    if most is not None and selector.limits.max_depth > most:
        raise InputError(
            f"drafter {pair.config.drafter!r} drafts {most} tokens ahead, but the tree asked for is "
            f"{selector.limits.max_depth} deep; give one of that depth"
        )
    table = stored_prices(pair, config.ahead) if config.guard else None
    scheme = get_ranked_scheme(config.scheme or COUPLED.name)
    return _watched(pair, config, scheme, selector, table, fit, max_batch, config.memory.over(None))


def _selector_by_hand(config: SpeculationConfig) -> Selector:
    if config.tree is not None:
        return static_selector(parse_paths(config.tree), min_prob=config.min_prob, path_prob=config.path_prob)
    assert config.dynamic is not None
    return eagle2(TreeLimits.dynamic(*config.dynamic), min_prob=config.min_prob, path_prob=config.path_prob)


def _watched(
    pair: Pair,
    config: SpeculationConfig,
    scheme: Scheme,
    selector: Selector,
    table: LatencyTable | None,
    fit: FitTotals | None,
    max_batch: int,
    memory: MemoryConfig | None,
) -> Decoder:
    """The loop behind the guard, if asked for, watching how well the table predicts, if there is one."""
    if table is not None and max_batch > table.batches[-1]:
        log.warning(
            "the latency table was measured for batches up to %d and guesses the price of larger ones; run `treewright "
            "profile` with --sizes.batches up to %d",
            table.batches[-1],
            max_batch,
        )
    datastore, drafter = read_datastore(config.datastore, pair.tokenizer), None
    if config.ahead:
        selector = replace(selector, all_depths=True)
        drafter = stacked_drafter(pair, scheme, selector.limits, config.ahead, table=table, datastore=datastore)
    policy = Guard(selector, table) if config.guard else selector
    watch = TableWatch(table, fit) if table is not None else None
    return tree_decoder(
        pair,
        scheme,
        policy,
        watch,
        drafter=drafter,
        datastore=datastore,
        memory=memory,
        objective=selector.objective,
    )


def plain_decoder(pair: Pair) -> Decoder:
    """The loop without drafter: one token per step."""
    return Decoder(Target(pair.target), WalkVerifier(), pair.detokeniser, pair.end_tokens)


def tree_decoder(
    pair: Pair,
    scheme: Scheme,
    selector: ShapePolicy,
    observer: Observer | None = None,
    *,
    verifier: str = WALK.name,
    drafter: Drafter | None = None,
    datastore: Datastore | None = None,
    memory: MemoryConfig | None = None,
    objective: Objective | None = None,
) -> Decoder:
    """The loop with the pair's drafter under `scheme`, or another `drafter`; a `datastore` adds to the sequence's own
    n-grams, and a `memory` corrects the drafter. InputError for a memory where there is nothing that it could."""
    head = pair.head if drafter is None else None
    if memory is not None:
        require_states(pair)
    target, errors = remembering(pair.target, memory, head.hidden_layers if head is not None else ())
    if head is not None:
        drafter = head.make_drafter(target, scheme)
    elif drafter is None:
        ngrams = selector.limits.ngrams
        drafter = LanguageModelDrafter(pair.drafter, scheme, ngrams=ngrams, datastore=datastore, memory=errors)
    return Decoder(
        target,
        get_verifier(verifier),
        pair.detokeniser,
        pair.end_tokens,
        drafter=drafter,
        selector=selector,
        observer=observer,
        objective=objective,
    )
