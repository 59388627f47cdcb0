"""A fitted network as what a checkpoint folder holds."""

from dataclasses import asdict, replace
from importlib.metadata import version
from typing import Any

from ...controller.checkpoint import Baselines, SelectorBundle, SelectorConfig
from ...controller.learned.features import FEATURES
from ...controller.learned.torch_model import SelectorModel
from ...controller.trees.limits import TreeLimits
from ..data.stream import SelectorData
from ..evaluate.baselines import rank_tables
from .export import export_onnx, golden_vectors

NUM_GOLDEN = 32


def fitted_bundle(model: SelectorModel, data: SelectorData, limits: TreeLimits) -> SelectorBundle:
    """Not evaluated and not tuned yet."""
    header, (edges, _) = data.folder.header, data.test
    graph = export_onnx(model, len(FEATURES))
    return SelectorBundle(
        config=SelectorConfig(
            pair=header.pair,
            scheme=header.scheme,
            tokenizer_sha256=header.tokenizer_sha256,
            limits=limits,
            memory=header.memory,
            provenance={
                "traces": header.command,
                "trace_shards": [shard.sha256 for shard in data.folder.shards],
                "target_sha256": header.target_sha256,
                "drafter_sha256": header.drafter_sha256,
                "dtype": header.dtype,
                "fit": asdict(data.fit),
                "versions": {name: version(name) for name in ("treewright", "torch", "lightning", "onnx")},
            },
        ),
        graph=graph,
        weights={name: value.numpy() for name, value in model.state_dict().items()},
        golden=golden_vectors(model, graph, edges.features[:NUM_GOLDEN]),
        baselines=Baselines(rank_tables(data.folder)),
        metrics={},
    )


def with_baselines(selector: SelectorBundle, **parts: Any) -> SelectorBundle:
    """The selector with other parts of its `Baselines`."""
    return replace(selector, baselines=replace(selector.baselines, **parts))
