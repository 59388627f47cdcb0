"""Of several measured thread counts a pair runs on the fastest."""

import pytest
from treewright.controller.pricing.latency import LatencyTable
from treewright.controller.pricing.latency_cache import cache_path
from treewright.runtime.machine.threads import fastest, is_undecided, race_winner, stored_fastest

KEY = {"pair": "toy", "engine": "transformers", "device": "cpu", "dtype": "float32", "threads": "1"}


def table(threads, plain_ms, tree_ms):
    """One whose steps over up to eight nodes take `plain_ms`, those over more `tree_ms`."""
    key = {**KEY, "threads": str(threads)}
    return LatencyTable(
        key, (1,), (64,), ((1.0,),), (1,), (((1.0,),),), (0, 8, 16), (((plain_ms, plain_ms, tree_ms),),)
    )


def test_small_and_large_target_steps_both_count():
    assert fastest([table(1, 9.0, 20.0), table(2, 10.0, 12.0)]) == 2
    assert fastest([table(1, 9.0, 12.0), table(2, 10.0, 12.0)]) == 1


@pytest.mark.parametrize(("stored", "found"), [((), None), ((1,), 1), ((2,), 2), ((1, 2), 2)], ids=str)
def test_the_fastest_of_the_stored_tables_is_taken_be_it_the_only_one(stored, found, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    for threads in stored:
        each = table(threads, 10.0 / threads, 20.0)
        each.save(cache_path(each.key))
    assert stored_fastest(KEY) == found


def test_a_damaged_table_does_not_count(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    for threads in (1, 2):
        each = table(threads, 10.0 / threads, 20.0)
        each.save(cache_path(each.key))
    cache_path({**KEY, "threads": "2"}).write_text("{")
    assert stored_fastest(KEY) == 1


@pytest.mark.parametrize(
    ("median_ms", "chosen"),
    [
        ({1: 10.0, 2: 400.0}, 1),
        ({1: 10.0, 2: 9.0}, 2),
        ({1: 9.0, 2: 10.0}, 2),
        ({1: 8.0, 2: 10.0}, 1),
        ({1: 7.0, 2: 10.0, 4: 6.0}, 4),
    ],
    ids=str,
)
def test_the_default_of_two_threads_stays_unless_others_are_clearly_faster(median_ms, chosen):
    assert race_winner(median_ms, default=2) == chosen


def test_a_number_of_threads_that_the_user_sets_is_kept(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert is_undecided(0, "cpu")
    assert not is_undecided(2, "cpu")
    assert not is_undecided(0, "cuda")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert not is_undecided(0, "cpu")
