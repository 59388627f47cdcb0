"""A stored table is held against a few live measurements, and renewed over the same sizes where they disagree."""

import logging
from dataclasses import replace
from statistics import median

import pytest
import tiny
from treewright.collect.measure.profile import ProfileConfig
from treewright.collect.measure.table_cache import cached_table, few_sizes, live_ratios, new_table
from treewright.controller.pricing.latency import LatencyTable
from treewright.controller.pricing.latency_cache import cache_path
from treewright.runtime.pair import Pair, PairConfig
from treewright.runtime.table_fit import PartRatios

SIZES = ProfileConfig(contexts=(8, 16), widths=(1, 2), nodes=(0, 1, 3), repeats=1)
STORED = LatencyTable(
    key={"pair": "toy"},
    batches=(1, 4),
    contexts=(8, 16),
    root_ms=((1.0, 2.0), (4.0, 8.0)),
    widths=(1, 2, 4),
    draft_ms=(((2.0, 2.5, 4.0), (4.0, 5.0, 6.0)),) * 2,
    nodes=(0, 2, 8),
    verify_ms=(((10.0, 12.0, 16.0), (20.0, 24.0, 32.0)),) * 2,
)
LIVE = LatencyTable(
    key={"pair": "toy"},
    batches=(1,),
    contexts=(8,),
    root_ms=((2.0,),),
    widths=(1, 4),
    draft_ms=(((3.0, 12.0),),),
    nodes=(0, 8),
    verify_ms=(((10.0, 8.0),),),
)


@pytest.fixture
def pair(tmp_path, monkeypatch):
    """The tiny pair, on a machine that has stored nothing yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return Pair(tiny.llama(), tiny.llama(noise=0.02), tiny.words(), frozenset(), PairConfig("tiny", "tiny"))


def test_the_check_measures_the_corners_of_the_table():
    corners = few_sizes(STORED)
    assert (corners.batches, corners.contexts, corners.widths, corners.nodes) == ((1,), (8,), (1, 4), (0, 8))


def test_every_corner_is_held_against_its_stored_price():
    drafting, verifying = (2.0, 1.5, 3.0), (1.0, 0.5)
    assert live_ratios(STORED, LIVE) == PartRatios(median(drafting), median(verifying))


def test_without_a_stored_table_one_is_measured_and_stored(pair):
    table = cached_table(pair, SIZES)
    assert table.contexts == SIZES.contexts
    assert LatencyTable.load(cache_path(pair.latency_key)) == table


def test_a_table_whose_levels_cost_far_too_much_is_renewed_over_the_sizes_it_spans(pair, caplog):
    path = cache_path(pair.latency_key)
    skewed = replace(STORED, key=pair.latency_key, draft_ms=(((1e9,) * 3,) * 2,) * 2)
    skewed.save(path)
    with caplog.at_level(logging.WARNING, logger="treewright"):
        table = cached_table(pair, SIZES)
    assert "does not fit this machine" in caplog.text
    for name in ("batches", "contexts", "widths", "nodes"):
        assert getattr(table, name) == getattr(STORED, name)
    assert table != skewed
    assert LatencyTable.load(path) == table


@pytest.mark.parametrize(("batches", "is_kept"), [((1, 4), True), ((1,), False), ((1, 2), False)], ids=str)
def test_a_new_table_replaces_no_stored_one_of_larger_batches(pair, batches, is_kept):
    path = cache_path(pair.latency_key)
    stored = replace(STORED, key=pair.latency_key, batches=(1, 3))
    stored.save(path)
    table = new_table(pair, replace(SIZES, batches=batches))
    assert table.batches == batches
    assert LatencyTable.load(path) == (table if is_kept else stored)


@pytest.mark.parametrize("renewed", [new_table, cached_table])
def test_a_damaged_table_is_measured_again_with_a_warning(pair, renewed, caplog):
    path = cache_path(pair.latency_key)
    path.parent.mkdir(parents=True)
    path.write_text("{")
    with caplog.at_level(logging.WARNING, logger="treewright"):
        table = renewed(pair, SIZES)
    assert table == LatencyTable.load(path)
    assert caplog.text.count("it is ignored") == 1
