"""A latency table is held against steps whose times are made up: what counts, what fits, and that one warning comes."""

import logging
from dataclasses import replace

import checkpoints
import numpy as np
import pytest
import tiny
from trees import context, random_children
from treewright.controller.checkpoint import save_checkpoint
from treewright.controller.policies.selector import Selector
from treewright.controller.pricing.latency import LatencyTable
from treewright.controller.pricing.latency_cache import cache_path
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.trees.limits import TreeLimits
from treewright.controller.trees.tree import DraftTree
from treewright.runtime import table_fit
from treewright.runtime.build import build_decoder
from treewright.runtime.pair import Pair, PairConfig
from treewright.runtime.speculation import SpeculationConfig
from treewright.runtime.stats import StepRecord
from treewright.runtime.table_fit import WINDOW_STEPS, FitTotals, PartRatios, StepRatios, TableWatch
from treewright.runtime.verification.base import Verdict

TABLE = LatencyTable(
    key={"pair": "toy"},
    batches=(1, 4),
    contexts=(2000, 4000),
    root_ms=((1.0, 2.0), (4.0, 8.0)),
    widths=(1, 4),
    draft_ms=(((2.0, 3.0), (4.0, 6.0)), ((8.0, 12.0), (16.0, 24.0))),
    nodes=(0, 2, 8),
    verify_ms=(((10.0, 12.0, 16.0), (20.0, 24.0, 32.0)), ((40.0, 48.0, 64.0), (80.0, 96.0, 128.0))),
)
FITS = PartRatios(1.0, 1.0)


def step(position, drafting_ms=3.0, verifying_ms=12.0, widths=(1, 1), batch=1, num_nodes=2) -> StepRecord:
    """A step that commits two tokens, its times spread over all phases. By default its times are those of TABLE."""
    roots = DraftTree.from_roots(np.zeros(batch))
    children = random_children(np.random.default_rng(0), batch, 1, width=num_nodes)
    tree = roots.extend(np.zeros((batch, 1), dtype=np.int64), children)
    verdict = Verdict(np.ones((batch, 1), dtype=np.int64), np.zeros(batch, dtype=np.int64))
    quarter_ms = verifying_ms / 4
    return StepRecord(
        context(batch, position),
        drafted=tree,
        kept=tree,
        verdict=verdict,
        level_widths=list(widths),
        num_emitted=np.full(batch, 2),
        nodes=np.tile(np.arange(1 + num_nodes), (batch, 1)),
        log_values=None,
        draft_ms=drafting_ms / 2,
        controller_ms=drafting_ms / 2 + quarter_ms,
        target_ms=quarter_ms,
        verify_ms=quarter_ms,
        commit_ms=quarter_ms,
        keep_ms=quarter_ms,
    )


def text(length, start=10, **times):
    """The steps of one text; the first reads its prompt, which takes long."""
    return [step(start, 500.0, 500.0)] + [step(start + 2 * number, **times) for number in range(1, length)]


def ratios_of(steps):
    ratios = StepRatios(TABLE)
    return [ratios.of(record) for record in steps]


@pytest.mark.parametrize(
    ("drafting", "verifying", "fit"),
    [
        (1.0, 1.0, True),
        (1.25, 1.0, True),
        (1.26, 1.0, False),
        (0.79, 1.0, False),
        (2.3, 1.9, True),  # one of them is within a factor of two
        (2.3, 2.1, False),
        (0.4, 0.4, False),
    ],
)
def test_a_table_fits_while_its_parts_are_wrong_by_similar_factors_below_two(drafting, verifying, fit):
    assert PartRatios(drafting, verifying).fit == fit


def test_each_part_of_a_step_is_held_against_its_own_price():
    assert ratios_of(text(2, drafting_ms=6.0, verifying_ms=18.0))[1] == PartRatios(2.0, 1.5)
    first_only = ratios_of(text(2, drafting_ms=3.0, verifying_ms=8.0, widths=(1,), num_nodes=8))
    assert first_only[1] == PartRatios(3.0, 0.5)
    assert ratios_of(text(2, start=2100, drafting_ms=6.0, verifying_ms=24.0))[1] == FITS


def test_the_first_step_of_a_text_does_not_count():
    assert ratios_of(text(3) + text(2, start=40)) == [None, FITS, FITS, None, FITS]


def test_a_step_without_drafts_does_not_count_nor_the_one_behind_it():
    """What the one did not draft, the drafter of the other reads."""
    steps = text(6)
    steps[2] = step(14, widths=(), num_nodes=1)
    steps[3] = step(16, drafting_ms=100.0)
    assert ratios_of(steps) == [None, FITS, None, None, FITS, FITS]


