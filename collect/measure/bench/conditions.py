"""What a number needs beside it."""

import os
from typing import Any

import torch

from ....runtime.machine.processor import processor_name
from ....runtime.pair import Pair


def conditions(pair: Pair) -> dict[str, Any]:
    """Pair, machine and settings; one text at a time unless a report says otherwise."""
    return {
        "pair": pair.name,
        "dtype": pair.config.dtype,
        "device": str(pair.target.device),
        "processor": processor_name(pair.target.device),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "batch": 1,
    }
