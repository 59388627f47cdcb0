"""Which model is this? A hash of its configuration and weights; folders change their contents and share names."""

import hashlib
import json
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

# Numbers hashed of each weight, evenly spaced: fine-tuning changes nearly all of them.
SAMPLES = 64
# What a configuration says of its file, not of the model; how the model is run is named beside a fingerprint.
VOLATILE = frozenset(("transformers_version", "dtype", "torch_dtype"))


def fingerprint(model: PreTrainedModel) -> str:
    """SHA-256 in hexadecimal. The number format does not count: weights are compared as bfloat16 rounds them."""
    digest = hashlib.sha256(json.dumps(_stable(model.config.to_dict()), sort_keys=True, default=str).encode())
    weights = sorted(model.state_dict().items())
    digest.update(json.dumps([(name, list(weight.shape)) for name, weight in weights]).encode())
    samples = torch.cat([_sample(weight) for _, weight in weights])
    digest.update(samples.view(torch.int16).cpu().numpy().tobytes())
    return digest.hexdigest()


def _stable(config: Any) -> Any:
    """A configuration, and those nested in it, less what says nothing of the model."""
    if not isinstance(config, dict):
        return config
    counting = {str(name): value for name, value in config.items() if name not in VOLATILE}
    return {name: _stable(value) for name, value in counting.items() if not name.startswith("_")}


def _sample(weight: Tensor) -> Tensor:
    """[n] bfloat16."""
    flat = weight.detach().flatten()
    step = max(1, len(flat) // SAMPLES)
    return flat[::step].to(torch.bfloat16)
