"""A slot has the rows that were committed to it, wherever its pages lie, and no other slot's."""

import re

import numpy as np
import pytest
import torch
from marks import append, cache_of, pages, stored, write
from treewright.controller.errors import InputError
from treewright.runtime.engines.transformers.page_tables import MOST_SLOTS
from treewright.runtime.engines.transformers.pages import PAGE


def test_pages_are_given_back_when_slots_leave():
    cache = cache_of(6)
    for _ in range(3):
        cache.join(2 * PAGE)
    assert not cache.has_room(1)
    cache.keep([0, 2])
    assert cache.has_room(2 * PAGE) and not cache.has_room(2 * PAGE + 1)
    cache.join(2 * PAGE)
    assert sorted(page for slot in range(3) for page in pages(cache, slot)) == [1, 2, 3, 4, 5, 6]
    cache.keep([])
    assert cache.has_room(6 * PAGE)


def test_a_slot_moves_by_its_table_alone():
    cache = cache_of(9)
    for slot in range(3):
        cache.join(3 * PAGE)
        append(cache, slot, [10.0 * slot + 1, 10.0 * slot + 2])
    before, of_last = cache.storage.clone(), pages(cache, 2)
    cache.keep([2, 1])
    assert torch.equal(cache.storage, before)
    assert pages(cache, 0) == of_last
    assert [stored(cache, slot) for slot in range(2)] == [[21, 22], [11, 12]]


@pytest.mark.parametrize("length", [0, 1, PAGE - 3, PAGE - 1, PAGE, 2 * PAGE - 2])
def test_a_path_is_committed_over_the_border_of_pages(length):
    cache = cache_of(8)
    for _ in range(2):
        cache.join(3 * PAGE)
    text = list(range(1, length + 1))
    if text:
        append(cache, 1, text)
    # 0 -> 1 -> 3 -> 5 and 0 -> 2 -> 4
    write(cache, np.array([[-1, 0, 0]] * 2), np.array([[300, 301, 302], [400, 401, 402]]))
    write(cache, np.array([[1, 2, 3]] * 2), np.array([[303, 304, 305], [403, 404, 405]]))
    cache.commit(np.array([[0, 2, 4, -1], [0, 1, 3, 5]]))
    assert stored(cache, 0) == [300, 302, 304]
    assert stored(cache, 1) == [*text, 400, 401, 403, 405]
    assert cache.num_tree_rows == 0


def test_what_a_dropped_forward_has_stored_is_overwritten():
    cache = cache_of(2)
    cache.join(PAGE)
    append(cache, 0, [1, 2])
    write(cache, np.array([[-1, 0]]), np.array([[8, 9]]))
    cache.commit(np.zeros((0, 0), dtype=np.int64))
    append(cache, 0, [3, 4])
    assert stored(cache, 0) == [1, 2, 3, 4]


def test_a_text_that_does_not_fit_is_refused_with_its_size_and_what_is_free():
    cache = cache_of(4)
    cache.join(2 * PAGE + 1)
    sentence = (
        f"a text of {PAGE + 1} rows, its tree included, does not fit into a cache of {4 * PAGE} rows, {PAGE} of them "
        "free; ask for fewer tokens, or for a larger cache"
    )
    with pytest.raises(InputError, match=f"^{re.escape(sentence)}$"):
        cache.join(PAGE + 1)
    cache.join(PAGE)
    assert len(cache.lengths) == 2


def test_no_text_is_longer_than_the_longest():
    cache = cache_of(8, longest=2 * PAGE)
    with pytest.raises(InputError, match="does not fit"):
        cache.join(2 * PAGE + 1)
    cache.join(2 * PAGE)


def test_a_text_waits_for_room_that_others_have_and_not_for_room_that_there_is_not():
    cache = cache_of(4)
    cache.join(3 * PAGE)
    assert [cache.has_room(num_rows) for num_rows in (PAGE, PAGE + 1, 4 * PAGE, 4 * PAGE + 1)] == [
        True,
        False,
        False,
        True,  # to be refused
    ]


def test_there_are_only_so_many_slots():
    cache = cache_of(MOST_SLOTS + 5)
    for _ in range(MOST_SLOTS):
        cache.join(1)
    assert not cache.has_room(1)
    cache.keep(range(MOST_SLOTS - 1))
    assert cache.has_room(1)


def test_a_slot_cannot_have_rows_beyond_its_pages():
    cache = cache_of(4)
    cache.join(PAGE)
    append(cache, 0, range(PAGE - 2))
    with pytest.raises(AssertionError, match=rf"slots of \[{PAGE}\] rows are asked for \[{PAGE + 1}\]"):
        cache.add_tree_rows(np.array([[-1, 0, 1]]), 0)


def test_a_released_cache_takes_no_memory_and_may_be_sized_again():
    cache = cache_of(4)
    cache.join(PAGE)
    cache.release()
    assert (cache.num_rows, len(cache.lengths)) == (0, 0)
    assert cache.storage.shape[2] == PAGE  # the scratch page
    cache.allot(2 * PAGE, 2 * PAGE)
    cache.join(2 * PAGE)
    append(cache, 0, [1, 2])
    assert stored(cache, 0) == [1, 2]
