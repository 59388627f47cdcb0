"""A checkpoint that was never trained, a small latency table, and every plan over them."""

from functools import cache

import numpy as np
import torch
from treewright.controller.checkpoint import Checkpoint, SelectorConfig
from treewright.controller.contract import COUPLED, FIXED
from treewright.controller.learned.features import FEATURES
from treewright.controller.learned.torch_model import SelectorModel
from treewright.controller.plans.grids import policy_grids
from treewright.controller.pricing.latency import LatencyTable
from treewright.controller.trees.limits import TreeLimits
from treewright.train.fit.export import export_onnx, golden_vectors

LIMITS = TreeLimits(max_depth=4, width=3, frontier=4, budget=10, ngrams=True)
RANK_PROBS = {"0.00": [0.7, 0.1, 0.05, 0.05], "1.00": [0.5, 0.2, 0.1, 0.05]}
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
C2T = {"weights": [1.1, -0.1, 0.05], "bias": 0.1}
STOP = {"weights": [2.0, 1.0, -0.1], "bias": -1.5}


@cache
def checkpoint() -> Checkpoint:
    torch.manual_seed(5)
    model = SelectorModel(len(FEATURES), 4).eval()
    graph = export_onnx(model, len(FEATURES))
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    golden = golden_vectors(model, graph, np.ones((2, len(FEATURES)), dtype=np.float32))
    config = SelectorConfig("tiny", "coupled", "0" * 64, LIMITS, {})
    schemes = ("coupled", "fixed")
    baselines = {
        "rank_probs": dict.fromkeys(schemes, RANK_PROBS),
        "c2t": dict.fromkeys(schemes, C2T),
        "ltd": dict.fromkeys(schemes, STOP),
    }
    return Checkpoint(config, {"model.onnx": graph}, weights, golden, 0.0, baselines, {}, card="")


def grids(temperature: float = 1.0):
    return policy_grids(checkpoint(), TABLE, (COUPLED, FIXED), temperature)
