"""What a number needs beside it."""

import os
import platform
from pathlib import Path
from typing import Any

import torch

from ...runtime.pair import Pair


def conditions(pair: Pair) -> dict[str, Any]:
    """Pair, machine and settings; one text at a time unless a report says otherwise."""
    return {
        "pair": pair.name,
        "dtype": pair.config.dtype,
        "device": str(pair.target.device),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "batch": 1,
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
