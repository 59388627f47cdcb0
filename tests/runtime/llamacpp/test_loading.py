"""A file that llama.cpp cannot read, or cannot decode as a tree, is refused in a sentence."""

from pathlib import Path

import gguf_models
import numpy as np
import pytest
from treewright.controller.errors import InputError
from treewright.controller.pricing.latency_cache import cache_path
from treewright.runtime.engines.llamacpp.config import LlamaCppConfig
from treewright.runtime.engines.llamacpp.export.package import gguf_package
from treewright.runtime.engines.llamacpp.export.vocabulary import add_vocabulary
from treewright.runtime.engines.llamacpp.loading import load_model
from treewright.runtime.pair import load_pair
from treewright.runtime.pair_config import PairConfig

pytestmark = pytest.mark.engine


def content():
    return Path(gguf_models.files()[0]).read_bytes()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda whole: b"", "does not begin as a GGUF file does"),
        (lambda whole: b"PK\x03\x04" + whole[4:], "does not begin as a GGUF file does"),
        (lambda whole: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git-lfs pointer"),
        (lambda whole: whole[:10], "llama.cpp cannot load"),
        (lambda whole: whole[: len(whole) // 10], "llama.cpp cannot load"),
        (lambda whole: whole[:-1000], "llama.cpp cannot load .*tensor .*not within the file bounds"),
        (lambda whole: whole.replace(b"attn_norm", b"attn_nurm", 1), "llama.cpp cannot load .*attn_norm"),
        (lambda whole: whole.replace(b"llama", b"lhama", 1), "llama.cpp cannot load .*lhama"),
    ],
)
def test_a_damaged_file_is_refused(change, complaint, tmp_path):
    (tmp_path / "bad.gguf").write_bytes(change(content()))
    with pytest.raises(InputError, match=complaint) as refusal:
        load_model(str(tmp_path / "bad.gguf"), LlamaCppConfig())
    assert "\n" not in str(refusal.value)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        load_model(str(tmp_path), LlamaCppConfig())


def test_a_recurrent_model_is_refused(tmp_path):
    with pytest.raises(InputError, match="is a recurrent model, whose state cannot branch; choose"):
        load_model(recurrent(tmp_path / "mamba.gguf"), LlamaCppConfig())


def recurrent(path):
    """A Mamba of one layer, all ones."""
    gguf, rows, width, inner, states = gguf_package(), gguf_models.VOCABULARY_SIZE, 8, 16, 4
    writer = gguf.GGUFWriter(path, "mamba")
    writer.add_context_length(64)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_block_count(1)
    writer.add_ssm_conv_kernel(4)
    writer.add_ssm_inner_size(inner)
    writer.add_ssm_state_size(states)
    writer.add_ssm_time_step_rank(1)
    writer.add_layer_norm_rms_eps(1e-5)
    add_vocabulary(writer, "mamba", gguf_models.tokens(), rows, [257])
    shapes = {
        "token_embd.weight": (rows, width),
        "output_norm.weight": (width,),
        "blk.0.attn_norm.weight": (width,),
        "blk.0.ssm_in.weight": (2 * inner, width),
        "blk.0.ssm_conv1d.weight": (inner, 4),
        "blk.0.ssm_conv1d.bias": (inner,),
        "blk.0.ssm_x.weight": (1 + 2 * states, inner),
        "blk.0.ssm_dt.weight": (inner, 1),
        "blk.0.ssm_dt.bias": (inner,),
        "blk.0.ssm_a": (inner, states),
        "blk.0.ssm_d": (inner,),
        "blk.0.ssm_out.weight": (width, inner),
    }
    for name, shape in shapes.items():
        writer.add_tensor(name, np.ones(shape, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return str(path)


def test_layers_on_a_gpu_are_refused_where_there_is_none():
    with pytest.raises(InputError, match=r"pair.llamacpp.gpu_layers is 3, but this llama.cpp was built without a GPU"):
        load_model(gguf_models.files()[0], LlamaCppConfig(gpu_layers=3))


def test_a_drafter_of_another_vocabulary_is_refused(tmp_path):
    fast = gguf_models.tokens()
    fast.add_tokens(["more"])
    other = gguf_models.written(tmp_path, gguf_models.network(rows=260), fast=fast)
    with pytest.raises(InputError, match=r"different tokenizers \(259 and 260 tokens\)"):
        load_pair(PairConfig(gguf_models.files()[0], other))


def test_a_latency_table_is_of_a_file_and_of_how_it_is_run(tmp_path):
    target, drafter = gguf_models.files()
    copied = tmp_path / Path(target).name
    copied.write_bytes(content())
    half = gguf_models.written(tmp_path, gguf_models.network(), "f16", name="half")
    keys = [
        load_pair(PairConfig(*files, llamacpp=options, threads=1)).latency_key
        for files, options in (
            ((target, drafter), LlamaCppConfig()),
            ((str(copied), drafter), LlamaCppConfig()),
            ((half, drafter), LlamaCppConfig()),
            ((target, drafter), LlamaCppConfig(cache_type="f16")),
            ((target, drafter), LlamaCppConfig(flash_attention=True)),
        )
    ]
    assert cache_path(keys[0]) == cache_path(keys[1])
    assert len({cache_path(key) for key in keys}) == 4
    assert keys[2]["dtype"] == "F16, f32 cache+all F32, f32 cache"
    assert keys[0]["engine"] == "llamacpp"
