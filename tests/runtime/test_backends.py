"""A model that cannot be decoded as a tree, or is not whole, is refused by name."""

import json
from typing import Any

import pytest
import tiny
import torch
from architectures import FAMILIES, small_config
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, MistralConfig
from treewright.controller.errors import InputError
from treewright.controller.policies.selector import Selector
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.trees.limits import TreeLimits
from treewright.runtime.engines.transformers.model import TransformersModel

TOKENS = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
BART = {"d_model": 32, "decoder_ffn_dim": 48, "decoder_layers": 2, "encoder_layers": 2, "init_std": 0.3}
# Architectures that pass by their configuration: biases by the cache's rows in place of positions, a cache that is
# asked for its length, attention in both directions.
MISLED = {
    "falcon": {"alibi": True, "multi_query": False},
    "bart": BART | {"decoder_attention_heads": 4, "encoder_attention_heads": 4, "encoder_ffn_dim": 48},
    "bert": {},
}


def test_attention_that_was_chosen_otherwise_is_refused():
    model = AutoModelForCausalLM.from_config(tiny.FAMILIES["qwen2"], attn_implementation="eager")
    with pytest.raises(InputError, match="needs sdpa attention"):
        TransformersModel(model, tiny.VOCABULARY_SIZE)


def load(folder):
    return TransformersModel.from_pretrained(str(folder), dtype=torch.float32, device="cpu")


@pytest.mark.parametrize("kind", MISLED)
@pytest.mark.filterwarnings("ignore")  # transformers' own, about odd configurations
def test_a_model_whose_trees_are_not_its_own_text_is_refused(kind, tmp_path):
    config = AutoConfig.for_model(kind, **tiny.SIZES | TOKENS | MISLED[kind])
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=rf"\({kind}\) cannot be decoded as a tree: .*; choose a model of another"):
        load(tmp_path)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_model_that_follows_our_mask_passes_and_leaves_no_cache_behind(family, tmp_path):
    tiny.model_of(family).model.save_pretrained(tmp_path)
    model = load(tmp_path)
    assert len(model.lengths) == 0
    assert model.cache.capacity == 0


@pytest.fixture
def folder(tmp_path):
    tiny.llama(dtype=torch.float32).model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    save_file(change(weights), folder / "model.safetensors", metadata={"format": "pt"})


def change_config(folder, **fields):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | fields))


def of_a_wrapper(weights):
    return {f"module.{name}": weight for name, weight in weights.items()}


def first_layer(weights):
    return {name: weight for name, weight in weights.items() if "layers.1." not in name}


def no_output(weights):
    return {name: weight for name, weight in weights.items() if name != "lm_head.weight"}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (of_a_wrapper, r"lacks 21 of its weights \(lm_head.weight, .*unknown ones such as module.lm_head.weight"),
        (first_layer, r"lacks 9 of its weights \(model.layers.1.input_layernorm.weight, "),
        (no_output, r"lacks 1 of its weights \(lm_head.weight\)"),
    ],
)
def test_missing_weights_are_refused_by_name(change, complaint, folder):
    change_weights(folder, change)
    with pytest.raises(InputError, match=complaint):
        load(folder)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"num_hidden_layers": 4}, "lacks 18 of its weights"),
        ({"vocab_size": 64}, r"lm_head.weight is 40 x 32 in the file and 64 x 32 by the configuration"),
        ({"model_type": "llama9"}, "no model can be loaded .*llama9"),
        ({"num_hidden_layers": "two"}, "no model can be loaded .*num_hidden_layers"),
        ({"num_attention_heads": 5}, "no model can be loaded .*number of attention heads"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "no model can be loaded .*optimum"),
        (
            {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config"}},
            "no model can be loaded .*custom code",
        ),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(fields, complaint, folder):
    change_config(folder, **fields)
    with pytest.raises(InputError, match=complaint):
        load(folder)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git-lfs pointer .* run `git lfs pull`"),
        (b"", "no model can be loaded"),
        (b"\x00" * 100, "no model can be loaded"),
    ],
)
def test_a_file_without_weights_is_refused(content, complaint, folder):
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=complaint):
        load(folder)


def test_pickled_weights_that_are_cut_off_are_refused(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(InputError, match="no model can be loaded"):
        load(folder)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(InputError, match="no model can be loaded"):
        load(tmp_path)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_model_that_was_handed_in_is_its_owners_again_once_released(family):
    model: Any = tiny.model_of(family).model  # transformers types `generate` for a protocol that its models lack
    prompt = torch.tensor([[1, 2, 3, 4]])

    def run():
        answer = model.generate(
            prompt, max_new_tokens=8, do_sample=False, output_logits=True, return_dict_in_generate=True
        )
        with torch.no_grad():
            return [model(prompt).logits, answer.sequences, *answer.logits]

    before = run()
    ours = TransformersModel(model, tiny.VOCABULARY_SIZE)
    trees = Selector(ConfidenceScorer(), TreeLimits(3, 2, 2, 6))
    decoder = tiny.decoder(ours, tiny.model_of(family, seed=1), trees)
    for _ in range(2):  # it can be opened again
        decoder.generate(tiny.requests(2, 0.0))
        ours.release()
    assert model.config._attn_implementation == "sdpa"
    for old, new in zip(before, run(), strict=True):
        assert torch.equal(old, new)


@pytest.mark.parametrize(
    ("name", "packs", "attention"),
    [
        ("deepseek_v3", True, "sdpa"),
        ("stablelm", False, "sdpa"),
        ("falcon, new", False, "sdpa"),
        ("gemma2", True, "eager"),
        ("gpt_oss", True, "eager"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_folder_is_loaded_with_the_attention_that_its_architecture_has(name, packs, attention, tmp_path):
    AutoModelForCausalLM.from_config(small_config(FAMILIES[name])).save_pretrained(tmp_path)
    model = load(tmp_path)
    assert model.packs == packs
    assert model.model.config._attn_implementation == attention


def test_the_probe_narrows_a_window_only_for_its_own_time(tmp_path):
    config = MistralConfig(**tiny.SIZES, num_key_value_heads=2, sliding_window=100)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    model = load(tmp_path)
    model.open(1, 1)
    assert set(model._windows.values()) == {100}


@pytest.mark.parametrize(
    ("name", "length"), [("llama", 256), ("llama, dynamic", 256), ("llama, yarn", 256), ("phi3, longrope", 64)]
)
def test_a_text_may_be_as_long_as_its_positions_depend_on_nothing_else(name, length):
    model = AutoModelForCausalLM.from_config(small_config(FAMILIES[name]))
    assert TransformersModel(model, tiny.VOCABULARY_SIZE).context_length == length
