"""Every sound combination of scheme, growth and verifier gives the target's text: enumerated, nothing is sampled."""

from functools import cache

import pytest
from treewright.controller.contract import (
    FIXED,
    GREEDY_PLUS_ONE,
    HYBRID,
    IID_PATHS,
    RANKED_SCHEMES,
    SAMPLED_SCHEMES,
    VERIFIERS,
    WITHOUT_REPLACEMENT,
    unsound_reason,
)
from treewright.runtime.exactness.drafting import every_run
from treewright.runtime.exactness.emission import emission, total_variation
from treewright.runtime.exactness.growth import GROWTHS, Shape, drafts_under, program
from treewright.runtime.exactness.models import ToyPair
from treewright.runtime.verification import get_verifier

EXACT = 1e-12  # measured: a few 1e-16
TRUNK_AND_TWO = (3, Shape(2, 1, 2))  # vocabulary size and largest tree
TWO_PATHS = (5, Shape(2, 0, 2))
THREE_PATHS = (2, Shape(3, 0, 3))
SOUND = [
    (scheme.name, growth, verifier)
    for scheme in (FIXED, *SAMPLED_SCHEMES.values())
    for growth in GROWTHS
    for verifier, terms in VERIFIERS.items()
    if drafts_under(scheme, growth) and unsound_reason(scheme, GROWTHS[growth].information, terms) is None
]
# The other cells once for every verifier, grown by what it has the hardest time with.
HARDEST = [
    (scheme, growth, verifier)
    for scheme, growth, verifier in SOUND
    if growth
    == ("static" if verifier in ("traversal-unmerged", "spectr", "khisti", "greedy-plus-one") else "best-child-first")
]


@cache
def drafts_of(cell, scheme, growth, seed):
    vocabulary_size, shape = cell
    pair = ToyPair.random(vocabulary_size, seed)
    return pair, every_run(program((RANKED_SCHEMES | SAMPLED_SCHEMES)[scheme], GROWTHS[growth], shape, pair.drafter))


def distance(cell, scheme, growth, verifier, seed=1):
    pair, drafts = drafts_of(cell, scheme, growth, seed)
    assert sum(drafts.values()) == pytest.approx(1.0, abs=1e-12)
    return total_variation(pair, emission(pair, drafts, get_verifier(verifier)))


@pytest.mark.parametrize(("scheme", "growth", "verifier"), SOUND)
def test_a_trunk_and_two_branches_give_the_targets_text(scheme, growth, verifier):
    assert distance(TRUNK_AND_TWO, scheme, growth, verifier) < EXACT


@pytest.mark.parametrize("cell", [TWO_PATHS, THREE_PATHS], ids=["five tokens", "three paths"])
@pytest.mark.parametrize(("scheme", "growth", "verifier"), HARDEST)
def test_wider_trees_give_the_targets_text(cell, scheme, growth, verifier):
    assert distance(cell, scheme, growth, verifier) < EXACT


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 4))
@pytest.mark.parametrize("cell", [TRUNK_AND_TWO, TWO_PATHS, THREE_PATHS, (3, Shape(3, 0, 2))], ids=str)
@pytest.mark.parametrize(("scheme", "growth", "verifier"), SOUND)
def test_every_cell_gives_the_targets_text(cell, scheme, growth, verifier, seed):
    assert distance(cell, scheme, growth, verifier, seed) < EXACT


def test_every_verifier_is_proved_under_every_scheme_it_claims():
    proved = {(scheme, verifier) for scheme, _, verifier in SOUND}
    claimed = {(scheme, name) for name, terms in VERIFIERS.items() for scheme in terms.schemes}
    assert claimed - proved == {("coupled", "walk")}  # whose text is compared token for token elsewhere


def test_every_class_of_growth_is_there():
    assert {growth.information for growth in GROWTHS.values()} == {0, 1, 2}
    assert len({(scheme, growth) for scheme, growth, _ in SOUND}) >= 4 * 5


@pytest.mark.parametrize(
    "scheme", [IID_PATHS, WITHOUT_REPLACEMENT, GREEDY_PLUS_ONE, HYBRID], ids=lambda scheme: scheme.name
)
def test_dropping_an_unlikely_sample_is_caught(scheme):
    for verifier, terms in VERIFIERS.items():
        if scheme.name in terms.schemes and verifier != "walk":
            assert distance(TRUNK_AND_TWO, scheme.name, "drop-unlikely", verifier) > 1e-3, verifier


@pytest.mark.parametrize("growth", ["stop-siblings", "best-child-first"])
@pytest.mark.parametrize("verifier", ["spectr", "khisti"])
def test_list_verifiers_are_rightly_refused_siblings_that_look_at_each_other(growth, verifier):
    assert unsound_reason(IID_PATHS, GROWTHS[growth].information, VERIFIERS[verifier]) is not None
    assert distance(TRUNK_AND_TWO, "iid-paths", growth, verifier) > 1e-3
