"""Drafters of one target side by side: the strength each run measured, and which runs are comparable."""

import checkpoints
import pytest
import traces
from checkpoints import reseal
from earlier_runs import metrics, rows, run
from treewright.controller.errors import InputError
from treewright.train.evaluate.drafters import DrafterStrength, drafter_rows, drafter_strength, earlier_rows
from treewright.train.evaluate.reliability import Curve, Curves
from treewright.train.report.document import report_page

CURVES = Curves(*[[Curve("depth 1", 3, 0.5, 0.4, 0.1, [(0.5, 0.4)])]] * 2)


def test_a_drafters_strength_is_that_of_a_loop_over_positions(tmp_path):
    folder = traces.write(tmp_path / "traces", count=3, draws=2)
    positions = folder.read("positions").to_pylist()
    num = len(positions)
    (strength,) = drafter_strength(folder)
    assert strength == DrafterStrength(
        temperature=0.8,
        positions=num,
        overlap=round(sum(row["overlap"] for row in positions) / num, 4),
        first_choice=round(sum(row["coupled_rank"] == 0 for row in positions) / num, 4),
        first_choice_fixed=round(sum(row["fixed_rank"] == 0 for row in positions) / num, 4),
    )


def test_a_row_holds_the_best_static_tree_under_the_scheme_of_the_run():
    cold, warm = drafter_rows("late", "coupled", *rows())
    assert (warm.run, warm.temperature, warm.first_choice) == ("late", 1.0, 0.6)
    assert (warm.best_static, warm.which) == (1.3, "static")
    assert (warm.learned, warm.choice, warm.oracle) == (1.5, 1.4, 2.5)
    assert cold.learned == 2.0
    assert warm.opt_tree_r is None  # nothing was studied


def test_a_row_holds_the_correlation_of_the_lengths_that_opt_tree_expects():
    names = ("correlation", "correlation_attainable")
    study = [
        {"temperature": 1.0} | {name: {"OPT-Tree (coupled)": r} for name, r in zip(names, (0.8, 0.9), strict=True)}
    ]
    cold, warm = drafter_rows("late", "coupled", *rows(), study)
    assert (warm.opt_tree_r, warm.opt_tree_r_attainable) == (0.8, 0.9)
    assert cold.opt_tree_r is None


def test_a_temperature_without_a_learned_policy_is_left_out():
    assert drafter_rows("late", "fixed", *rows()) == []
    assert drafter_rows("late", "coupled", rows()[0], []) == []


def test_earlier_runs_are_read_from_verified_folders(tmp_path):
    folders = [run(tmp_path / name, **metrics(share)) for name, share in (("early", 0.4), ("mid", 0.5))]
    found = earlier_rows(folders, checkpoints.CONFIG.tokenizer_sha256)
    assert found == [
        row
        for folder, share in zip(folders, (0.4, 0.5), strict=True)
        for row in drafter_rows(str(folder), "coupled", *rows(share))
    ]
    (folders[0] / "metrics.json").write_text("{}")
    with pytest.raises(InputError, match="SHA-256"):
        earlier_rows(folders, checkpoints.CONFIG.tokenizer_sha256)


def test_runs_that_are_not_comparable_are_refused(tmp_path):
    whole = run(tmp_path / "whole", **metrics())
    with pytest.raises(InputError, match="another tokenizer"):
        earlier_rows([whole], "1" * 64)
    reseal(whole, lambda config: config.update(tokenizer_sha256="1" * 64))
    assert len(earlier_rows([whole], "1" * 64)) == 2
    refused = {
        "cannot be compared": run(tmp_path / "older", epochs=1),
        "replayed no held-out texts": run(tmp_path / "bare", drafter=metrics()["drafter"]),
    }
    for words, folder in refused.items():
        with pytest.raises(InputError, match=words):
            earlier_rows([folder], checkpoints.CONFIG.tokenizer_sha256)


def test_the_report_shows_them_only_where_they_were_asked_for():
    title = "What does a stronger drafter bring?"
    early_and_late = drafter_rows("<early>", "coupled", *rows(0.4)) + drafter_rows("late", "coupled", *rows(0.6))
    page = report_page({}, CURVES, None, drafters=early_and_late)
    assert title in page and "&lt;early&gt;" in page
    assert page.count("<svg") == 3
    assert title not in report_page({}, CURVES, None)
