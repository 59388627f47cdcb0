"""Merged projections are the same function under the same names."""

from typing import Any

import pytest
import tiny
import torch
from torch import nn
from transformers import AutoModelForCausalLM, GemmaConfig, LlamaConfig, MistralConfig, PreTrainedModel, Qwen2Config
from treewright.runtime.engines.transformers.fingerprint import fingerprint
from treewright.runtime.engines.transformers.merged import MergedLinear, merge_projections

SIZES: dict[str, Any] = tiny.SIZES
CONFIGS = {
    "grouped heads": LlamaConfig(**SIZES, num_key_value_heads=2),
    "biases": LlamaConfig(**SIZES, num_key_value_heads=2, attention_bias=True, mlp_bias=True),
    "biases of queries, keys and values alone": Qwen2Config(**SIZES, num_key_value_heads=2),
    "one key head, tied embeddings": GemmaConfig(**SIZES, num_key_value_heads=1, head_dim=8),
    "other sizes than the model's": MistralConfig(**SIZES, num_key_value_heads=2, head_dim=20, sliding_window=None),
}
TOKENS = torch.tensor([[5, 1, 30, 2, 2, 17], [9, 9, 0, 39, 4, 8]])


def network(name) -> PreTrainedModel:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[name]).double()
    for parameter in model.parameters():  # biases begin as zeros
        nn.init.normal_(parameter, std=0.3)
    return model


@torch.inference_mode()
def logits(model):
    return model(TOKENS, use_cache=False).logits


@pytest.mark.parametrize("name", CONFIGS)
def test_a_merged_model_has_the_same_logits_names_and_fingerprint(name):
    model = network(name)
    expected, names, identity = logits(model), list(model.state_dict()), fingerprint(model)
    weights = {key: weight.clone() for key, weight in model.state_dict().items()}
    merge_projections(model)
    merged = [each for each in model.modules() if isinstance(each, MergedLinear)]
    assert len(merged) == 5 * tiny.SIZES["num_hidden_layers"]
    # The same float64 sums, of a wider product.
    torch.testing.assert_close(logits(model), expected, rtol=0, atol=1e-12)
    assert list(model.state_dict()) == names
    assert all(torch.equal(weight, weights[key]) for key, weight in model.state_dict().items())
    assert fingerprint(model) == identity


def test_merging_copies_each_weight_once():
    """The parts are views of what is multiplied: nothing is held twice."""
    model = network("biases")
    merge_projections(model)
    for module in model.modules():
        if isinstance(module, MergedLinear):
            shared, index = module.shared, module.index
            before = sum(shared.sizes[:index])
            assert module.weight.data_ptr() == shared.weight[before:].data_ptr()
            assert module.bias is not None and shared.bias is not None
            assert module.bias.data_ptr() == shared.bias[before:].data_ptr()


class Projections(nn.Module):
    """Of an attention; keys and values may be of other rows, as in attention to another text."""

    def __init__(self, has_bias=False, key_size=6):
        super().__init__()
        torch.manual_seed(0)
        self.q_proj = nn.Linear(6, 8, bias=False)
        self.k_proj = nn.Linear(key_size, 4, bias=has_bias)
        self.v_proj = nn.Linear(6, 4, bias=False)
        self.double()

    def forward(self, queries, keys, values):
        return self.q_proj(queries), self.k_proj(keys), self.v_proj(values)


def test_a_projection_of_other_rows_than_the_first_is_of_those_rows():
    plain, merged = Projections(), Projections()
    merge_projections(merged)
    assert isinstance(merged.k_proj, MergedLinear)
    rows, others, thirds = torch.randn(3, 5, 6, dtype=torch.float64)
    for given in ((rows, others, others), (rows, rows, others), (rows, others, rows), (others, rows, thirds)) * 2:
        for output, expected in zip(merged(*given), plain(*given), strict=True):
            torch.testing.assert_close(output, expected, rtol=0, atol=1e-14)


def test_a_projection_that_is_asked_first_is_of_its_own_rows():
    plain, merged = Projections(), Projections()
    merge_projections(merged)
    for rows in torch.randn(2, 5, 6, dtype=torch.float64):
        for name in ("v_proj", "k_proj", "q_proj", "v_proj"):
            output, expected = getattr(merged, name)(rows), getattr(plain, name)(rows)
            torch.testing.assert_close(output, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    "model",
    [Projections(has_bias=True), Projections(key_size=5), tiny.model_of("gpt2").model],
    ids=["one has a bias", "inputs of two sizes", "other names"],
)
def test_projections_that_do_not_fit_together_are_left_alone(model):
    before = list(model.modules())
    merge_projections(model)
    after = list(model.modules())
    assert len(after) == len(before) and all(left is right for left, right in zip(after, before, strict=True))


def test_a_model_is_merged_once():
    model = network("grouped heads")
    merge_projections(model)
    before, expected = list(model.modules()), logits(model)
    merge_projections(model)
    assert all(left is right for left, right in zip(model.modules(), before, strict=True))
    assert torch.equal(logits(model), expected)
