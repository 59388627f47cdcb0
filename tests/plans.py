"""A selector that was never trained, a small latency table, and every plan over them."""

from functools import cache
from typing import NoReturn

import numpy as np
import torch
from treewright.controller.checkpoint import Baselines, SelectorBundle, SelectorConfig
from treewright.controller.contract import RANKED_SCHEMES
from treewright.controller.learned.features import FEATURES
from treewright.controller.learned.torch_model import SelectorModel
from treewright.controller.plans.grids import policy_families
from treewright.controller.plans.plan import PolicyPlan
from treewright.controller.plans.setting import Setting
from treewright.controller.pricing.latency import LatencyTable
from treewright.controller.scorers.logistic import LogisticRule
from treewright.controller.trees.limits import TreeLimits
from treewright.train.fit.export import export_onnx, golden_vectors

LIMITS = TreeLimits(max_depth=4, width=3, frontier=4, budget=10, ngrams=True)
RANK_PROBS = {0.0: [0.7, 0.1, 0.05, 0.05], 1.0: [0.5, 0.2, 0.1, 0.05]}
# Verifying two nodes costs more than four, so that a price has something to choose.
TABLE = LatencyTable(
    key={"pair": "tiny"},
    batches=(1,),
    contexts=(256,),
    root_ms=((0.5,),),
    widths=(1, 4),
    draft_ms=(((0.5, 0.6),),),
    nodes=(0, 1, 2, 4, 10),
    verify_ms=(((5.0, 5.2, 7.0, 6.0, 8.0),),),
)
C2T = LogisticRule((1.1, -0.1, 0.05), 0.1)
LTD = LogisticRule((2.0, 1.0, -0.1), -1.5)


@cache
def selector() -> SelectorBundle:
    torch.manual_seed(5)
    model = SelectorModel(len(FEATURES), 4).eval()
    graph = export_onnx(model, len(FEATURES))
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    golden = golden_vectors(model, graph, np.ones((2, len(FEATURES)), dtype=np.float32))
    config = SelectorConfig("tiny", "coupled", "0" * 64, LIMITS, {})
    baselines = Baselines(
        rank_probs=dict.fromkeys(RANKED_SCHEMES, RANK_PROBS),
        c2t=dict.fromkeys(RANKED_SCHEMES, C2T),
        ltd=dict.fromkeys(RANKED_SCHEMES, LTD),
    )
    return SelectorBundle(config, graph, weights, golden, baselines, {})


def toy(**settings: float) -> PolicyPlan:
    """A plan whose policy is never made."""

    def build() -> NoReturn:
        raise AssertionError("a toy plan has no policy")

    return PolicyPlan("toy", "coupled", settings, build)


def policy_grids(of: SelectorBundle, table: LatencyTable, schemes, temperature: float):
    """The plans of every policy by (family, scheme)."""
    return {
        (family.name, family.scheme): [family.plan(settings) for settings in family.grid]
        for scheme in schemes
        for family in policy_families(of, table, Setting(scheme, temperature))
    }


def grids(temperature: float = 1.0):
    return policy_grids(selector(), TABLE, RANKED_SCHEMES, temperature)
