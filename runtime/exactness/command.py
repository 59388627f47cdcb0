"""The `check` command: which drafting schemes, shape decisions and verifiers go together, and the proof of any one."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from typing import TypeVar

from ...controller.console import print_json, print_table, track
from ...controller.contract import ALL_SCHEMES, COUPLED, VERIFIERS, Information, Scheme, unsound_reason
from ...controller.errors import InputError
from ...controller.ranges import require_at_least
from ..verification import get_verifier
from .drafting import every_run
from .emission import emission, total_variation
from .growth import GROWTHS, Shape, drafts_under, program
from .models import ToyPair

Item = TypeVar("Item")
MOST_DRAFTS, MOST_TEXTS = 100_000, 1_000_000


@dataclass(frozen=True)
class ToyConfig:
    """The drafts to enumerate, of random toy models."""

    vocabulary_size: int = 3
    """Tokens"""
    width: int = 2
    """Paths behind the trunk, or children of a node where siblings are distinct"""
    trunk: int = 1
    """Levels of a single draw"""
    branch: int = 2
    """Levels behind the trunk"""
    models: int = 3
    """Pairs of models"""

    def __post_init__(self) -> None:
        for name, least in (("vocabulary_size", 2), ("width", 1), ("trunk", 0), ("branch", 0), ("models", 1)):
            require_at_least(f"toy.{name}", getattr(self, name), least)
        if not self.trunk + self.branch:
            raise InputError("toy.trunk and toy.branch are both 0; a draft needs a level")


def check(
    scheme: str | None = None, verifier: str | None = None, growth: str = "static", toy: ToyConfig = ToyConfig()
) -> None:
    """Say which schemes, shape decisions and verifiers are lossless together; prove it where given one of each.

    Args:
        scheme: One of coupled, fixed, iid-paths, without-replacement, greedy-plus-one and hybrid; all by default
        verifier: Verifier, such as walk, specinfer, block or traversal; all by default
        growth: Growth rule of the drafts to enumerate
        toy: The toy models to prove it on
    """
    if (scheme is None or verifier is None) and (growth != "static" or toy != ToyConfig()):
        raise InputError(
            "growth and toy say what is proved, of one scheme with one verifier; give both or leave them out"
        )
    schemes, verifiers = _chosen(ALL_SCHEMES, scheme, "drafting scheme"), _chosen(VERIFIERS, verifier, "verifier")
    proofs = [] if scheme is None or verifier is None else _prove(schemes[0], verifiers[0].name, growth, toy)
    reasons = [
        {
            "scheme": one.name,
            "verifier": terms.name,
            "decisions use": information.words,
            "together": unsound_reason(one, information, terms) or "sound",
        }
        for one in schemes
        for terms in verifiers
        for information in Information
    ]
    if scheme is None and verifier is None:
        tolerated = [
            {"verifier": terms.name}
            | {one: terms.tolerates.words if one in terms.schemes else "-" for one in ALL_SCHEMES}
            for terms in VERIFIERS.values()
        ]
        print_table("What a shape decision may use, by verifier and drafting scheme", tolerated)
    else:
        print_table("Drafting schemes, verifiers and shape decisions", reasons)
    if not proofs:
        num_sound = sum(row["together"] == "sound" for row in reasons)
        print_json({"command": "check", "combinations": len(reasons), "sound": num_sound})
        return
    print_table(f"How far the emitted text's distribution is from the target's: every {growth} draft", proofs)
    reason = unsound_reason(schemes[0], GROWTHS[growth].information, verifiers[0])
    worst = max(proof["total variation"] for proof in proofs)
    print_json({"command": "check", "sound": reason is None, "reason": reason, "total_variation": worst})


def _chosen(known: Mapping[str, Item], name: str | None, kind: str) -> list[Item]:
    """The one of that name, or all."""
    if name is not None and name not in known:
        raise InputError(f"no {kind} is called {name!r}; there are {', '.join(known)}")
    return list(known.values()) if name is None else [known[name]]


def _prove(scheme: Scheme, verifier: str, growth: str, toy: ToyConfig) -> list[dict[str, float]]:
    """One row per pair of toy models; InputError for what cannot be enumerated."""
    (rule,) = _chosen(GROWTHS, growth, "growth rule")
    shape = Shape(toy.width, toy.trunk, toy.branch)
    if scheme is COUPLED:
        raise InputError(
            "the noise of the 'coupled' scheme cannot be enumerated; check 'fixed', the walk treats it alike"
        )
    if not drafts_under(scheme, growth):
        raise InputError(f"growth {growth!r} decides nothing under the {scheme.name!r} scheme; take growth 'static'")
    draws = shape.most_draws(scheme)
    for things, most, length in (("texts", MOST_TEXTS, shape.depth + 1), ("drafts", MOST_DRAFTS, draws)):
        if length > log(most, toy.vocabulary_size):
            raise InputError(
                f"there are more than {most:,} {things}, too many to enumerate; lower toy.vocabulary_size, width or "
                "levels"
            )
    proofs = []
    for seed in track(range(toy.models), "check: pairs of toy models"):
        pair = ToyPair.random(toy.vocabulary_size, seed)
        drafts = every_run(program(scheme, rule, shape, pair.drafter))
        emitted = emission(pair, drafts, get_verifier(verifier))
        proofs.append(
            {
                "models": seed,
                "drafts": len(drafts),
                "block efficiency": round(emitted.block_efficiency, 4),
                "total variation": total_variation(pair, emitted),
            }
        )
    return proofs
