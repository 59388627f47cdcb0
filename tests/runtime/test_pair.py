"""What a pair of folders is: its tokens, its ends, its fingerprint."""

import json
import shutil
from collections.abc import Iterable
from dataclasses import replace

import plans
import pytest
import tiny
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from treewright.controller.errors import InputError
from treewright.controller.pricing.latency_cache import cache_path
from treewright.controller.pricing.stacks import stacked_table
from treewright.runtime.build import build_decoder, plain_decoder
from treewright.runtime.engines.transformers.loading import load_tokenizer
from treewright.runtime.pair import PairConfig, load_pair
from treewright.runtime.pair_config import REFERENCE, reference_folder
from treewright.runtime.prices import prices, stored_prices
from treewright.runtime.request import Request
from treewright.runtime.sampling import Sampling
from treewright.runtime.speculation import SpeculationConfig


def words(ids: Iterable[int] = range(tiny.VOCABULARY_SIZE), **special):
    vocabulary = Tokenizer(models.WordLevel({f"w{token}": token for token in ids}, unk_token="w0"))
    vocabulary.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=vocabulary, **special)


def save(folder, tokenizer, rows=tiny.VOCABULARY_SIZE, seed=0, generation=None, **config):
    torch.manual_seed(seed)
    sizes = tiny.SIZES | {"vocab_size": rows, "bos_token_id": None, "eos_token_id": None}
    LlamaForCausalLM(LlamaConfig(**sizes | config)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation))


def pair_at(folder, tokenizer, rows=tiny.VOCABULARY_SIZE, drafter_rows=None, **options):
    save(folder / "target", tokenizer, rows, **options)
    save(folder / "drafter", tokenizer, drafter_rows or rows, seed=1)
    return load_pair(PairConfig(str(folder / "target"), str(folder / "drafter"), threads=1))


def test_ids_behind_a_hole_are_generated(tmp_path):
    tokenizer = words([*range(40), 45], eos_token="w45")
    pair = pair_at(tmp_path, tokenizer, rows=48, eos_token_id=45)
    assert len(tokenizer) == 41
    assert pair.target.vocabulary_size == pair.drafter.vocabulary_size == 46
    network = tiny.network(pair.target)
    network.lm_head.weight.data[45] = 0.0
    with torch.inference_mode():  # the end of text is by far the likeliest
        hidden = network.model(torch.tensor([[1, 2, 3]])).last_hidden_state[0, -1]
        network.lm_head.weight[45] = 10 * hidden / hidden.norm()
    (stream,), _ = plain_decoder(pair).generate([Request([1, 2, 3], 8, Sampling(0.0))])
    assert stream.token_ids == [45]
    assert stream.finish_reason == "stop"


def test_added_tokens_without_rows_are_never_generated(tmp_path):
    tokenizer = words()
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    pair = pair_at(tmp_path, tokenizer)
    assert pair.target.vocabulary_size == pair.drafter.vocabulary_size == 40
    with pytest.raises(InputError, match="holds the token id 40, but the models have rows up to 39 only"):
        plain_decoder(pair).generate([Request(pair.encode("w1 [PAD]"), 4, Sampling())])
    with pytest.raises(InputError, match="holds the token id -1; ids begin with 0"):
        plain_decoder(pair).generate([Request([1, -1], 4, Sampling())])


def stack_at(folder, **sizes):
    """The configuration of a target below which two drafters are stacked."""
    save(folder / "target", words())
    for seed, name in enumerate(("small", "middle"), start=1):
        save(folder / name, words(), sizes.get(name, tiny.VOCABULARY_SIZE), seed=seed)
    return PairConfig(str(folder / "target"), f"[{folder / 'small'}, {folder / 'middle'}]", threads=1)


def test_a_stack_of_two_models_drafts_and_is_priced_by_the_tables_of_both(tmp_path):
    pair = load_pair(stack_at(tmp_path), heads=True)
    request = Request([1, 2, 3], 12, Sampling(0.8, seed=4))
    (plain,), _ = plain_decoder(pair).generate([request])
    decoder = build_decoder(pair, SpeculationConfig(dynamic=(4, 2, 8), ahead=3, guard=False))
    (stream,), stats = decoder.generate([request])
    assert stream.token_ids == plain.token_ids
    assert stats.num_kept > 0
    assert pair.below is not None
    alone = [load_pair(PairConfig(str(tmp_path / "target"), str(tmp_path / name))) for name in ("middle", "small")]
    assert [pair.latency_key, pair.below.latency_key] == [each.latency_key for each in alone]
    replace(plans.TABLE, key=pair.latency_key).save(cache_path(pair.latency_key))
    assert stored_prices(pair, 3) is None
    with pytest.raises(InputError, match=r"for each of the drafters \[.*once with each as pair.drafter"):
        prices(pair, 3)
    replace(plans.TABLE, key=pair.below.latency_key).save(cache_path(pair.below.latency_key))
    assert prices(pair, 3).root_ms == stacked_table(plans.TABLE, plans.TABLE, 3).root_ms


def test_a_stack_is_refused_where_it_cannot_draft(tmp_path):
    config = stack_at(tmp_path)
    with pytest.raises(
        InputError, match=r"is a stack, which drafts in `generate`, `serve` and `bench --measure\.ahead` only"
    ):
        load_pair(config)
    pair = load_pair(config, heads=True)
    with pytest.raises(InputError, match=r"drafts nothing without speculation\.ahead"):
        build_decoder(pair, SpeculationConfig(dynamic=(2, 2, 2)))
    with pytest.raises(InputError, match=r"nothing asks speculation\.datastore"):
        build_decoder(pair, SpeculationConfig(dynamic=(2, 2, 2), ahead=2, datastore=(tmp_path / "notes.txt",)))
    for names, complaint in (("[a, b, c]", "names 3 drafters"), ("[a,]", "names 2 drafters")):
        with pytest.raises(InputError, match=complaint):
            PairConfig(drafter=names)
    with pytest.raises(InputError, match=r"is a stack, which pair\.engine transformers alone runs"):
        PairConfig("a.gguf", "[b.gguf, c.gguf]")
    with pytest.raises(InputError, match="rows for 30 tokens, but target"):
        load_pair(stack_at(tmp_path / "other", small=30), heads=True)


