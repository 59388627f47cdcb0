"""A byte-level BPE tokenizer as metadata of a GGUF file."""

import json
from collections.abc import Sequence
from typing import Any

from .....controller.errors import InputError
from .package import gguf_package

MOST_ENDS = 3  # end of text, of turn, of message
HINT = "convert the folder with llama.cpp's own convert_hf_to_gguf.py"


def add_vocabulary(writer: Any, name: str, fast: Any, num_rows: int, end_tokens: Sequence[int]) -> None:
    """The tokens of a fast tokenizer for a model of `num_rows` rows, to a `gguf.GGUFWriter`; InputError for another
    kind than GPT-2's."""
    kinds = gguf_package().TokenType
    state = json.loads(fast.backend_tokenizer.to_str())
    _require_gpt2(name, state)
    spelled = {token: text for text, token in fast.get_vocab().items()}
    added = {token["id"]: token["special"] for token in state["added_tokens"]}
    tokens, types = [], []
    for token in range(num_rows):
        known = token in spelled
        tokens.append(spelled[token] if known else f"[PAD{token}]")
        kind = kinds.NORMAL if known else kinds.UNUSED
        if token in added:
            kind = kinds.CONTROL if added[token] else kinds.USER_DEFINED
        types.append(kind)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(merge) for merge in state["model"]["merges"]])
    _add_ends(writer, name, end_tokens)
    before = list(fast("")["input_ids"])
    if before not in ([], [fast.bos_token_id]):
        raise InputError(f"the tokenizer of {name!r} adds tokens {before} to every text, which is not exported; {HINT}")
    if fast.bos_token_id is not None:
        writer.add_bos_token_id(fast.bos_token_id)
    writer.add_add_bos_token(bool(before))
    if isinstance(fast.chat_template, str):
        writer.add_chat_template(fast.chat_template)


def _require_gpt2(name: str, state: dict[str, Any]) -> None:
    """InputError unless texts are split as GPT-2 does and then into bytes."""
    split, model = state["pre_tokenizer"] or {}, state["model"]
    is_gpt2 = split.get("type") == "ByteLevel" and split["use_regex"] and not split["add_prefix_space"]
    is_bpe = model["type"] == "BPE" and model["merges"] and not model.get("ignore_merges")
    if not is_bpe or not is_gpt2 or state["normalizer"] is not None:
        raise InputError(
            f"the tokenizer of {name!r} is not byte-level BPE with GPT-2's splitting, the one kind that is exported; "
            f"{HINT}"
        )


def _add_ends(writer: Any, name: str, end_tokens: Sequence[int]) -> None:
    if len(end_tokens) > MOST_ENDS:
        raise InputError(
            f"model {name!r} has {len(end_tokens)} end tokens, and a GGUF file names {MOST_ENDS} at most; {HINT}"
        )
    adders = (writer.add_eos_token_id, writer.add_eot_token_id, writer.add_eom_token_id)
    for add, token in zip(adders, end_tokens, strict=False):
        add(token)
