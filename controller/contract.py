"""Which drafting law, shape policy and verifier may work together without changing the target's text.

A *law* says how children are proposed, a *shape policy* says what its decisions look at, a *verifier* says what it
tolerates. The walk follows the target's own token, so it is exact for every fixed tree and tolerates any decision.
Verifiers that divide by the drafter's probability are exact only on average over the draws, so a decision about a
sampled token must not look at that token. Unsound triples are refused when they are configured.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum

from .errors import InputError


class Looks(IntEnum):
    """What a shape decision about a token looks at; each level includes the ones before it."""

    PREDICTABLE = 0  # only what was known before any sibling was drawn: child counts are fixed first
    ADAPTED = 1  # also the siblings already drawn, but never the token decided about
    ANYTHING = 2  # the token itself, its probability, even the sampling noise

    @property
    def words(self) -> str:
        """For a sentence about decisions."""
        return ("what was known before any sibling", "earlier siblings", "anything")[self]


@dataclass(frozen=True)
class LawTerms:
    """A drafting law's side of the contract."""

    name: str
    sampled: bool  # children are random draws that a verifier divides by, not candidates fixed given the noise


@dataclass(frozen=True)
class VerifierTerms:
    """A verifier's side of the contract."""

    name: str
    laws: frozenset[str]
    tolerates: Looks


COUPLED = LawTerms("coupled", sampled=False)
FIXED = LawTerms("fixed", sampled=False)
IID_PATHS = LawTerms("iid-paths", sampled=True)  # a trunk, then K branches, each token an independent draw
WITHOUT_REPLACEMENT = LawTerms("without-replacement", sampled=True)  # siblings are distinct draws, in draw order
GREEDY_PLUS_ONE = LawTerms("greedy-plus-one", sampled=True)  # the top k - 1, and one draw from all other tokens
HYBRID = LawTerms("hybrid", sampled=True)  # i.i.d. paths with free side branches

LAWS = {law.name: law for law in (COUPLED, FIXED)}  # of the walk
SAMPLED_LAWS = {law.name: law for law in (IID_PATHS, WITHOUT_REPLACEMENT, GREEDY_PLUS_ONE, HYBRID)}
ALL_LAWS = LAWS | SAMPLED_LAWS


def _verifier(name: str, tolerates: Looks, *laws: LawTerms) -> VerifierTerms:
    return VerifierTerms(name, frozenset(law.name for law in laws), tolerates)


# The walk is lossless for every fixed tree, hence for every drawn one.
WALK = _verifier("walk", Looks.ANYTHING, *ALL_LAWS.values())
# Those that accept more come first: the first sound one is what a refusal names.
VERIFIERS = {
    terms.name: terms
    for terms in (
        _verifier("traversal", Looks.ADAPTED, IID_PATHS, WITHOUT_REPLACEMENT),
        _verifier("traversal-unmerged", Looks.PREDICTABLE, IID_PATHS),
        _verifier("spectr", Looks.PREDICTABLE, IID_PATHS),
        _verifier("khisti", Looks.PREDICTABLE, IID_PATHS),
        _verifier("specinfer", Looks.ADAPTED, IID_PATHS),
        _verifier("rrsw", Looks.ADAPTED, IID_PATHS, WITHOUT_REPLACEMENT),
        _verifier("spectr-fixed", Looks.ADAPTED, IID_PATHS),
        _verifier("naive-tree", Looks.ADAPTED, IID_PATHS, WITHOUT_REPLACEMENT),
        _verifier("block", Looks.ADAPTED, IID_PATHS, WITHOUT_REPLACEMENT),
        _verifier("naive", Looks.ADAPTED, IID_PATHS, WITHOUT_REPLACEMENT),
        _verifier("greedy-plus-one", Looks.PREDICTABLE, GREEDY_PLUS_ONE),
        _verifier("hybrid-traversal", Looks.ADAPTED, HYBRID),
        _verifier("hybrid-block", Looks.ADAPTED, HYBRID),
        _verifier("hybrid-naive", Looks.ADAPTED, HYBRID),
        WALK,
    )
}


def unsound_reason(
    law: LawTerms, looks: Looks, verifier: VerifierTerms, known: Collection[VerifierTerms] = tuple(VERIFIERS.values())
) -> str | None:
    """Why this triple would not be lossless, with a sound alternative among `known`; None where it is sound."""
    if law.name not in verifier.laws:
        problem = f"verifier '{verifier.name}' is not lossless for tokens drafted under the '{law.name}' law"
    elif looks > verifier.tolerates:
        problem = (
            f"verifier '{verifier.name}' tolerates shape decisions that look at {verifier.tolerates.words}, "
            f"but this shape policy looks at {looks.words}"
        )
    else:
        return None
    sound = [other.name for other in known if law.name in other.laws and looks <= other.tolerates]
    if sound:
        return f"{problem}; use verifier '{sound[0]}' instead"
    return f"{problem}; use the 'coupled' law with verifier 'walk' instead, which allows any shape policy"


def require_sound(law: LawTerms, looks: Looks, verifier: VerifierTerms) -> None:
    """Refuse an unsound triple: InputError with the reason and a sound alternative."""
    reason = unsound_reason(law, looks, verifier)
    if reason is not None:
        raise InputError(reason)
