"""The blocks of prefixes: texts that begin alike share them, and the least recently used make room."""

import numpy as np
import pytest
from treewright.runtime.prefixes.blocks import BLOCK, BlockIndex

A, B, C, D = (np.full(BLOCK, token) for token in range(4))


def text(*blocks):
    return np.concatenate(blocks)


def test_a_text_is_known_in_whole_blocks_as_far_as_it_begins_like_another():
    index = BlockIndex(8)
    blocks, num_known = index.add("", text(A, B, C[:-1]))
    assert (len(blocks), num_known) == (2, 0)
    assert index.find("", text(A, B, C)) == blocks
    assert index.find("", text(A, B)[:-1]) == index.find("", text(A, C)) == blocks[:1]
    assert index.find("", text(B)) == index.find("", A[:-1]) == []


def test_texts_share_the_blocks_of_their_common_beginning():
    index = BlockIndex(8)
    first, _ = index.add("", text(A, B, C))
    second, num_known = index.add("", text(A, B, D))
    assert num_known == 2
    assert second[:2] == first[:2] and second[2] != first[2]
    assert len(index) == 4


def test_scopes_share_nothing():
    index = BlockIndex(8)
    first, _ = index.add("a", text(A, B))
    assert index.find("b", text(A, B)) == index.find("", text(A, B)) == []
    second, num_known = index.add("b", text(A, B))
    assert num_known == 0 and not {*first} & {*second}


def test_the_least_recently_used_text_makes_room_from_its_end_on():
    index = BlockIndex(4)
    index.add("", text(A, A))
    index.add("", text(B, B))
    index.find("", text(A, A))
    index.add("", text(C))
    assert [len(index.find("", text(*each))) for each in ((A, A), (B, B), (C,))] == [2, 1, 1]


def test_of_a_text_beyond_all_memory_the_first_blocks_are_kept():
    index = BlockIndex(2)
    index.add("", text(A))
    blocks, num_known = index.add("", text(B, C, D))
    assert (len(blocks), num_known) == (2, 0)
    assert index.find("", text(B, C, D)) == blocks
    assert index.find("", A) == []


@pytest.mark.parametrize("num_blocks", [1, 3, 7, 20])
def test_a_block_that_is_found_holds_the_tokens_of_that_beginning_and_scope(num_blocks):
    """Random texts of few different blocks, so that they often begin alike."""
    generator, index, written = np.random.default_rng(num_blocks), BlockIndex(num_blocks), {}
    num_found = 0
    for _ in range(400):
        scope = str(generator.integers(2))
        asked = text(*(np.full(BLOCK, token) for token in generator.integers(2, size=generator.integers(1, 6))))
        found = index.find(scope, asked)
        num_found += len(found)
        for number, block in enumerate(found, start=1):
            assert written[block] == (scope, *asked[: number * BLOCK])
        if generator.random() < 0.5:
            blocks, num_known = index.add(scope, asked)
            assert blocks[:num_known] == found
            assert len({*blocks}) == len(blocks) == min(num_blocks, len(asked) // BLOCK)
            for number in range(num_known, len(blocks)):
                written[blocks[number]] = (scope, *asked[: (number + 1) * BLOCK])
        assert len(index) <= num_blocks
    assert num_found > 50
