"""An inflated model is as large as it says and computes what the small one does."""

from dataclasses import replace

import pytest
import tiny
import torch
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from treewright import cli
from treewright.collect.make_pair.inflate import empty_model, inflate
from treewright.collect.make_pair.inflated_pair import save_inflated_pair, write_model
from treewright.collect.make_pair.settings import ModelSize
from treewright.collect.make_pair.sizes import GROWN_SHAPES, GrownShape
from treewright.controller.errors import InputError
from treewright.runtime.api import Model
from treewright.runtime.engines.transformers.loading import load_weights
from treewright.runtime.engines.transformers.model import TransformersModel
from treewright.runtime.engines.transformers.probe import tree_error
from treewright.runtime.pair import load_pair
from treewright.runtime.pair_config import PairConfig, reference_folder
from treewright.runtime.speculation import SpeculationConfig

# The tiny models have 2 layers, 32 channels, 48 of feed-forward, 4 heads of 8 in 2 groups.
READERS = tuple(f"{name}_proj.weight" for name in ("q", "k", "v", "gate", "up"))
SIZE = ModelSize(num_layers=3, hidden_size=108, intermediate_size=64, num_heads=12, num_key_value_heads=3)


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
@pytest.mark.parametrize("hidden_size", [32, 64, 108])  # one to three copies of each channel
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
def test_stored_in_bfloat16_it_still_is_the_reference_target_in_float32(reference):
    large = inflate(reference, ModelSize(39, 512, 512, 4, 1), dtype=torch.bfloat16).float()
    text = torch.arange(5, 4000, 100)[None]
    found, expected = large(text).logits, reference(text).logits
    assert torch.equal(found.argmax(-1), expected.argmax(-1))
    assert (found - expected).abs().max() < 2e-4  # norm weights rounded to bfloat16, without copies, make it 0.04


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
        (ModelSize(1, 108, 64, 12, 3), "a model of 2 layers would get 1"),
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


def test_written_in_several_files_it_is_the_model_in_memory(tmp_path):
    small = small_model(tie_word_embeddings=True)
    write_model(tmp_path / "model", small, SIZE, dtype=torch.bfloat16, device="cpu", shard_bytes=10_000)
    assert len(list((tmp_path / "model").glob("model-*-of-*.safetensors"))) > 2
    read = load_weights(str(tmp_path / "model"), torch.bfloat16).state_dict()
    expected = inflate(small, SIZE).state_dict()
    assert read.keys() == expected.keys()
    assert all(torch.equal(read[name], weight) for name, weight in expected.items())


def test_an_inflated_pair_writes_and_accepts_what_the_small_one_does(tmp_path):
    small = PairConfig(str(reference_folder() / "drafter"), str(reference_folder() / "drafter-early"))
    shape = GrownShape(ModelSize(3, 384, 512, 4, 1), ModelSize(2, 256, 384, 4, 2))
    save_inflated_pair(tmp_path / "pair", replace(small, dtype="bfloat16"), shape)
    assert [path.name for path in tmp_path.iterdir()] == ["pair"]
    large = PairConfig(str(tmp_path / "pair" / "target"), str(tmp_path / "pair" / "drafter"))
    speculation = SpeculationConfig(dynamic=(3, 4, 12), guard=False)  # the guard goes by the clock
    of_large, of_small = (Model(load_pair(models), speculation) for models in (large, small))
    for temperature in (0.0, 1.0):
        found, expected = (
            model.generate("def main(", max_tokens=12, temperature=temperature, seed=3)
            for model in (of_large, of_small)
        )
        assert found == expected
        assert found.block_efficiency > 1


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--inflate", "2b"], "inflate is one of 100m, 1b, 8b, got '2b'"),
        (["--inflate", "1b", "--library", "lib"], "with --inflate the following does nothing: library;"),
        (["--inflate", "1b", "--fit.seed", "1", "--shape.vocabulary_size", "300"], "nothing: shape, fit; leave"),
        (["--inflate", "1b", "--prompts.tune", "1", "--threads", "1"], "does nothing: prompts, threads; leave"),
        (
            ["--inflate", "1b", "--pair.device", "cuda", "--pair.graphs", "false"],
            "so pair.graphs and pair.cache_tokens do nothing there",
        ),
        (["--pair.target", "folder"], "without --inflate the following does nothing: pair; leave all options"),
        (["--inflate", "1b", "--pair.target", "./none"], "there is no folder './none'"),
    ],
)
def test_options_that_do_nothing_are_refused_by_name(tmp_path, capsys, options, complaint):
    assert cli.main(["make-pair", "--out", str(tmp_path / "pair"), *options]) == 2
    assert complaint in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA")
def test_a_device_that_is_not_there_is_refused(tmp_path, capsys):
    options = ["--out", str(tmp_path / "pair"), "--inflate", "100m", "--pair.device", "cuda"]
    assert cli.main(["make-pair", *options]) == 2
    assert "this machine has no CUDA" in capsys.readouterr().err


def test_a_folder_that_holds_something_is_left_as_it_is(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert cli.main(["make-pair", "--out", str(tmp_path), "--inflate", "100m"]) == 2
    assert "exists and is no empty folder; choose a new output folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_pair_larger_than_the_size_is_refused_before_anything_is_written(tmp_path):
    small = str(reference_folder() / "drafter")
    shape = GrownShape(ModelSize(2, 128, 352, 2, 1), ModelSize(1, 128, 352, 2, 1))
    with pytest.raises(InputError, match="drafter: inflating only adds, but a model of 2 layers would get 1"):
        save_inflated_pair(tmp_path / "pair", PairConfig(small, small), shape)
    assert not any(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert cli.main(["make-pair", "--out", str(tmp_path / "file" / "pair"), "--inflate", "100m"]) == 2
    assert "pair cannot be written (File exists); correct that" in capsys.readouterr().err
