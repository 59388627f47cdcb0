"""An inflated model is as large as it says and computes what the small one does."""

from typing import Any

import pytest
import tiny
import torch
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from treewright.collect.make_pair.inflate import empty_model, inflate
from treewright.collect.make_pair.settings import ModelSize
from treewright.collect.make_pair.sizes import GROWN_SHAPES
from treewright.controller.errors import InputError
from treewright.runtime.engines.transformers.loading import load_weights
from treewright.runtime.engines.transformers.model import TransformersModel
from treewright.runtime.engines.transformers.support import tree_error
from treewright.runtime.pair_config import reference_folder

# The tiny models have 2 layers, 32 channels, 48 of feed-forward, 4 heads of 8 in 2 groups.
READERS = tuple(f"{name}_proj.weight" for name in ("q", "k", "v", "gate", "up"))
SIZE = ModelSize(num_layers=3, hidden_size=112, intermediate_size=64, num_heads=12, num_key_value_heads=3)


def small_model(**fields):
    torch.manual_seed(1)
    config = LlamaConfig(**{**tiny.SIZES, "num_key_value_heads": 2, **fields})
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").to(torch.float64).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name or name.endswith("bias"):
                weight.normal_(1.0, 0.5)
    return model


def with_norms_in_float64(model):
    """transformers' own compute in float32, whatever the model's format."""
    for name, norm in list(model.named_modules()):
        if isinstance(norm, LlamaRMSNorm):
            exact = nn.RMSNorm(len(norm.weight), eps=norm.variance_epsilon, dtype=torch.float64)
            exact.weight = norm.weight
            model.set_submodule(name, exact)
    return model


@pytest.fixture(scope="module")
def reference():
    return load_weights(str(reference_folder() / "target"), torch.float32)


@pytest.mark.parametrize("fields", [{}, {"tie_word_embeddings": True}, {"attention_bias": True, "mlp_bias": True}])
@pytest.mark.parametrize("hidden_size", [32, 64, 112])  # one to three copies of each channel
@torch.inference_mode()
def test_its_logits_are_the_small_models(fields, hidden_size):
    small = small_model(**fields)
    size = ModelSize(3, hidden_size, 64, 12, 3)
    large = with_norms_in_float64(inflate(small, size, dtype=torch.float64))
    texts = torch.randint(tiny.VOCABULARY_SIZE, (8, 48), generator=torch.Generator().manual_seed(2))
    expected = with_norms_in_float64(small)(texts).logits
    assert expected.std() > 0.1
    assert (large(texts).logits - expected).abs().max() < 1e-10


def test_weights_that_do_not_write_to_the_residual_stream_are_not_zero():
    large = inflate(small_model(), SIZE, dtype=torch.float64)
    reading = {name: weight for name, weight in large.named_parameters() if name.endswith(READERS)}
    assert len(reading) == 3 * 5
    assert all((weight != 0).all() for weight in reading.values())


@torch.inference_mode()
def test_stored_in_bfloat16_it_still_writes_the_reference_targets_greedy_text(reference):
    large: Any = inflate(reference, ModelSize(39, 512, 512, 4, 1), dtype=torch.bfloat16).float()
    prompt = torch.tensor([[17, 400, 81, 2000, 5]])
    options = {"attention_mask": torch.ones_like(prompt), "max_new_tokens": 12, "do_sample": False, "pad_token_id": 0}
    assert large.generate(prompt, **options).tolist() == reference.generate(prompt, **options).tolist()
    difference = (large(prompt).logits - reference(prompt).logits).abs().max()
    assert difference < 1e-4  # norm weights rounded to bfloat16, without copies, make it 0.04


def test_it_is_decoded_as_a_tree():
    model = inflate(small_model(), SIZE, dtype=torch.float64)
    opened = TransformersModel(model, tiny.VOCABULARY_SIZE)
    assert tree_error(opened, model) is None


@pytest.mark.parametrize("name", GROWN_SHAPES)
def test_a_named_size_is_what_its_name_says(reference, name):
    wanted = float(name[:-1]) * {"m": 1e6, "b": 1e9}[name[-1]]
    shape = GROWN_SHAPES[name]
    small_drafter = load_weights(str(reference_folder() / "drafter"), torch.float32)
    target = empty_model(reference, shape.target, torch.bfloat16).num_parameters()
    drafter = empty_model(small_drafter, shape.drafter, torch.bfloat16).num_parameters()
    assert 0.85 * wanted < target < 1.15 * wanted
    assert 8 <= target / drafter <= 12
    for size in shape:
        assert [width % 256 for width in (size.hidden_size, size.intermediate_size, size.num_heads * 64)] == [0, 0, 0]


@pytest.mark.parametrize(
    ("size", "complaint"),
    [
        (ModelSize(1, 112, 64, 12, 3), "a model of 2 layers would get 1"),
        (ModelSize(2, 31, 64, 12, 3), "a model of 32 channels would get 31"),
        (ModelSize(2, 32, 47, 12, 3), "a model of 48 feed-forward channels would get 47"),
        (ModelSize(2, 32, 48, 8, 1), "a model of 2 key-value heads would get 1"),
        (ModelSize(2, 32, 48, 3, 3), "a model of 2 query heads per key-value head would get 1"),
        (ModelSize(2, 32, 48, 4, 3), "num_heads is a multiple of num_key_value_heads"),
    ],
)
def test_a_size_smaller_than_the_model_is_refused(size, complaint):
    with pytest.raises(InputError, match=complaint):
        inflate(small_model(), size)


def test_another_architecture_is_refused():
    with pytest.raises(InputError, match="only Llama-architecture models can be inflated, got 'gpt2'"):
        inflate(tiny.model_of("gpt2").model, SIZE)
