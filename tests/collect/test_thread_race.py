"""Where no number of threads is configured, a table is measured on torch's own, unless one thread is clearly faster."""

import logging

import pytest
import tiny
import torch
from treewright.collect.measure.profile import ProfileConfig, renew_on_fastest
from treewright.collect.measure.thread_race import race, settle
from treewright.controller.pricing.latency import LatencyTable
from treewright.controller.pricing.latency_cache import cache_path, stored_table
from treewright.runtime.machine.threads import stored_fastest
from treewright.runtime.pair import Pair, PairConfig

SIZES = ProfileConfig(contexts=(8,), widths=(1,), nodes=(0,), repeats=1)


@pytest.fixture
def restored():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def pair(tmp_path, monkeypatch, restored):
    """The tiny pair, without a configured number of threads, on a machine of two cores with an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    return Pair(tiny.llama(), tiny.llama(noise=0.02), tiny.words(), frozenset(), PairConfig("tiny", "tiny"))


def test_every_count_is_timed(pair):
    median_ms = race(pair, {2, 1})
    assert list(median_ms) == [1, 2]
    assert min(median_ms.values()) > 0


def test_where_one_thread_is_clearly_faster_it_is_chosen_and_both_medians_are_said(restored, caplog):
    with caplog.at_level(logging.WARNING, logger="treewright"):
        settle({1: 12.04, 2: 480.0}, default=2)
    assert torch.get_num_threads() == 1
    (record,) = caplog.records
    assert "takes 480.0 ms on 2 CPU threads, but 12.0 ms on 1 CPU thread: the latency table" in record.message
    assert "is measured on 1 CPU thread," in record.message


def test_where_it_is_not_the_default_stays_without_a_word(restored, caplog):
    with caplog.at_level(logging.WARNING, logger="treewright"):
        settle({1: 12.0, 2: 11.0}, default=2)
    assert torch.get_num_threads() == 2
    assert not caplog.records


def of_threads(pair, threads, ms):
    key = {**pair.latency_key, "threads": str(threads)}
    return LatencyTable(key, (1,), (8,), ((ms,),), (1,), (((ms,),),), (0,), (((ms,),),))


def test_commands_run_on_the_count_that_was_chosen_even_where_an_older_table_promised_more(pair):
    older = [of_threads(pair, threads, 1e-9) for threads in (1, 2)]
    for table in older:
        table.save(cache_path(table.key))
    table = renew_on_fastest(pair, SIZES, default=2)
    assert table.key["threads"] == str(torch.get_num_threads())
    assert stored_fastest(pair.latency_key) == torch.get_num_threads()
    assert [stored_table(one.key) for one in older if one.key != table.key] == [None]


def test_a_slower_table_of_another_count_stays(pair):
    older = [of_threads(pair, threads, 1e9) for threads in (1, 2)]
    for table in older:
        table.save(cache_path(table.key))
    table = renew_on_fastest(pair, SIZES, default=2)
    others = [one for one in older if one.key != table.key]
    assert [stored_table(one.key) for one in others] == others


def test_whoever_has_named_a_number_is_not_asked_again(pair, monkeypatch):
    torch.set_num_threads(2)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert renew_on_fastest(pair, SIZES, default=2).key["threads"] == "2"
