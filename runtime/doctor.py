"""The `doctor` command: what this machine and installation are, and whether decoding works here."""

import os
import platform
from importlib.metadata import distributions
from pathlib import Path
from time import perf_counter
from typing import Any

import onnxruntime
import torch

from ..controller.console import print_json
from ..controller.errors import InputError
from ..controller.pricing.latency_cache import cache_path
from .api import Model
from .machine.processor import processor_name
from .pair import PairConfig, load_pair
from .speculation import SpeculationConfig

PACKAGES = {"treewright", "torch", "transformers", "tokenizers", "numpy", "onnxruntime", "onnx", "safetensors"}
# Instructions that decide how fast matrix products of each number format are.
CPU_FLAGS = {"avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16"}


def doctor(pair: PairConfig = PairConfig()) -> None:
    """Print versions, processor, devices, threads and cache folder, and compare speculative with plain text.

    Args:
        pair: The models of the comparison
    """
    cpuinfo = Path("/proc/cpuinfo")  # on Linux alone
    folder = cache_path({"pair": ""}).parent
    document = {
        "command": "doctor",
        "versions": {"python": platform.python_version()}
        | {found.name: found.version for found in distributions() if found.name in PACKAGES},
        "system": platform.platform(),
        "cpu": {
            "name": processor_name(torch.device("cpu")),
            "cores": os.cpu_count(),
            "flags": sorted(CPU_FLAGS & set(cpuinfo.read_text().split())) if cpuinfo.exists() else [],
        },
        "onnxruntime_providers": onnxruntime.get_available_providers(),
        "cuda": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "threads": {"torch": torch.get_num_threads()}
        | {name: value for name, value in os.environ.items() if name.startswith(("OMP_", "GOMP_", "MKL_"))},
        "cache": {
            "folder": str(folder).replace(str(Path.home()), "~"),  # an issue need not name the user
            "writable": os.access(next(path for path in (folder, *folder.parents) if path.exists()), os.W_OK),
            "latency_tables": len(list(folder.glob("*.json"))),
        },
    }
    print_json(document | {"self_test": self_test(pair)})


def self_test(pair: PairConfig) -> dict[str, Any]:
    """Decode 16 tokens (a second on two cores) plainly and with a dynamic tree, at temperature 1: the texts are equal
    unless a near-tie was rounded differently. What fails becomes an `error` in the report."""
    start = perf_counter()
    try:
        models = load_pair(pair, heads=True)
        plain, speculative = (
            Model(models, SpeculationConfig(dynamic=tree)).generate("def main(", max_tokens=16, temperature=1.0)
            for tree in (None, (3, 4, 12))
        )
    except InputError as error:
        return {"error": str(error)}
    return {
        "texts_equal": plain.token_ids == speculative.token_ids,
        "block_efficiency": round(speculative.block_efficiency, 3),
        "seconds": round(perf_counter() - start, 2),
    }
