"""Loading GGUF files: what llama.cpp cannot read, or cannot decode as a tree, becomes one sentence."""

import os
from pathlib import Path
from typing import Any

from ....controller.errors import InputError
from .config import LlamaCppConfig
from .context import Context
from .library import llama_cpp, quiet_log
from .model import LlamaCppModel
from .probe import tree_error
from .vocabulary import GgufTokenizer

MAGIC = b"GGUF"
LFS_POINTER = b"version https://git-lfs"


def load_model(name: str, config: LlamaCppConfig) -> LlamaCppModel:
    """The model in a GGUF file; InputError with one sentence where it cannot be read or decoded as a tree."""
    library, path = llama_cpp(), os.path.expanduser(name)
    _require_gguf(name, Path(path))
    if config.gpu_layers and not library.llama_supports_gpu_offload():
        raise InputError(
            f"pair.llamacpp.gpu_layers is {config.gpu_layers}, but this llama.cpp was built without a GPU; leave it "
            "out, or build llama-cpp-python for yours"
        )
    options = library.llama_model_default_params()
    options.n_gpu_layers = config.gpu_layers
    with quiet_log() as said:
        model = library.llama_model_load_from_file(os.fsencode(path), options)
    if not model:
        raise InputError(f"llama.cpp cannot load {name!r}{said.sentence}; copy or export the file again")
    reason = _unsupported_reason(library, model)
    if reason is not None:
        library.llama_model_free(model)
        raise InputError(f"{name!r} {reason}; choose a model that only decodes, with a cache of keys and values")
    context = Context(name, model, config)
    tokens = GgufTokenizer(context).vocabulary
    weights = library.llama_ftype_name(library.llama_model_ftype(model)).decode()
    opened = LlamaCppModel(path, context, config, vocabulary_size=max(tokens.values()) + 1, weights=weights)
    error = tree_error(opened, weights)
    if error is not None:
        raise InputError(f"{name!r} cannot be decoded as a tree: {error}; choose a model of another architecture")
    return opened


def _require_gguf(name: str, path: Path) -> None:
    if not path.is_file():
        raise InputError(f"there is no file {name!r}; give a GGUF file, which `treewright export-gguf` writes")
    try:
        with path.open("rb") as file:
            head = file.read(len(LFS_POINTER))
    except OSError as error:
        raise InputError(f"{name!r} cannot be read ({error.strerror}); correct that or choose another file") from error
    if head == LFS_POINTER:
        raise InputError(f"{name} is a git-lfs pointer in place of the file; run `git lfs pull` in its folder")
    if not head.startswith(MAGIC):
        raise InputError(f"{name!r} does not begin as a GGUF file does; copy or export the file again")


def _unsupported_reason(library: Any, model: Any) -> str | None:
    """Why a model cannot be decoded as a tree whatever its weights are; None where nothing speaks against it."""
    if library.llama_model_has_encoder(model) or not library.llama_model_has_decoder(model):
        return "is an encoder, or has one"
    if library.llama_model_is_recurrent(model):
        return "is a recurrent model, whose state cannot branch"
    if library.llama_model_is_hybrid(model):
        return "has recurrent layers, whose state cannot branch"
    if library.llama_model_is_diffusion(model):
        return "is a diffusion model, which does not go from left to right"
    if not library.llama_vocab_n_tokens(library.llama_model_get_vocab(model)):
        return "has no tokens"
    return None
