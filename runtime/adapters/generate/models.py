"""The models of a guest: wrapped once, lent to our loop for a call, and given back as they were."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedModel

from ....controller.errors import InputError, what_it_says
from ....controller.trees.tree import Array
from ...engines.transformers.model import TransformersModel
from ...engines.transformers.support import not_as_tree, num_rows
from ...engines.transformers.support import unsupported_reason as no_tree_reason


def unsupported_reason(model: PreTrainedModel) -> str | None:
    """Why `generate_with` cannot decode with this model, in a sentence; None where its configuration says nothing
    against it. Whether its forwards are those of a tree is tried at the first call."""
    config = model.config
    if config.is_encoder_decoder:
        return f"encoder-decoder models ({config.model_type}) are not supported; use a decoder-only model"
    if config.get_text_config() is not config:
        return f"models of text and more ({config.model_type}) are not supported; load the language model alone"
    if model.device.type not in ("cpu", "cuda"):
        return f"the model is on {model.device.type!r}, and only cpu and cuda are supported; move it there"
    if len({*getattr(model, "hf_device_map", {}).values()}) > 1:
        return "the model lies on several devices; load it on one"
    return no_tree_reason(model)


def require_supported(model: PreTrainedModel, role: str) -> None:
    """InputError where it cannot be used, `role` in the sentence."""
    if not isinstance(model, PreTrainedModel):
        raise InputError(f"{role} is a loaded model of transformers, got {model!r}; load it with from_pretrained")
    reason = unsupported_reason(model)
    if reason is not None:
        raise InputError(f"{role} {model.name_or_path!r}: {reason}")


@contextmanager
def lent(models: Sequence[PreTrainedModel]) -> Iterator[None]:
    """Models that may be changed as our loop does; at the end they have their own attention and modes again."""
    attention: list[tuple[PreTrainedModel, Any]] = [(model, model.config._attn_implementation) for model in models]
    training = [module for model in models for module in model.modules() if module.training]
    try:
        yield
    finally:
        for model, implementation in attention:
            if model.config._attn_implementation != implementation:
                model.set_attn_implementation(implementation)
        for module in training:
            module.training = True


def layout(model: PreTrainedModel) -> tuple[Any, ...]:
    """What a cache of a model depends on, and may change."""
    return model.device, model.dtype, num_rows(model)


class WholeModel(TransformersModel):
    """A model over all rows that it has, as `generate` runs it.

    A drafter's `vocabulary_size` becomes its target's, which may be another, for models of one family pad theirs
    differently: tokens that it lacks are never drafted, and read as its first.
    """

    def __init__(self, model: PreTrainedModel):
        super().__init__(model, num_rows(model))
        self._num_rows = self.vocabulary_size

    def forward(self, tokens: Array, *args: Any, **options: Any) -> Tensor:
        if self.vocabulary_size == self._num_rows:
            return super().forward(tokens, *args, **options)
        logits = super().forward(np.where(tokens < self._num_rows, tokens, 0), *args, **options)
        return pad(logits, (0, self.vocabulary_size - self._num_rows), value=-torch.inf)  # or cut


def wrapped(model: PreTrainedModel, role: str) -> WholeModel:
    """The model as our loop runs it; InputError where it cannot be decoded as a tree."""
    require_supported(model, role)
    name = model.name_or_path or role
    try:
        opened = WholeModel(model)
        reason = opened.check()
    except InputError as error:
        raise not_as_tree(name, model, str(error)) from error
    except Exception as error:  # an architecture that is no decoder may fail anywhere in its own code
        raise not_as_tree(name, model, what_it_says(error)) from error
    if reason is not None:
        raise not_as_tree(name, model, reason)
    return opened
