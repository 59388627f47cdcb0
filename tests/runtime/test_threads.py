"""Of several measured thread counts a pair runs on the fastest, where there are several."""

import pytest
from treewright.controller.latency import LatencyTable, cache_path
from treewright.runtime.threads import fastest, stored_fastest

KEY = {"pair": "toy", "engine": "transformers", "device": "cpu", "dtype": "float32", "threads": "1"}


def table(threads, plain_ms, tree_ms):
    """One whose steps over up to eight nodes take `plain_ms`, those over more `tree_ms`."""
    key = {**KEY, "threads": str(threads)}
    return LatencyTable(key, (1,), (64,), ((1.0,),), (1,), (((1.0,),),), (8, 16), (((plain_ms, tree_ms),),))


def test_small_and_large_target_steps_both_count():
    assert fastest([table(1, 9.0, 20.0), table(2, 10.0, 12.0)]) == 2
    assert fastest([table(1, 9.0, 12.0), table(2, 10.0, 12.0)]) == 1


@pytest.mark.parametrize(("stored", "found"), [((), None), ((1,), None), ((1, 2), 2)], ids=str)
def test_there_have_to_be_two_to_compare(stored, found, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    for threads in stored:
        each = table(threads, 10.0 / threads, 20.0)
        each.save(cache_path(each.key))
    assert stored_fastest(KEY) == found
