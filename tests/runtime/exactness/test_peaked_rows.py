"""Every verifier under every sampled scheme stays exact where rows have next to all of their mass on one token.

The rows are those of the decode loop's own sampler at low temperature, or made by hand, in float64 and in float32,
whose probabilities end at e^-103: what is left of a drafter's row, once its best token was refused, is often less.
"""

from functools import cache
from math import prod

import numpy as np
import pytest
import torch
from treewright.controller.contract import SAMPLED_SCHEMES, VERIFIERS
from treewright.runtime.exactness.drafting import every_run
from treewright.runtime.exactness.emission import emission, total_variation
from treewright.runtime.exactness.growth import GROWTHS, Shape, program
from treewright.runtime.exactness.models import TableModel, ToyPair
from treewright.runtime.sampling import Sampling, TokenSampler
from treewright.runtime.verification import get_verifier
from treewright.runtime.verification.sampled_tree import single_tree
from treewright.runtime.verification.sampled_verifier import SampledVerifier

# How far the emitted text may be from the target's: rounding.
ROUNDING = {torch.float64: 1e-12, torch.float32: 1e-6}
SHAPES = {"two levels": Shape(2, 0, 2), "three draws": Shape(3, 0, 1)}
ALLOWED = [(scheme, name) for name, terms in VERIFIERS.items() for scheme in SAMPLED_SCHEMES if scheme in terms.schemes]
SAMPLINGS = {
    "T .1": Sampling(0.1),
    "T .03": Sampling(0.03),
    "T .01": Sampling(0.01),
    "T .001": Sampling(0.001),
    "T 1e-40": Sampling(1e-40),
    "top_k 1": Sampling(top_k=1),
    "top_k 2 at T .01": Sampling(0.01, top_k=2),
    "top_p 1e-50": Sampling(top_p=1e-50),
    "top_p .9 at T .1": Sampling(0.1, top_p=0.9),
}
INF = float("inf")
# Logits of the target and the drafter, the same behind every prefix.
HAND_MADE = {
    "a sure drafter, a target elsewhere": ((-7.0, 0.5, 0.0), (0.0, -1000.0, -1001.0)),
    "a sure drafter, a flat target": ((0.0, 0.1, -0.2), (0.0, -110.0, -100.0)),
    "a flat drafter, a sure target": ((-2000.0, 0.0, -900.0), (0.0, 0.5, -0.3)),
    "two sure models": ((0.0, -200.0, -210.0), (-300.0, 0.0, -290.0)),
    "two sure models that agree": ((0.0, -200.0, -150.0), (0.0, -190.0, -160.0)),
    "equal": ((0.0, -20.0, -90.0), (0.0, -20.0, -90.0)),
    "equal but for rounding": ((1.0, -9.0, -40.0), (1.0 + 2e-7, -9.0, -40.0)),
    "disjoint": ((0.0, -INF, -INF), (-INF, 0.0, -80.0)),
    "one survivor each": ((-INF, 0.0, -INF), (0.0, -INF, -INF)),
    "the same survivor": ((0.0, -INF, -INF), (0.0, -INF, -INF)),
    "a survivor of the drafter": ((0.3, 0.0, -50.0), (-INF, 0.0, -INF)),
    "a survivor of the target": ((-INF, 0.0, -INF), (0.3, 0.0, -60.0)),
}


@cache
def toy(kind, dtype):
    if kind in HAND_MADE:
        return ToyPair(*(constant(torch.tensor(logits, dtype=dtype)) for logits in HAND_MADE[kind]))
    return ToyPair(sampled(1, SAMPLINGS[kind], dtype), sampled(2, SAMPLINGS[kind], dtype))


def constant(logits):
    row = logits.log_softmax(-1).numpy()
    return TableModel(lambda prefix: row)


