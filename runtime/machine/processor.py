"""Which processor does the work."""

import platform
from functools import cache
from pathlib import Path

import torch


@cache
def processor_name(device: torch.device) -> str:
    """The GPU's name, or the CPU's as the system gives it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
