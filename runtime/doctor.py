"""The `doctor` command: what this machine and installation are, and whether decoding works here."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
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

PACKAGES = ("treewright", "torch", "transformers", "tokenizers", "numpy", "onnxruntime", "onnx", "safetensors")
# Instructions that decide how fast matrix products of each number format are.
CPU_FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "MKL_NUM_THREADS")
# A second on two cores, the models' loading included; long enough for several trees.
PROMPT, NUM_TOKENS = "def main(", 16
TREE = (3, 4, 12)


def doctor(pair: PairConfig = PairConfig()) -> None:
    """Print versions, processor, devices, threads and cache folder, and compare speculative with plain text.

    Args:
        pair: The models of the comparison
    """
    print_json(
        {
            "command": "doctor",
            "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
            "system": platform.platform(),
            "cpu": {
                "name": processor_name(torch.device("cpu")),
                "cores": os.cpu_count(),
                "flags": _cpu_flags(),
                "torch": torch.backends.cpu.get_cpu_capability(),
            },
            "onnxruntime_providers": onnxruntime.get_available_providers(),
            "cuda": {
                "built_for": torch.version.cuda,
                "devices": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
            },
            "threads": {"torch": torch.get_num_threads(), "interop": torch.get_num_interop_threads()}
            | {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ},
            "cache": _cache(),
            "self_test": self_test(pair),
        }
    )


def self_test(pair: PairConfig) -> dict[str, Any]:
    """Decode one prompt plainly and with a dynamic tree, at temperature 1; the texts are equal unless a tie was rounded
    differently. What fails is an `error` in the report, for the rest of it says why."""
    start = perf_counter()
    try:
        models = load_pair(pair, heads=True)
        plain, speculative = (
            Model(models, SpeculationConfig(dynamic=tree)).generate(PROMPT, max_tokens=NUM_TOKENS, temperature=1.0)
            for tree in (None, TREE)
        )
    except InputError as error:
        return {"error": str(error)}
    return {
        "texts_equal": plain.token_ids == speculative.token_ids,
        "block_efficiency": round(speculative.block_efficiency, 3),
        "seconds": round(perf_counter() - start, 2),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu_flags() -> list[str]:
    """Those of `CPU_FLAGS` that Linux reports; empty elsewhere."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    words = next((line.split() for line in lines if line.startswith(("flags", "Features"))), [])
    return [flag for flag in CPU_FLAGS if flag in words]


def _cache() -> dict[str, Any]:
    """The folder of the latency tables, without the user's name, and how many it holds."""
    folder = cache_path({"pair": ""}).parent
    home = Path.home()
    shown = Path("~") / folder.relative_to(home) if folder.is_relative_to(home) else folder
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    return {
        "folder": str(shown),
        "writable": os.access(nearest, os.W_OK),
        "latency_tables": len(list(folder.glob("*.json"))),
    }