def sampled(seed, sampling, dtype):
    """Random logits behind every prefix, through the decode loop's sampler."""
    sampler = TokenSampler([sampling], 3, torch.device("cpu"))

    def log_row(prefix):
        logits = torch.from_numpy(2 * np.random.default_rng((seed, *prefix)).normal(size=3)).to(dtype)
        return sampler.log_probs(logits[None])[0].numpy()

    return TableModel(log_row)


@cache
def drafts_of(kind, dtype, scheme, shape):
    return every_run(program(SAMPLED_SCHEMES[scheme], GROWTHS["static"], SHAPES[shape], toy(kind, dtype).drafter))


class EveryCoin:
    """Coins that follow the outcomes `script` counts out, then the first ones; `made` notes how many there were, the
    one taken, and its probability."""

    def __init__(self, script):
        self._script = script
        self.made = []

    def accept(self, probability):
        assert 0.0 <= probability <= 1.0
        return self._take([(True, probability), (False, 1.0 - probability)])

    def draw(self, probs):
        return self._take([(token, prob / float(probs.sum())) for token, prob in enumerate(probs.tolist())])

    def _take(self, outcomes):
        outcomes = [(outcome, probability) for outcome, probability in outcomes if probability > 0]
        index = self._script[len(self.made)] if len(self.made) < len(self._script) else 0
        outcome, probability = outcomes[index]
        self.made.append((len(outcomes), index, probability))
        return outcome


def judged(method, view, joint):
    """Add to `joint` [N, V] the probability of every end that `judge` may come to."""
    script = []
    while True:
        coins = EveryCoin(script)
        node, token = method.judge(view, coins)
        joint[node, token] += prod(probability for _, _, probability in coins.made)
        script = [index for _, index, _ in coins.made]
        while script and script[-1] + 1 == coins.made[len(script) - 1][0]:
            script.pop()
        if not script:
            return
        script[-1] += 1


@pytest.mark.parametrize("kind", [*SAMPLINGS, *HAND_MADE])
@pytest.mark.parametrize(("scheme", "verifier"), ALLOWED)
def test_the_text_stays_the_targets(scheme, verifier, kind):
    for dtype, rounding in ROUNDING.items():
        for shape in SHAPES:
            # Drafts less likely than this add nothing that a sum of float64 could show.
            drafts = {draft: prob for draft, prob in drafts_of(kind, dtype, scheme, shape).items() if prob > 1e-20}
            assert sum(drafts.values()) == pytest.approx(1.0, abs=1e-12)
            emitted = emission(toy(kind, dtype), drafts, get_verifier(verifier))
            assert total_variation(toy(kind, dtype), emitted) < rounding, (dtype, shape)


@pytest.mark.parametrize(("scheme", "verifier"), [(scheme, name) for scheme, name in ALLOWED if name != "walk"])
def test_coins_follow_the_distribution_and_never_emit_a_token_that_the_target_cannot_generate(scheme, verifier):
    """Under every draft, even those that no run of a program would ever meet."""
    judge = get_verifier(verifier)
    assert isinstance(judge, SampledVerifier)
    for kind in HAND_MADE:
        for draft in drafts_of(kind, torch.float32, scheme, "three draws"):
            target_rows = torch.from_numpy(np.stack([toy(kind, torch.float32).target.row(of) for of in draft.prefixes]))
            rows = {node: torch.tensor(row) for node, row in draft.draft_log_probs}
            view = single_tree(draft.tree, target_rows, [rows])
            joint, counted = torch.zeros_like(target_rows), torch.zeros_like(target_rows)
            judge.method.distribution(view, joint)
            judged(judge.method, view, counted)
            torch.testing.assert_close(counted, joint, rtol=0, atol=1e-6)
            for node, token in counted.nonzero().tolist():
                passed = view.path(node)
                for above, child in zip([0, *passed], passed, strict=False):
                    assert target_rows[above, view.token(child)] > 0, kind
                assert target_rows[node, token] > 0, kind
