"""A prompt becomes tokens by the target's tokenizer, or a sentence that names it."""

from dataclasses import replace

import pytest
import tiny
from tokenizers import Tokenizer
from tokenizers.models import BPE, WordLevel
from treewright.collect.pipeline import sha256_of
from treewright.collect.prompts.prompt import Prompt, prompt_ids, prompt_request, read_prompt
from treewright.controller.errors import InputError
from treewright.runtime.sampling import Sampling

TEMPLATE = (
    "{% for message in messages %}"
    "{% if message.role == 'system' %}{{ raise_exception('no system message, please') }}{% endif %}"
    "{{ 'w1 ' if message.role == 'user' else 'w2 ' }}{{ message.content }} "
    "{% endfor %}{% if add_generation_prompt %}w2{% endif %}"
)


def prompt(content):
    return read_prompt({"prompt": content}, "p.jsonl", "line 3")


def chat(*turns):
    return prompt([{"role": role, "content": content} for role, content in turns])


def words(template=None):
    tokenizer = tiny.words()
    tokenizer.fast.chat_template = template
    return tokenizer


def test_text_becomes_the_tokens_of_the_text():
    assert prompt_ids(prompt("w5 w6"), words(TEMPLATE)) == [5, 6]


def test_a_chat_becomes_what_its_template_makes_of_it_up_to_the_answer():
    turns = chat(("user", "w5"), ("assistant", "w6"), ("user", "w7"), ("assistant", "w8"))
    assert prompt_ids(turns, words(TEMPLATE)) == [1, 5, 2, 6, 1, 7, 2]


@pytest.mark.parametrize(
    ("row", "tokenizer", "complaint"),
    [
        (chat(("user", "w5")), words(), "is a chat, but the target's tokenizer has no chat template"),
        (chat(("system", "w5"), ("user", "w6")), words(TEMPLATE), r"turned into tokens \(no system message, please\)"),
        (chat(("user", "w5")), words("{{ messages.0"), "turned into tokens"),
        (chat(("user", "w5")), words("{# #}"), "makes no tokens of it"),
        (
            prompt("w5"),
            tiny.words(Tokenizer(WordLevel({"w0": 0}, unk_token="w1"))),
            "turned into tokens",
        ),
        (prompt("w5"), tiny.words(Tokenizer(BPE({"z": 0}, []))), "makes no tokens of it"),
    ],
    ids=["no template", "template refuses", "broken template", "empty template", "unknown word", "no letter known"],
)
def test_one_that_becomes_no_tokens_is_refused_by_name(row, tokenizer, complaint):
    with pytest.raises(InputError, match=f"p.jsonl line 3.*{complaint}") as refusal:
        prompt_ids(row, tokenizer)
    assert "\n" not in str(refusal.value)


def test_one_too_long_for_the_context_is_refused_by_name():
    pair, longest = tiny.pair(), prompt("w5 " * 250)
    assert len(prompt_request(longest, pair, 6, Sampling()).prompt_ids) == 250
    with pytest.raises(InputError, match=r"p.jsonl line 3: the prompt has 250 tokens and 7 more are asked for"):
        prompt_request(longest, pair, 7, Sampling())


def test_one_with_a_token_that_the_models_have_no_row_for_is_refused_by_name():
    words = tiny.words()
    words.fast.add_tokens(["added"])
    pair = replace(tiny.pair(), tokenizer=words)
    with pytest.raises(InputError, match=r"p.jsonl line 3: prompt holds the token id 40"):
        prompt_request(prompt("w5 added"), pair, 1, Sampling())


def test_texts_of_a_chat_differ_by_its_messages_in_the_digest_and_texts_by_their_text_alone():
    assert sha256_of([chat(("user", "w5")).identity]) != sha256_of([chat(("user", "w6")).identity])
    elsewhere = Prompt("w5", "text", "line 3", "/other/p.jsonl line 3", split="tune")
    assert sha256_of([prompt("w5").identity]) == sha256_of([elsewhere.identity])
