"""What the settings of an engine refuse, by name and before anything is loaded."""

from importlib.util import find_spec

import pytest
from treewright.controller.errors import InputError
from treewright.runtime.engines.llamacpp.config import LlamaCppConfig
from treewright.runtime.pair import load_pair
from treewright.runtime.pair_config import PairConfig

GGUF = {"target": "a/target.gguf", "drafter": "a/drafter.GGUF"}


@pytest.mark.parametrize(
    ("fields", "engine"),
    [({}, "transformers"), (GGUF, "llamacpp"), (GGUF | {"engine": "llamacpp"}, "llamacpp")],
)
def test_a_gguf_file_asks_for_llamacpp(fields, engine):
    assert PairConfig(**fields).engine_name == engine


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"engine": "mlx"}, "pair.engine is one of transformers, llamacpp, got 'mlx'"),
        (
            GGUF | {"engine": "transformers"},
            "pair.target 'a/target.gguf' is a GGUF file, which pair.engine tr",
        ),
        ({"drafter": "d.gguf"}, "pair.drafter 'd.gguf' is a GGUF file"),
        ({"target": "t.gguf"}, "pair.engine llamacpp reads GGUF files, and pair.drafter is 'reference'"),
        ({"engine": "llamacpp"}, "pair.engine llamacpp reads GGUF files, and pair.target is 'reference'"),
        (GGUF | {"dtype": "bfloat16"}, "under pair.engine llamacpp the following does nothing: pair.dtype; leave"),
        (GGUF | {"device": "cuda", "graphs": False}, "does nothing: pair.device, pair.graphs; leave all of it out"),
        (GGUF | {"cache_tokens": 4096}, "does nothing: pair.cache_tokens"),
        (
            {"llamacpp": LlamaCppConfig(texts=4)},
            "under pair.engine transformers .*: pair.llamacpp.texts; leave",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_by_name(fields, complaint):
    with pytest.raises(InputError, match=complaint):
        PairConfig(**fields)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"texts": 0}, "pair.llamacpp.texts is between 1 and 256, got 0"),
        ({"texts": 257}, "pair.llamacpp.texts is between 1 and 256, got 257"),
        ({"context": 100}, r"pair.llamacpp.context is between 256 and 10000000, got 100"),
        ({"context": 2**32}, r"pair.llamacpp.context is between 256 and 10000000, got 4294967296"),
        ({"gpu_layers": -2}, "pair.llamacpp.gpu_layers is at least -1, got -2"),
        ({"cache_type": "q4_0"}, "pair.llamacpp.cache_type is one of f32, f16, bf16, q8_0, got 'q4_0'"),
        ({"cache_type": "q8_0"}, "cache_type q8_0 needs flash attention"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(fields, complaint):
    with pytest.raises(InputError, match=complaint):
        LlamaCppConfig(**fields)


def test_a_missing_file_or_a_missing_package_is_a_sentence(tmp_path):
    file = str(tmp_path / "none.gguf")
    installed = find_spec("llama_cpp") is not None
    complaint = "there is no file .*none.gguf" if installed else "llama-cpp-python is not installed; run `pip install"
    with pytest.raises(InputError, match=complaint):
        load_pair(PairConfig(file, file))
