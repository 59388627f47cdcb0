"""Times of a step's parts on a device, for models with random weights in the shapes of known ones."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from ....controller.checkpoint import Checkpoint
from ....controller.errors import InputError
from ....controller.learned.numpy_model import PerceptronNetwork
from ....controller.learned.scorer import INPUT_NAME, OUTPUT_NAMES, open_session
from ....controller.learned.torch_model import SelectorModel
from ....runtime.engines.transformers.model import TransformersModel
from ....runtime.engines.transformers.static import StaticModel
from ....runtime.machine.transfer import to_device, to_host
from ....runtime.pair import Pair
from ....runtime.pair_config import DTYPES, PairConfig, reference_folder
from ..workbench import Workbench

SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
SHAPES = {  # of Llama models: SIZES, then the vocabulary
    "tiny": (64, 128, 2, 4, 2, 512),
    "1B": (2048, 8192, 16, 32, 8, 128_256),
    "8B": (4096, 14_336, 32, 32, 8, 128_256),
}
WIDTHS, NODES = (1, 8), (0, 16, 64, 256)
NUM_SCORED = 64
MOST_POSITIONS = 1 << 17


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


def random_pair(target: str, drafter: str, device: str, dtype: str) -> Pair:
    """Models of two `SHAPES`; a pair without a tokenizer."""
    for name, choices in ((target, SHAPES), (drafter, SHAPES), (dtype, DTYPES)):
        if name not in choices:
            raise InputError(f"{name!r} is none of {', '.join(choices)}")
    of_target, of_drafter = (_random_model(SHAPES[shape], device, DTYPES[dtype]) for shape in (target, drafter))
    return Pair(of_target, of_drafter, None, frozenset(), PairConfig(target, drafter, dtype, device))


def _random_model(sizes: Sequence[int], device: str, dtype: torch.dtype) -> StaticModel:
    named = dict(zip((*SIZES, "vocab_size"), sizes, strict=True))
    layout = LlamaConfig(**named, max_position_embeddings=MOST_POSITIONS)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(layout, dtype=dtype, attn_implementation="sdpa")
    return StaticModel(model, layout.vocab_size)


def step_times(pair: Pair, context: int, repeats: int, bytes_per_second: float) -> Iterator[PartTime]:
    """A row per part of a step of one text, each with what the controller does for it.

    The floor is the time to read the target's weights from memory once.
    """
    device = pair.target.device
    bench = Workbench(pair, 1, context, widths=WIDTHS, nodes=NODES, num_roots=repeats + 3)
    floor = _bytes_read(pair.target) / bytes_per_second * 1e3
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
    """By a forward: all weights but the embedding table, of which it reads a few rows."""
    table = next(model.model.get_input_embeddings().parameters())
    return sum(weight.nbytes for weight in model.model.parameters()) - table.nbytes


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
