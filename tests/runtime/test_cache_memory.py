"""One long text beside eight short ones, in the shape of a Llama of 8 billion parameters: what their cache takes.

Nothing is allotted: the meta device knows sizes alone.
"""

import pytest
import torch
from treewright.runtime.engines.base import CHUNK
from treewright.runtime.engines.transformers.cache import RowShape, TreeCache
from treewright.runtime.engines.transformers.page_tables import num_pages_for
from treewright.runtime.engines.transformers.paged_cache import PagedCache
from treewright.runtime.engines.transformers.pages import PAGE

LAYOUT = {"dtype": torch.bfloat16, "device": torch.device("meta")}
SHAPES = [RowShape((8, 128), (8, 128))] * 32
GIB = 2**30
# A prompt, what is generated, and a step: a chunk and a tree of 255 nodes with its root.
CAPACITIES = [num_prompt + 256 + 2 * CHUNK for num_prompt in [*[500] * 8, 17_000]]
NEEDED = sum(CAPACITIES) * 2 * 32 * 8 * 128 * 2


def num_bytes(cache):
    return cache.storage.numel() * cache.storage.element_size()


def waste(allotted):
    return (allotted - NEEDED) / allotted


def grown(capacities):
    """Bytes that slots of one length hold after all have joined, and held while they grew: the old storage is copied
    into the new one."""
    cache, most = TreeCache(SHAPES, **LAYOUT), 0
    for capacity in capacities:
        before = num_bytes(cache)
        cache.join(capacity)
        most = max(most, num_bytes(cache) + (before if num_bytes(cache) > before else 0))
    return num_bytes(cache), most


def test_pages_take_what_the_texts_need():
    cache = PagedCache(SHAPES, **LAYOUT)
    num_pages = sum(map(num_pages_for, CAPACITIES))
    cache.allot(num_pages * PAGE, max(CAPACITIES))
    for capacity in CAPACITIES:
        assert cache.has_room(capacity)
        cache.join(capacity)
    assert not cache.has_room(1)
    allotted = num_bytes(cache) - PAGE * cache.row_bytes  # without the scratch page
    assert pytest.approx(3.41, abs=0.005) == NEEDED / GIB
    assert allotted / GIB == pytest.approx(3.42, abs=0.005)
    assert waste(allotted) == pytest.approx(0.0043, abs=0.0001)


def test_slots_of_one_length_take_five_times_as_much():
    cache = TreeCache(SHAPES, **LAYOUT)
    cache.open(len(CAPACITIES), max(CAPACITIES))
    assert num_bytes(cache) / GIB == pytest.approx(19.52, abs=0.005)
    assert waste(num_bytes(cache)) == pytest.approx(0.825, abs=0.001)


@pytest.mark.parametrize(("place", "most"), [("first", 52.1), ("last", 35.9)])
def test_growth_by_doubling_takes_ten_times_as_much(place, most):
    held, peak = grown(CAPACITIES if place == "last" else CAPACITIES[::-1])
    assert held / GIB == pytest.approx(34.7, abs=0.05)
    assert peak / GIB == pytest.approx(most, abs=0.05)
