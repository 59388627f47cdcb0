"""A model that cannot be decoded as a tree is refused by name."""

import pytest
import tiny
import torch
from transformers import AutoModelForCausalLM, Gemma3TextConfig, MistralConfig
from treewright.runtime.backends.transformers import TransformersModel


@pytest.mark.parametrize(
    ("config", "attention", "complaint"),
    [
        (tiny.FAMILIES["qwen2"], "eager", "needs sdpa attention"),
        (MistralConfig(**tiny.SIZES, num_key_value_heads=2, sliding_window=16), "sdpa", "sliding-window attention"),
        (Gemma3TextConfig(**tiny.SIZES, num_key_value_heads=1, head_dim=8), "sdpa", "sliding-window attention"),
    ],
)
def test_unsupported_attention_is_refused(config, attention, complaint):
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    with pytest.raises(ValueError, match=complaint):
        TransformersModel(model, tiny.VOCABULARY_SIZE)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no model can be loaded"):
        TransformersModel.from_pretrained(str(tmp_path), dtype=torch.float32, device="cpu", vocabulary_size=4)
