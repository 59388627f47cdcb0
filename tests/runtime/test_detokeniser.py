"""Pieces of text, joined, are what the tokenizer makes of prompt and text at once."""

import random
from itertools import product

import pytest
import tiny
from treewright.runtime.text.detokeniser import MOST_WAITING, IncrementalDetokeniser
from vocabularies import byte_fallback, byte_level

REPLACEMENT = "\ufffd"
# Letters, spaces, beginnings and ends of characters of two to four bytes, and those of the replacement character.
KINDS = [*"a \N{GRINNING FACE}é\ufffd".encode(), 0xE2]
BYTE_LEVEL, BYTE_FALLBACK = byte_level(), byte_fallback()


def token_of(piece) -> int:
    token = BYTE_FALLBACK.token_to_id(piece)
    assert token is not None
    return token


HELLO, WORLD, SPACE, A, START, TURN = map(token_of, ("▁hello", "▁world", "▁", "a", "<s>", "<turn>"))


def pieces(tokenizer, tokens, prompt=()):
    detokeniser = IncrementalDetokeniser(tiny.detokeniser(tokenizer), prompt)
    return [*map(detokeniser.append, tokens), detokeniser.flush()]


def text_of(tokenizer, tokens, prompt=()):
    return "".join(pieces(tokenizer, tokens, prompt))


def behind(prompt, whole):
    """Of the text `whole` what follows the prompt, which may have ended inside a character."""
    same = [a == b for a, b in zip(prompt, whole, strict=False)]
    count = len(same) if all(same) else same.index(False)
    return whole[count:]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_every_sequence_of_bytes_is_shown_as_decoding_all_of_it_shows_it(count):
    wrong = [ids for ids in product(KINDS, repeat=count) if text_of(BYTE_LEVEL, ids) != BYTE_LEVEL.decode(ids)]
    assert wrong == []


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_text_continues_its_prompt_even_inside_a_character(cut):
    for ids in product(KINDS, repeat=3):
        prompt, tokens = ids[:cut], (*ids[cut:], KINDS[0])
        expected = behind(BYTE_LEVEL.decode(prompt), BYTE_LEVEL.decode([*prompt, *tokens]))
        assert text_of(BYTE_LEVEL, tokens, prompt) == expected


def test_long_runs_of_bytes_are_exact_too_and_do_not_wait_for_their_end():
    generator = random.Random(1)
    for _ in range(1000):
        ids = generator.choices(KINDS[2:6], k=generator.randrange(1, 6 * MOST_WAITING))
        cut = generator.randrange(len(ids))
        expected = behind(BYTE_LEVEL.decode(ids[:cut]), BYTE_LEVEL.decode(ids))
        assert text_of(BYTE_LEVEL, ids[cut:], ids[:cut]) == expected
    assert max(map(len, pieces(BYTE_LEVEL, [0xF0] * 1000))) <= MOST_WAITING


def test_a_replacement_character_that_the_text_holds_is_shown():
    assert text_of(BYTE_LEVEL, "a\ufffd\ufffdb".encode(), "a\ufffd".encode()) == "a\ufffd\ufffdb"


def is_part(text, whole):
    """Whether the characters of `text` occur in `whole` in this order."""
    rest = iter(whole)
    return all(character in rest for character in text)


@pytest.mark.parametrize("prompt", [(), (START,), (HELLO,), (HELLO, 0xC3)])
def test_with_byte_fallback_only_the_replacement_of_wrong_bytes_may_differ(prompt):
    kinds = [SPACE, WORLD, START, *"\nĩ\N{GRINNING FACE}".encode()]
    start = BYTE_FALLBACK.decode(prompt)
    for count in (1, 2, 3):
        for ids in product(kinds, repeat=count):
            text, whole = text_of(BYTE_FALLBACK, ids, prompt), BYTE_FALLBACK.decode([*prompt, *ids])
            if REPLACEMENT not in whole and REPLACEMENT not in start:
                assert start + text == whole
            else:
                assert is_part(behind(start, whole).replace(REPLACEMENT, ""), text)


def test_a_character_shown_stays_when_a_later_byte_of_its_run_is_wrong():
    bytes_then_word = [*"é".encode(), 0xC3, WORLD]
    assert BYTE_FALLBACK.decode(bytes_then_word) == "\ufffd\ufffd\ufffd world"
    assert pieces(BYTE_FALLBACK, bytes_then_word) == ["", "é", "", "\ufffd world", ""]


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ((), "world"),
        ((START,), "world"),
        ((START, HELLO), " world"),
        ((START, HELLO, TURN, TURN, TURN, TURN, TURN), " world"),
        ((START, SPACE), " world"),
        ((START, HELLO, *"é".encode() * 40), " world"),
    ],
)
def test_the_space_of_the_first_word_is_there_behind_a_prompt(prompt, text):
    assert text_of(BYTE_FALLBACK, [WORLD], prompt) == text
    assert BYTE_FALLBACK.decode([*prompt, WORLD]) == BYTE_FALLBACK.decode(prompt) + text


def test_words_without_a_decoder_are_separated_from_the_prompt_too():
    assert pieces(tiny.tokenizer(), [4, 5], [1, 2, 3]) == [" w4", " w5", ""]


@pytest.mark.parametrize("silent", [(), (START, TURN)])
def test_special_tokens_show_nothing_between_words(silent):
    detokeniser = IncrementalDetokeniser(tiny.detokeniser(BYTE_FALLBACK), (START,), silent)
    tokens = [*[TURN] * 1000, HELLO, TURN, START, WORLD]
    assert "".join(map(detokeniser.append, tokens)) + detokeniser.flush() == "hello world"
