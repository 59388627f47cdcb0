"""A model that is exported is the same function; what cannot be is refused, and nothing half-written stays."""

import json
import re

import gguf_models
import numpy as np
import pytest
import tiny
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from treewright import cli
from treewright.controller.errors import InputError
from treewright.runtime.engines.llamacpp.config import LlamaCppConfig
from treewright.runtime.engines.llamacpp.export.file import write_gguf
from treewright.runtime.engines.llamacpp.export.quantise import quantise
from treewright.runtime.engines.llamacpp.loading import load_model
from treewright.runtime.engines.llamacpp.vocabulary import GgufTokenizer
from treewright.runtime.pair import load_pair
from treewright.runtime.pair_config import REFERENCE, PairConfig
from treewright.runtime.selectors import read_selector

pytestmark = pytest.mark.engine

# By number format, of logits that reach 40: rounding of float32, of weights, of activations.
TOLERANCES = {"f32": 1e-3, "f16": 0.2, "bf16": 2.0, "q8_0": 3.0}
TOKENS = np.arange(5, 45)


def logits_of(file):
    model = load_model(file, LlamaCppConfig())
    model.open(1, 100)
    rows = np.arange(len(TOKENS))[None]
    return model.forward(TOKENS[None], rows, rows - 1)[0].clone()


@torch.inference_mode()
def expected(network):
    return network(torch.from_numpy(TOKENS)[None]).logits[0]


@pytest.mark.parametrize(
    "changes",
    [{}, {"tie_word_embeddings": True}, {"attention_bias": True, "mlp_bias": True}, {"num_key_value_heads": 1}],
)
def test_logits_are_those_of_transformers(changes, tmp_path):
    network = gguf_models.network(0.01, **changes)
    error = (logits_of(gguf_models.written(tmp_path, network)) - expected(network)).abs().max()
    assert float(error) < TOLERANCES["f32"]


def test_another_base_of_rotary_positions_and_another_epsilon_count(tmp_path):
    changes = {"rope_parameters": {"rope_theta": 500.0, "rope_type": "default"}, "rms_norm_eps": 0.1}
    network = gguf_models.network(**changes)
    assert float((logits_of(gguf_models.written(tmp_path, network)) - expected(network)).abs().max()) < 1e-3
    assert float((expected(network) - expected(gguf_models.network())).abs().max()) > 1


@pytest.mark.parametrize("number_format", ["f16", "bf16"])
def test_other_number_formats_round_alone(number_format, tmp_path):
    network = gguf_models.network()
    error = (logits_of(gguf_models.written(tmp_path, network, number_format)) - expected(network)).abs().max()
    assert float(error) < TOLERANCES[number_format]


def test_llama_cpp_quantises_and_the_model_stays_the_same_but_for_rounding(tmp_path):
    network = gguf_models.network()
    exact = gguf_models.written(tmp_path, network)
    quantise(tmp_path / "model.gguf", tmp_path / "small.gguf", "q8_0")
    error = (logits_of(str(tmp_path / "small.gguf")) - logits_of(exact)).abs().max()
    assert 0 < float(error) < TOLERANCES["q8_0"]


def test_a_file_that_is_none_is_not_quantised(tmp_path):
    (tmp_path / "bad.gguf").write_bytes(b"GGUF")
    with pytest.raises(InputError, match=r"cannot quantise bad.gguf to q8_0"):
        quantise(tmp_path / "bad.gguf", tmp_path / "small.gguf", "q8_0")


def test_the_reference_pair_is_exported_and_its_checkpoint_accepted(tmp_path, capsys):
    assert cli.main(["export-gguf", "--out", str(tmp_path / "pair"), "--number_format", "bf16"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["format"] == "bf16"
    target, drafter = (str(tmp_path / "pair" / f"{role}.gguf") for role in ("target", "drafter"))
    pair = load_pair(PairConfig(target, drafter, threads=1))
    assert read_selector(REFERENCE, tokenizer_sha256=pair.tokenizer_sha256).config.pair == REFERENCE
    assert pair.end_tokens == {0}
    assert pair.number_format == "BF16, f32 cache"
    assert {path.name for path in tmp_path.iterdir()} == {"pair"}


def saved(folder, network, fast=None):
    network.save_pretrained(folder)
    (fast or gguf_models.tokens()).save_pretrained(folder)
    return str(folder)


def other_tokenizer():
    words = Tokenizer(models.WordLevel({f"w{token}": token for token in range(259)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="w1")


@pytest.mark.parametrize(
    ("network", "fast", "options", "complaint"),
    [
        (lambda: AutoModelForCausalLM.from_config(tiny.FAMILIES["gpt2"]), None, (), "'gpt2', and only Llama's are"),
        (
            lambda: gguf_models.network(rope_parameters={"rope_theta": 1e4, "rope_type": "linear", "factor": 2.0}),
            None,
            (),
            "'linear' rotary positions, and only unscaled",
        ),
        (lambda: gguf_models.network(hidden_act="gelu"), None, (), "activation 'gelu', and only silu"),
        (gguf_models.network, other_tokenizer, (), "not byte-level BPE with GPT-2's splitting"),
        (gguf_models.network, None, ("q4_k_m",), "rows in blocks of 256, and .* has rows of 32"),
        (gguf_models.network, None, ("int3",), "number_format is one of f32, f16, bf16, q8_0, q4_k_m, got 'int3'"),
    ],
    ids=["architecture", "rope", "activation", "tokenizer", "width", "format"],
)
def test_what_cannot_be_exported_is_refused_and_nothing_is_written(network, fast, options, complaint, tmp_path, capsys):
    good = saved(tmp_path / "good", gguf_models.network())
    bad = saved(tmp_path / "bad", network(), fast and fast())
    words = ["export-gguf", "--out", str(tmp_path / "out"), "--target", good, "--drafter", bad]
    assert cli.main([*words, "--number_format", *(options or ("f32",))]) == 2
    (sentence,) = capsys.readouterr().err.splitlines()[-1:]
    assert re.search(complaint, sentence)
    assert {path.name for path in tmp_path.iterdir()} == {"good", "bad"}


def test_a_folder_that_holds_something_is_left_alone(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    assert cli.main(["export-gguf", "--out", str(tmp_path)]) == 2
    assert "exists and is no empty folder" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"mine.txt"}


def test_every_end_token_is_exported(tmp_path):
    network = gguf_models.network()
    path = tmp_path / "model.gguf"
    write_gguf(path, "m", network, gguf_models.tokens(), [257, 258, 3], "f32")
    assert GgufTokenizer(load_model(str(path), LlamaCppConfig()).context).end_tokens == {257, 258, 3}
    with pytest.raises(InputError, match="has 4 end tokens, and a GGUF file names 3 at most"):
        write_gguf(tmp_path / "more.gguf", "m", network, gguf_models.tokens(), [257, 258, 3, 4], "f32")
