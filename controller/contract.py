"""Which drafting scheme, shape policy and verifier may work together without changing the target's text.

A *scheme* says how children are proposed, a *shape policy* which information its decisions use, a *verifier* which it
tolerates. The walk follows the target's own token, so it is exact for every fixed tree and tolerates any decision.
Verifiers that divide by the drafter's probability are exact only on average over the draws, so a decision about a
sampled token must not depend on that token. Unsound triples are refused when they are configured.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum

from .errors import InputError


class Information(IntEnum):
    """The information that a shape decision about a token uses; each level includes the ones before it."""

    PREDICTABLE = 0  # only what was known before any sibling was sampled: child counts are fixed first
    ADAPTED = 1  # also the siblings already sampled, but never the token decided about
    ANYTHING = 2  # the token itself, its probability, even the sampling noise

    @property
    def words(self) -> str:
        """For a sentence about decisions."""
        return ("what was known before any sibling", "earlier siblings", "anything")[self]


@dataclass(frozen=True)
class Scheme:
    """A drafting scheme's side of the contract."""

    name: str
    sampled: bool  # children are random draws that a verifier divides by, not candidates fixed given the noise


@dataclass(frozen=True)
class VerifierTerms:
    """A verifier's side of the contract."""

    name: str
    schemes: tuple[str, ...]  # the one it was the fastest under first, which is what `auto` stands for
    tolerates: Information


COUPLED = Scheme("coupled", sampled=False)
FIXED = Scheme("fixed", sampled=False)
IID_PATHS = Scheme("iid-paths", sampled=True)  # a trunk, then K branches, each token an independent draw
WITHOUT_REPLACEMENT = Scheme("without-replacement", sampled=True)  # siblings are distinct draws, in draw order
GREEDY_PLUS_ONE = Scheme("greedy-plus-one", sampled=True)  # the top k - 1, and one draw from all other tokens
HYBRID = Scheme("hybrid", sampled=True)  # i.i.d. paths with free side branches

AUTO = "auto"  # in place of a scheme: the fastest that there is for what is asked
RANKED_SCHEMES = {scheme.name: scheme for scheme in (COUPLED, FIXED)}  # of the walk
SAMPLED_SCHEMES = {scheme.name: scheme for scheme in (IID_PATHS, WITHOUT_REPLACEMENT, GREEDY_PLUS_ONE, HYBRID)}
ALL_SCHEMES = RANKED_SCHEMES | SAMPLED_SCHEMES


def _verifier(name: str, tolerates: Information, *schemes: Scheme) -> VerifierTerms:
    return VerifierTerms(name, tuple(scheme.name for scheme in schemes), tolerates)


# The walk is lossless for every fixed tree, hence for every sampled one.
WALK = _verifier("walk", Information.ANYTHING, *ALL_SCHEMES.values())
# Those that accept more come first: the first sound one is what a refusal names.
VERIFIERS = {
    terms.name: terms
    for terms in (
        _verifier("traversal", Information.ADAPTED, IID_PATHS, WITHOUT_REPLACEMENT),
        _verifier("traversal-unmerged", Information.PREDICTABLE, IID_PATHS),
        _verifier("spectr", Information.PREDICTABLE, IID_PATHS),
        _verifier("khisti", Information.PREDICTABLE, IID_PATHS),
        _verifier("specinfer", Information.ADAPTED, IID_PATHS),
        _verifier("rrsw", Information.ADAPTED, WITHOUT_REPLACEMENT, IID_PATHS),
        _verifier("spectr-fixed", Information.ADAPTED, IID_PATHS),
        _verifier("naive-tree", Information.ADAPTED, IID_PATHS, WITHOUT_REPLACEMENT),
        _verifier("block", Information.ADAPTED, IID_PATHS, WITHOUT_REPLACEMENT),
        _verifier("naive", Information.ADAPTED, IID_PATHS, WITHOUT_REPLACEMENT),
        _verifier("greedy-plus-one", Information.PREDICTABLE, GREEDY_PLUS_ONE),
        _verifier("hybrid-traversal", Information.ADAPTED, HYBRID),
        _verifier("hybrid-block", Information.ADAPTED, HYBRID),
        _verifier("hybrid-naive", Information.ADAPTED, HYBRID),
        WALK,
    )
}


def unsound_reason(
    scheme: Scheme,
    information: Information,
    verifier: VerifierTerms,
    known: Collection[VerifierTerms] = tuple(VERIFIERS.values()),
) -> str | None:
    """Why this triple would not be lossless, with a sound alternative among `known`; None where it is sound."""
    if scheme.name not in verifier.schemes:
        problem = f"verifier '{verifier.name}' is not lossless for tokens drafted under the '{scheme.name}' scheme"
    elif information > verifier.tolerates:
        problem = (
            f"verifier '{verifier.name}' allows shape decisions that use {verifier.tolerates.words}, "
            f"but this shape policy uses {information.words}"
        )
    else:
        return None
    sound = [other.name for other in known if scheme.name in other.schemes and information <= other.tolerates]
    if sound:
        return f"{problem}; use verifier '{sound[0]}' instead"
    return f"{problem}; use the 'coupled' scheme with verifier 'walk' instead, which allows any shape policy"


def require_sound(scheme: Scheme, information: Information, verifier: VerifierTerms) -> None:
    """Refuse an unsound triple: InputError with the reason and a sound alternative."""
    reason = unsound_reason(scheme, information, verifier)
    if reason is not None:
        raise InputError(reason)
