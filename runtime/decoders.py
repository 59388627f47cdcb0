"""The loops of a pair: plain decoding, and trees under a law, a shape policy and a verifier."""

from collections.abc import Mapping

from ..controller.contract import WALK, LawTerms
from ..controller.datastore import Datastore
from ..controller.policies.base import ShapePolicy
from .batch import Observer
from .decode import Decoder
from .drafters.base import Drafter
from .drafters.language_model import LanguageModelDrafter
from .pair import Pair
from .target import Target
from .verification import get_verifier
from .verification.walk import WalkVerifier


def plain_decoder(pair: Pair) -> Decoder:
    """The loop without drafter: one token per step."""
    return Decoder(Target(pair.target), WalkVerifier(), pair.tokenizer.backend_tokenizer, pair.end_tokens)


def tree_decoder(
    pair: Pair,
    law: LawTerms,
    selector: ShapePolicy,
    observer: Observer | None = None,
    *,
    verifier: str = WALK.name,
    drafter: Drafter | None = None,
    datastore: Datastore | None = None,
    theta_scales: Mapping[float, float] | None = None,
) -> Decoder:
    """The loop with the pair's drafter under `law`, or another `drafter`; a `datastore` stands beside the text's own
    n-grams."""
    head = pair.head if drafter is None else None
    target = Target(pair.target, head.hidden_layers if head is not None else ())
    if head is not None:
        drafter = head.make_drafter(target, law)
    elif drafter is None:
        drafter = LanguageModelDrafter(pair.drafter, law, ngrams=selector.limits.ngrams, datastore=datastore)
    return Decoder(
        target,
        get_verifier(verifier),
        pair.tokenizer.backend_tokenizer,
        pair.end_tokens,
        drafter=drafter,
        selector=selector,
        observer=observer,
        theta_scales=theta_scales,
    )