def test_a_step_counts_only_at_a_measured_batch_size_and_while_no_request_has_left():
    times = {"drafting_ms": 12.0, "verifying_ms": 48.0, "batch": 4}
    steps = [step(10 + 2 * number, **times) for number in range(4)]
    others = steps[2].context.positions[[3, 1, 2, 0]] + np.arange(4)  # the last has taken the first one's slot
    steps[2:] = [replace(record, context=replace(record.context, positions=others)) for record in steps[2:]]
    assert ratios_of(steps) == [None, FITS, None, None]
    assert ratios_of([step(10 + 2 * number, batch=3) for number in range(3)]) == [None] * 3


def test_a_step_of_uneven_trees_costs_what_the_largest_does():
    steps = [step(10 + 2 * number, 12.0, 64.0, batch=4, num_nodes=8) for number in range(2)]
    nodes = np.where(np.arange(4)[:, None] == 1, np.arange(9), np.where(np.arange(9) < 2, np.arange(9), -1))
    steps[1] = replace(steps[1], kept=steps[1].kept.subtree(nodes))
    assert ratios_of(steps) == [None, FITS]


def watched(steps, caplog):
    """The watch after the steps, and what it warned of."""
    watch = TableWatch(TABLE)
    with caplog.at_level(logging.WARNING, logger="treewright"):
        for record in steps:
            watch(record)
    return watch.totals, [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(
    ("drafting_ms", "verifying_ms", "figures"),
    [(6.0, 12.0, ("2.00 times", "1.00 times")), (9.0, 36.0, ("3.00 times", "3.00 times"))],
)
def test_a_misfit_is_counted_each_window_and_warned_of_once(drafting_ms, verifying_ms, figures, caplog):
    steps = text(3 * WINDOW_STEPS, drafting_ms=drafting_ms, verifying_ms=verifying_ms)
    totals, warnings = watched([*steps, step(steps[-1].context.positions[0] + 2)], caplog)
    assert (totals.windows, totals.misfits) == (3, 3)
    assert len(warnings) == 1
    assert all(figure in warnings[0] for figure in (*figures, "`treewright profile`"))


def test_nothing_is_said_before_the_window_is_full(caplog):
    totals, warnings = watched(text(WINDOW_STEPS, drafting_ms=30.0), caplog)
    assert (totals.windows, warnings) == (0, [])


def test_a_machine_that_slows_down_for_both_parts_or_stumbles_now_and_then_is_not_blamed(caplog):
    steps = text(WINDOW_STEPS + 1)
    for number in range(0, len(steps), 3):
        steps[number] = replace(steps[number], draft_ms=400.0)
    slower = text(WINDOW_STEPS + 1, drafting_ms=4.5, verifying_ms=18.0)
    totals, warnings = watched(steps + slower, caplog)
    assert (totals.windows, totals.misfits, warnings) == (2, 0, [])


def test_every_millisecond_of_a_real_step_is_booked_to_one_part():
    limits = TreeLimits(max_depth=2, width=2, frontier=2, budget=3)
    decoder = tiny.decoder(tiny.llama(), tiny.llama(noise=0.02), Selector(ConfidenceScorer(), limits))
    requests = tiny.requests(2, 1.0)
    records = list(decoder.steps(requests, decoder.open_streams(requests)))
    for record in records:
        assert record.read_ms + record.drafting_ms + record.verifying_ms == pytest.approx(record.total_ms)
        assert 0 < record.keep_ms < record.controller_ms
        assert record.drafting_ms > record.draft_ms


def test_a_decoder_built_over_a_stored_table_watches_it(tmp_path, monkeypatch):
    """Levels for nothing beside target steps that take forever: the choice rule always drafts, and no clock agrees."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(table_fit, "WINDOW_STEPS", 10)
    pair = Pair(tiny.llama(), tiny.llama(noise=0.02), tiny.words(), frozenset(), PairConfig("tiny", "tiny"))
    config = replace(
        checkpoints.CONFIG, tokenizer_sha256=pair.tokenizer_sha256, limits=TreeLimits(max_depth=2, width=3, budget=4)
    )
    save_checkpoint(tmp_path / "selector", config, checkpoints.files(), "")
    table = LatencyTable(pair.latency_key, (1,), (64,), ((1e-9,),), (1,), (((1e-9,),),), (0,), (((1e9,),),))
    table.save(cache_path(pair.latency_key))
    fit = FitTotals()
    decoder = build_decoder(pair, SpeculationConfig(selector=tmp_path / "selector", guard=False), fit)
    decoder.generate(tiny.requests(1, 1.0, max_tokens=80))
    assert fit.windows == fit.misfits > 1
