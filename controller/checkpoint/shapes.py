"""The checkpoint of a selector of shapes: a folder of the same files, for the verifiers of sampled trees.

It is a kind of its own, and not two more heads of the walk's selector: that one scores drafted nodes, under a ranked
scheme and with its noise; this one answers once per step, before anything is drawn, from other features. They would
share a file and nothing in it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ..errors import InputError, named
from ..learned.shape_features import SHAPE_FEATURE_VERSION, SHAPE_FEATURES
from ..learned.shape_menu import LENGTHS_NAME, SHAPED_VERIFIERS, num_answers
from ..trees.tree import Array
from . import hub
from .config import CONFIG_FILE, SHAPES_KIND, check_pair, open_seal
from .folder import found_folder, parse_tensors, read_card, read_hashed
from .graph import OF_SHAPES, check_graph
from .saving import packed, read_file, save_checkpoint
from .strict_json import parse_object

SHAPES_SCHEMA_VERSION = 2  # 1 knew no trunks with sides
SpeedUps = Mapping[str, Mapping[str, float]]
"""By verifier and temperature: what a step has to beat, in tokens per plain step's time."""


@dataclass(frozen=True)
class ShapesConfig:
    """`config.json`, less the hashes."""

    pair: str
    tokenizer_sha256: str
    verifiers: tuple[str, ...]  # whose shapes it can choose, in the order of SHAPED_VERIFIERS
    provenance: dict[str, Any]
    features: tuple[str, ...] = SHAPE_FEATURES
    feature_version: int = SHAPE_FEATURE_VERSION
    schema_version: int = SHAPES_SCHEMA_VERSION
    kind: str = SHAPES_KIND


@dataclass(frozen=True)
class ShapesCheckpoint:
    config: ShapesConfig
    graph: bytes  # ONNX
    weights: Mapping[str, Array]
    golden: Mapping[str, Array]  # features, and the graph's answers to them
    speed_ups: SpeedUps
    metrics: dict[str, Any]  # `metrics.json`
    golden_miss: float = 0.0  # largest difference between the graph's answers and the golden ones, once read
    card: str = ""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and verify a folder; InputError in one sentence where a check fails, or where it is another kind."""
        path = found_folder(path)
        with named(f"checkpoint {path}"):
            config, hashes = parse_shapes_config(read_file(path / CONFIG_FILE))
            files = read_hashed(path, hashes)
            weights, golden = (parse_tensors(files, name) for name in ("model.safetensors", "golden.safetensors"))
            miss = check_graph(files["model.onnx"], weights, golden, OF_SHAPES)
            if golden[LENGTHS_NAME].shape[1:] != (num_answers(config.verifiers),):
                raise InputError("the graph does not answer for every tree of the verifiers; retrain")
            return cls(
                config,
                files["model.onnx"],
                weights,
                golden,
                _speed_ups(parse_object(files["baselines.json"], "baselines.json"), config.verifiers),
                parse_object(files["metrics.json"], "metrics.json"),
                miss,
                read_card(path),
            )

    @property
    def files(self) -> dict[str, bytes]:
        """The hashed ones."""
        documents = {"baselines.json": {"speed_ups": self.speed_ups}, "metrics.json": self.metrics}
        return packed(self.weights, self.graph, self.golden, documents)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the checkpoint folder, whole or not at all."""
        save_checkpoint(Path(folder), self.config, self.files, self.card)

    def push_to_hub(self, repo_id: str, *, private: bool = False) -> str:
        """Upload the files to a hub repository, created if missing; the commit's address."""
        return hub.upload_saved(self.save_pretrained, repo_id, private=private)


def is_shapes(path: Path) -> bool:
    """Whether a folder says that it holds such a checkpoint; InputError where it is none of any kind."""
    path = found_folder(path)
    with named(f"checkpoint {path}"):
        return parse_object(read_file(path / CONFIG_FILE), CONFIG_FILE).get("kind") == SHAPES_KIND


def parse_shapes_config(content: bytes) -> tuple[ShapesConfig, dict[str, str]]:
    """The config and the hash of each file."""
    fields = parse_object(content, CONFIG_FILE)
    if fields.get("kind") != SHAPES_KIND:
        raise InputError(
            "it chooses trees for the walk, not the shapes of sampled trees; leave speculation.verifier out, or train "
            "one with `treewright train-shapes`"
        )
    hashes = open_seal(
        fields, range(SHAPES_SCHEMA_VERSION, SHAPES_SCHEMA_VERSION + 1), SHAPE_FEATURE_VERSION, SHAPE_FEATURES
    )
    try:
        config = ShapesConfig(**{**fields, "verifiers": tuple(fields["verifiers"])})
    except (KeyError, TypeError) as error:
        raise InputError(f"config.json has missing or unknown fields ({error}); the folder is damaged") from error
    check_pair(config.pair, config.tokenizer_sha256, config.provenance)
    known = tuple(name for name in SHAPED_VERIFIERS if name in config.verifiers)
    if config.verifiers != known or known[:2] != SHAPED_VERIFIERS[:2]:
        raise InputError(f"its verifiers are some of {', '.join(SHAPED_VERIFIERS)}; update or retrain")
    return config, hashes


def _speed_ups(document: Mapping[str, Any], verifiers: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Numbers above 0 for every verifier, at one temperature at least."""
    try:
        found = {
            verifier: {f"{float(temperature):g}": float(value) for temperature, value in by_temperature.items()}
            for verifier, by_temperature in document["speed_ups"].items()
        }
        if set(found) == set(verifiers) and all(
            of and all(math.isfinite(value) and value > 0 for value in of.values()) for of in found.values()
        ):
            return found
    except (AttributeError, KeyError, TypeError, ValueError):
        pass
    raise InputError("the speed-ups of baselines.json are no positive numbers by verifier; retrain")
