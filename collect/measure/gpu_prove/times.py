"""Times of a step's parts on a device, for the reference pair grown to a realistic shape."""

from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import torch

from ....controller.checkpoint import Checkpoint
from ....controller.learned.numpy_model import PerceptronNetwork
from ....controller.learned.scorer import INPUT_NAME, OUTPUT_NAMES, open_session
from ....controller.learned.torch_model import SelectorModel
from ....runtime.engines.transformers.model import TransformersModel
from ....runtime.engines.transformers.pair import size_caches, transformers_model
from ....runtime.engines.transformers.static import StaticModel
from ....runtime.machine.transfer import to_device, to_host
from ....runtime.pair import Pair, load_pair
from ....runtime.pair_config import DTYPES, PairConfig, reference_folder
from ...make_pair.inflate import inflate
from ...make_pair.settings import ModelSize
from ...make_pair.sizes import GROWN_SHAPES
from ..workbench import Workbench

WIDTHS, NODES = (1, 8), (0, 15, 63, 255)  # with the root, sizes of the menu
NUM_SCORED = 63
SMALL = "small"  # the pair as it is
MOST_POSITIONS = 1 << 16


class PartTime(NamedTuple):
    """One part of a step, against a plain target step and against the time to read the target's weights once."""

    context: int
    part: str
    ms: float
    x_plain: float
    x_floor: float


def median_ms(device: torch.device, repeats: int, part: Callable[[], Any]) -> float:
    """Milliseconds until the device is done. Two runs before are not counted: the first captures the shape's graph."""
    times = []
    for _ in range(repeats + 2):
        start = perf_counter()
        part()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append((perf_counter() - start) * 1e3)
    return median(times[2:])


def bandwidth(device: torch.device) -> float:
    """Bytes per second of a large copy, read and written bytes both counted."""
    source = torch.zeros(1 << (28 if device.type == "cuda" else 22), device=device)
    into = torch.empty_like(source)
    return 2 * source.nbytes / median_ms(device, 20, lambda: into.copy_(source)) * 1e3


def inflated_pair(size: str, device: str, dtype: str) -> Pair:
    """The reference pair in one of `GROWN_SHAPES`, in the device's memory, or as it is (`SMALL`). Longer texts than
    the reference pair's may be timed behind."""
    small = load_pair(PairConfig())
    shapes = GROWN_SHAPES[size] if size != SMALL else (None, None)
    target, drafter = (
        _grown(transformers_model(model, "gpu-prove"), shape, device, DTYPES[dtype])
        for model, shape in zip((small.target, small.drafter), shapes, strict=True)
    )
    if device != "cpu":
        size_caches([target, drafter], 0)
    config = PairConfig(f"reference-{size}", f"reference-{size}", dtype, device)
    return Pair(target, drafter, small.tokenizer, small.end_tokens, config)


def _grown(small: TransformersModel, size: ModelSize | None, device: str, dtype: torch.dtype) -> StaticModel:
    small.release()
    if size is not None:
        network: Any = inflate(small.model, size, dtype=dtype, device=device)
    else:
        network = small.model
        network.to(device=device, dtype=dtype)
    network.config.max_position_embeddings = MOST_POSITIONS
    return StaticModel(network, small.vocabulary_size)


def step_times(pair: Pair, context: int, repeats: int, bytes_per_second: float) -> Iterator[PartTime]:
    """A row per part of a step of one text, each with what the controller does for it.

    The floor is the time to read the target's weights from memory once.
    """
    device = pair.target.device
    bench = Workbench(pair, 1, context, widths=WIDTHS, nodes=NODES, num_roots=repeats + 3)
    floor = _bytes_read(transformers_model(pair.target, "gpu-prove")) / bytes_per_second * 1e3
    parts: list[tuple[str, Callable[[], None]]] = [
        (f"target step, {count} nodes", partial(bench.verify, count)) for count in NODES
    ]
    parts += [("first drafter level", partial(bench.root, 1))]
    parts += [(f"drafter level, {width} wide", partial(bench.draft, width)) for width in WIDTHS]
    parts += [("commit", bench.commit), (f"controller, {NUM_SCORED} nodes", partial(bench.decide, NUM_SCORED))]
    plain = None
    for name, part in parts:
        ms = median_ms(device, repeats, part)
        plain = plain or ms
        yield PartTime(context, name, round(ms, 3), round(ms / plain, 3), round(ms / floor, 3))


def _bytes_read(model: TransformersModel) -> int:
    """By a forward: all weights, but of the embedding table, unless it gives the logits, too, a few rows."""
    num_bytes = sum(weight.nbytes for weight in model.model.parameters())
    if model.model.config.tie_word_embeddings:
        return num_bytes
    return num_bytes - next(model.model.get_input_embeddings().parameters()).nbytes


def score_times(device: torch.device, repeats: int) -> dict[str, float]:
    """Milliseconds of the shipped selector on 64 nodes whose features are on the host, by execution path."""
    checkpoint = Checkpoint.from_pretrained(reference_folder() / "selector")
    features = checkpoint.golden[INPUT_NAME][:1].repeat(NUM_SCORED, axis=0)
    session, network = open_session(checkpoint.graph), PerceptronNetwork.from_weights(checkpoint.weights)
    assert network is not None
    module = SelectorModel(features.shape[1], checkpoint.config.limits.num_children)
    module.load_state_dict({name: torch.from_numpy(weight) for name, weight in checkpoint.weights.items()})
    module = module.to(device).eval()
    ways: dict[str, Callable[[], Any]] = {
        "numpy, on the host": lambda: network(features),
        "ONNX Runtime, on the host": lambda: session.run(OUTPUT_NAMES, {INPUT_NAME: features}),
        f"torch, on {device.type}": lambda: to_host(*module(to_device(features, device))),
    }
    with torch.inference_mode():
        return {name: round(median_ms(device, repeats, way), 4) for name, way in ways.items()}
