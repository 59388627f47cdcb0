"""Tokens of a GGUF file are those of the tokenizer that was exported."""

import gguf_models
import numpy as np
import pytest
from treewright.runtime.engines.llamacpp.config import LlamaCppConfig
from treewright.runtime.engines.llamacpp.loading import load_model
from treewright.runtime.engines.llamacpp.vocabulary import GgufTokenizer
from treewright.runtime.engines.transformers.tokenizer import TransformersTokenizer
from treewright.runtime.text.detokeniser import IncrementalDetokeniser

pytestmark = pytest.mark.engine

TEMPLATE = (
    "{% for m in messages %}<turn>{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<turn>{% endif %}"
)
TEXTS = ["", "abab def\n\n  x = 'é' # 漢字 🙂", "<turn>ab<end>", "\x00\t  \r\n", "it's 1234 o'clock"]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    fast = gguf_models.tokens(TEMPLATE)
    file = gguf_models.written(tmp_path_factory.mktemp("gguf"), gguf_models.network(rows=300), fast=fast)
    return GgufTokenizer(load_model(file, LlamaCppConfig()).context), TransformersTokenizer(fast)


def test_the_vocabulary_is_that_of_the_folder_without_rows_that_only_pad(both):
    ours, theirs = both
    assert ours.vocabulary == theirs.vocabulary
    assert len(ours.vocabulary) == gguf_models.VOCABULARY_SIZE < 300


@pytest.mark.parametrize("text", TEXTS)
def test_texts_become_the_same_tokens(text, both):
    ours, theirs = both
    assert ours.encode(text) == theirs.encode(text)


def test_chats_become_the_same_tokens(both):
    ours, theirs = both
    chat = [{"role": "user", "content": "ab"}, {"role": "assistant", "content": "é"}, {"role": "user", "content": "x"}]
    assert ours.has_chat_template
    assert theirs.has_chat_template
    assert ours.encode_chat(chat) == theirs.encode_chat(chat)


def test_special_tokens_show_nothing_and_end_tokens_are_all_that_end_a_text(both):
    ours, theirs = both
    special = {gguf_models.END: 257, gguf_models.TURN: 258}
    assert ours.detokeniser.special_tokens == theirs.detokeniser.special_tokens == special
    assert ours.decode([256, 257, 258, 97]) == "aba"
    assert ours.end_tokens == {257}


def test_any_bytes_are_shown_as_transformers_shows_them(both):
    generator, (ours, theirs) = np.random.default_rng(0), both
    for length in (1, 2, 5, 40):
        for _ in range(20):
            ids = generator.integers(256, size=length).tolist()
            assert ours.decode(ids) == theirs.detokeniser.decode(ids)


def test_pieces_of_a_text_join_to_the_text(both):
    ours, _ = both
    ids = ours.encode(TEXTS[1])
    pieces = IncrementalDetokeniser(ours, ids[:3])
    assert "".join([*map(pieces.append, ids[3:]), pieces.flush()]) == ours.decode(ids)[len(ours.decode(ids[:3])) :]
