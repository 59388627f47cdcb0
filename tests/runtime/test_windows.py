"""A window is of positions: how deep a row lies in its tree, not where the cache stores it."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from transformers import AutoModelForCausalLM, Gemma2Config, Gemma3TextConfig, GptOssConfig, MistralConfig, Qwen2Config
from treewright.controller.policies.selector import Selector
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.trees.limits import TreeLimits
from treewright.runtime.engines.ancestry import NO_ROWS, extended
from treewright.runtime.engines.base import append_texts
from treewright.runtime.engines.transformers.model import TransformersModel
from treewright.runtime.engines.transformers.static import StaticModel
from treewright.runtime.engines.transformers.windows import Masks, layer_windows, narrowed, row_distances, seen_rows

# One text of 3 rows and the tree 0 -> 1 -> 3, 0 -> 2; one of a single row and the chain 0 -> 1 -> 2 -> 3.
PARENTS = np.array([[-1, 0, 0, 1], [-1, 0, 1, 2]])
LENGTHS = np.array([3, 1])
HIDDEN_AND_SEEN = """
.XXX...
..XXX..
..XX.X.
...XX.X
XX.....
XXX....
.XXX...
..XXX..
"""

SIZES: dict[str, Any] = {**tiny.SIZES, "num_key_value_heads": 2}
KINDS = ["sliding_attention", "full_attention"]


def configs():
    return {
        "mistral": MistralConfig(**SIZES, sliding_window=5),
        "gemma2": Gemma2Config(**SIZES, head_dim=8, sliding_window=5, layer_types=KINDS),
        "gemma3": Gemma3TextConfig(**SIZES, head_dim=8, sliding_window=5, layer_types=KINDS),
        "gpt_oss": GptOssConfig(
            **SIZES, head_dim=8, sliding_window=5, layer_types=KINDS, num_local_experts=2, num_experts_per_tok=1
        ),
    }


def windowed(family, seed=0):
    torch.manual_seed(seed)
    # The usual kernel for experts knows no float64.
    return AutoModelForCausalLM.from_config(configs()[family], experts_implementation="eager").to(torch.float64)


def test_a_window_of_three_positions():
    seen = extended(NO_ROWS, PARENTS)
    distances = row_distances(seen, seen.sum(axis=2) - 1, LENGTHS, 7)
    masks = Masks.of(seen_rows(seen, LENGTHS, 7), {4: 3}, distances, like=torch.zeros(0))
    assert set(masks.windowed) == {4}
    drawn = "\n".join("".join("X" if value == 0 else "." for value in row) for row in masks.windowed[4].reshape(8, 7))
    assert drawn == HIDDEN_AND_SEEN.strip()


@pytest.mark.parametrize(
    ("fields", "windows"),
    [
        ({"sliding_window": 8}, (8, 8)),
        ({"sliding_window": None}, (None, None)),
        ({}, (None, None)),
        ({"sliding_window": 8, "use_sliding_window": False}, (None, None)),
        ({"sliding_window": 8, "layer_types": KINDS}, (8, None)),
        ({"sliding_window": None, "layer_types": KINDS}, (None, None)),
    ],
)
def test_windows_by_layer(fields, windows):
    config = SimpleNamespace(num_hidden_layers=2, **fields)
    config.get_text_config = lambda: config
    assert layer_windows(config) == windows


def test_windows_are_narrowed_for_a_while_and_never_widened():
    config = MistralConfig(sliding_window=4096)
    with narrowed(config, 3):
        assert config.sliding_window == 3
        with narrowed(config, 5):
            assert config.sliding_window == 3
    assert config.sliding_window == 4096


def test_a_qwen2_without_windows_has_none():
    assert set(layer_windows(Qwen2Config(num_hidden_layers=3, use_sliding_window=False))) == {None}


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("family", configs())
@pytest.mark.parametrize("kind", [TransformersModel, StaticModel])
def test_texts_longer_than_the_window_are_those_of_plain_decoding(kind, family, temperature):
    requests = tiny.requests(4, temperature)
    plain = tiny.decoder(TransformersModel(windowed(family), tiny.VOCABULARY_SIZE)).generate(requests)[0]
    target, drafter = (kind(windowed(family, seed), tiny.VOCABULARY_SIZE) for seed in (0, 1))
    deep = Selector(ConfidenceScorer(), TreeLimits(max_depth=7, width=2, frontier=2, budget=10))
    trees = tiny.decoder(target, drafter, deep).generate(requests)[0]
    assert [text.token_ids for text in trees] == [text.token_ids for text in plain]
    assert max(len(request.prompt_ids) + request.max_tokens for request in requests) > 5 * 5


def test_a_text_decoded_one_by_one_has_the_logits_of_its_plain_forward():
    """Row by row no mask is made until the window is full."""
    network = windowed("mistral")
    model, text = TransformersModel(network, tiny.VOCABULARY_SIZE), np.arange(12)
    with torch.inference_mode():
        expected = network(torch.from_numpy(text[None]), use_cache=False).logits[0]
    model.open(1, 20)
    for token in text:
        (row,) = append_texts(model, [np.array([token])])
        torch.testing.assert_close(row, expected[token], rtol=0, atol=1e-12)