def test_a_drafter_that_lacks_rows_for_what_the_target_generates_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"rows for 40 tokens, but target .* generates 46 different ones"):
        pair_at(tmp_path, words([*range(40), 45]), rows=48, drafter_rows=40)


@pytest.mark.parametrize(
    ("generation", "config", "ends"),
    [
        ({"eos_token_id": [3, 4]}, {}, {3, 4}),
        ({"eos_token_id": 4}, {"eos_token_id": 3}, {4}),
        (None, {"eos_token_id": [3, 4]}, {3, 4}),
        ({"eos_token_id": None}, {"eos_token_id": 3}, {3}),
        ({}, {}, {5}),
        ({"eos_token_id": -1}, {}, {5}),
    ],
)
def test_end_tokens_are_those_of_the_generation_the_model_or_the_tokenizer(generation, config, ends, tmp_path):
    assert pair_at(tmp_path, words(eos_token="w5"), generation=generation, **config).end_tokens == ends


def test_a_model_that_names_no_end_has_none(tmp_path):
    assert pair_at(tmp_path, words(), generation={}).end_tokens == set()


@pytest.mark.parametrize("ends", ["3", [3, "4"], {"a": 1}])
def test_an_end_that_is_no_token_id_is_refused(ends, tmp_path):
    with pytest.raises(InputError, match=r"eos_token_id|no model can be loaded"):
        pair_at(tmp_path, words(), generation={"eos_token_id": ends})


def test_a_damaged_configuration_of_the_generation_is_refused(tmp_path):
    save(tmp_path, words())
    (tmp_path / "generation_config.json").write_text("{")
    with pytest.raises(InputError, match=r"generation_config.json is not JSON"):
        load_pair(PairConfig(str(tmp_path), str(tmp_path), threads=1))


def test_weights_that_no_configuration_asks_for_are_named(tmp_path, caplog):
    save(tmp_path, words())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    load_pair(PairConfig(str(tmp_path), str(tmp_path), threads=1))
    assert "holds 9 weights that its config.json does not ask for (model.layers.1." in caplog.text


def test_a_fingerprint_is_of_weights_and_configuration_and_of_nothing_else(tmp_path):
    first = pair_at(tmp_path / "first", words())
    shutil.copytree(tmp_path / "first", tmp_path / "copy")
    paths = [str(tmp_path / "copy" / role) for role in ("target", "drafter")]
    copy, half = (load_pair(PairConfig(*paths, dtype=dtype, threads=1)) for dtype in ("float32", "bfloat16"))
    assert first.fingerprint == copy.fingerprint == half.fingerprint
    other_weights = pair_at(tmp_path / "weights", words(), seed=7)
    other_config = pair_at(tmp_path / "config", words(), rms_norm_eps=1e-3)
    assert len({pair.fingerprint for pair in (first, other_weights, other_config)}) == 3
    assert first.name == other_weights.name
    assert cache_path(first.latency_key) != cache_path(other_weights.latency_key)
    assert cache_path(copy.latency_key) != cache_path(half.latency_key)


def test_a_latency_table_belongs_to_a_processor(tmp_path):
    assert pair_at(tmp_path, words()).latency_key["processor"]


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"dtype": "bf16"}, "pair.dtype is one of float32"),
        ({"device": "gpu"}, "pair.device is cpu, cuda or cuda:N, got 'gpu'"),
        ({"device": "mps"}, "pair.device is cpu, cuda or cuda:N"),
        ({"device": "cpu:0"}, "pair.device is cpu, cuda or cuda:N"),
        ({"threads": -1}, "pair.threads is between 0 and 1024, got -1"),
        ({"threads": 100_000}, "pair.threads is between 0 and 1024"),
    ],
)
def test_impossible_settings_are_refused(fields, complaint):
    with pytest.raises(InputError, match=complaint):
        PairConfig(**fields)


@pytest.mark.parametrize(
    "content", [b"version https://git-lfs.github.com/spec/v1\n", b"{", b'{"model": {"type": "FutureBPE"}}', b""]
)
def test_a_damaged_tokenizer_is_refused(content, tmp_path):
    save(tmp_path, words())
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(InputError, match=r"git-lfs pointer|no tokenizer can be loaded"):
        load_tokenizer(str(tmp_path))


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    tiny.llama().model.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="no tokenizer can be loaded"):
        load_tokenizer(str(tmp_path))


def test_a_prompt_is_unicode_text_or_the_bytes_of_one():
    pair = tiny.pair()
    assert pair.encode("w1 w2") == [1, 2]
    escaped = "é".encode().decode("ascii", "surrogateescape")
    assert pair.encode(f"w1 {escaped}") == pair.encode("w1 é")
    for strange in ("w1 \ud83d", "w1 \udcff"):
        with pytest.raises(InputError, match="no Unicode text"):
            pair.encode(strange)


def test_the_embedded_pair_has_its_name_by_folder_too():
    target, drafter = (str(reference_folder() / role) for role in ("target", "drafter"))
    assert replace(tiny.pair(), config=PairConfig(target, drafter)).name == REFERENCE
    assert replace(tiny.pair(), config=PairConfig()).name == REFERENCE
    assert replace(tiny.pair(), config=PairConfig(drafter, target)).name == "drafter+target"
