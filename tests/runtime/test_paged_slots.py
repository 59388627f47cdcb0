"""A random walk of joins, departures and commits, beside lists of what each slot was given."""

import numpy as np
import pytest
from marks import cache_of, pages, stored, write
from treewright.runtime.engines.transformers.pages import PAGE

NUM_PAGES = 12


def num_pages(capacities):
    return sum(-(-capacity // PAGE) for capacity in capacities)


@pytest.mark.parametrize("seed", range(4))
def test_slots_that_come_and_go_hold_what_was_committed_to_them(seed):
    generator, cache = np.random.default_rng(seed), cache_of(NUM_PAGES)
    texts, capacities, next_mark, met = [], [], 1, set()
    for _ in range(400):
        action = generator.choice(["join", "leave", "step", "step", "step"])
        if action == "join":
            capacity = int(generator.integers(20, 5 * PAGE))
            fits = num_pages([*capacities, capacity]) <= NUM_PAGES
            assert cache.has_room(capacity) == fits
            if fits:
                cache.join(capacity)
                texts.append([])
                capacities.append(capacity)
            met.add((action, fits))
        elif action == "leave" and texts:
            stays = generator.random(len(texts)) < 0.7
            count = int(stays.sum())
            movable = [slot for slot in range(count, len(texts)) if stays[slot]]
            order = [slot if stays[slot] else movable.pop() for slot in range(count)]
            cache.keep(order)
            texts, capacities = [texts[slot] for slot in order], [capacities[slot] for slot in order]
            met.add((action, bool(count)))
        elif texts:
            first = int(generator.integers(len(texts)))
            slots = range(first, int(generator.integers(first, len(texts))) + 1)
            room = min(capacities[slot] - len(texts[slot]) for slot in slots)
            marks = np.zeros((len(slots), 0), dtype=np.int64)
            for width in generator.integers(1, 40, size=generator.integers(1, 3)).tolist():
                if marks.shape[1] + width <= room:
                    new = next_mark + np.arange(len(slots) * width).reshape(len(slots), width)
                    parents = generator.integers(-1, marks.shape[1] + np.arange(width), size=new.shape)
                    write(cache, parents, new, first)
                    marks, next_mark = np.concatenate((marks, new), axis=1), next_mark + new.size
            paths = [np.nonzero(generator.random(marks.shape[1]) < 0.5)[0] for _ in slots]
            rows = np.full((len(slots), max(map(len, paths))), -1)
            for row, path in zip(rows, paths, strict=True):
                row[: len(path)] = path
            cache.commit(rows)
            for slot, path, of_slot in zip(slots, paths, marks, strict=True):
                texts[slot] += of_slot[path].tolist()
            met.add((action, marks.shape[1] > 0))
        assert cache.lengths.tolist() == [len(text) for text in texts]
        assert [stored(cache, slot) for slot in range(len(texts))] == texts
        owned = [page for slot in range(len(texts)) for page in pages(cache, slot)]
        assert len(owned) == len(set(owned)) == num_pages(capacities)
    assert not cache.storage[:, :, :PAGE].any()  # the scratch page is nobody's
    assert len(met) == 6
