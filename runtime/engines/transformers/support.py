"""Which models can be decoded as a tree, by their configuration, and how long their texts may be."""

from typing import Any

from transformers import PreTrainedModel
from transformers.utils import output_capturing

from ....controller.errors import InputError
from .attention import PAGED_ATTENTION, TREE_ATTENTION
from .windows import FULL, SLIDING

# The attention implementation that a model must have been loaded with, where its architecture has it.
PLAIN_ATTENTION = "sdpa"
OLDER_ATTENTION = "eager"
# Whether a forward may keep some hidden states only; before transformers 5.23 their numbers meant others.
KEEPS_SOME_STATES = hasattr(output_capturing, "selected_hidden_states")


def own_attention(model: PreTrainedModel) -> str:
    """The attention implementation that the model runs when we do not."""
    is_capped = getattr(model.config.get_text_config(), "attn_logit_softcapping", None) is not None
    return PLAIN_ATTENTION if model._supports_sdpa and not is_capped else OLDER_ATTENTION


def kept_states(layers: tuple[int, ...]) -> tuple[int, ...] | bool:
    """What a forward is asked to keep, so that the hidden states of `layers` are at their numbers among all."""
    return layers if layers and KEEPS_SOME_STATES else bool(layers)


def unsupported_reason(model: PreTrainedModel) -> str | None:
    """Why this model cannot be decoded as a tree, in a sentence; None where it can."""
    config, wanted = model.config, own_attention(model)
    if config._attn_implementation not in (wanted, TREE_ATTENTION, PAGED_ATTENTION):
        return (
            f"tree decoding needs {wanted} attention, the model uses {config._attn_implementation!r}; load it with "
            f"{wanted}"
        )
    config = config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or [FULL])
    if not kinds <= {FULL, SLIDING}:
        return (
            f"only attention to the whole text or to a window can be decoded as a tree, the model has {sorted(kinds)}"
        )
    if model.device.type != "cpu" and "dynamic" in _rotary_settings(config):
        return "'dynamic' rotary positions are not supported on a device; run the model with pair.device=cpu"
    if not getattr(config, "max_position_embeddings", None):
        return f"the model's configuration ({config.model_type}) names no context length (max_position_embeddings)"
    return None


def context_length(config: Any) -> int:
    """How many tokens a text may have.

    Beyond its original length, a model with 'longrope' positions turns all of a text by other angles, the rows that
    are stored already included. Up to there its forwards are a function of the text alone, as those with 'dynamic'
    positions are up to `max_position_embeddings`.
    """
    config = config.get_text_config()
    longrope = _rotary_settings(config).get("longrope", {})
    return min(config.max_position_embeddings, longrope.get("original_max_position_embeddings", 1 << 62))


def num_rows(model: PreTrainedModel) -> int:
    """Token ids that a model has rows for."""
    return model.config.get_text_config().vocab_size


def _rotary_settings(config: Any) -> dict[str, Any]:
    """Settings of rotary positions by their type; some models have one per kind of layer."""
    given = getattr(config, "rope_parameters", None) or {}
    settings = [given] if "rope_type" in given else [each for each in given.values() if isinstance(each, dict)]
    return {each.get("rope_type", "default"): each for each in settings}


class NotAsTreeError(InputError):
    """The error where a model cannot be decoded as a tree in the way that was tried."""


def not_as_tree(name: str, model: PreTrainedModel, reason: str) -> NotAsTreeError:
    return NotAsTreeError(
        f"{name!r} ({model.config.model_type}) cannot be decoded as a tree: {reason}; choose a model of another "
        "architecture"
    )
