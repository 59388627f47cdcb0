"""Position rows as arrays: texts one after the other, draws side by side, the ranks of the traces' own scheme."""

import numpy as np
import pytest
import rows
from position_rows import row, table
from treewright.controller.learned.history import START
from treewright.train.data.positions import Positions, document_number, numbered_names, text_histories

COUPLED, FIXED = (rows.header(scheme=scheme, width=1) for scheme in ("coupled", "fixed"))
TABLE = table(
    row("a", 5, ranks=(0, 1), target_log_prob=-1.0, target_entropy=0.5),
    row("a", 6, ranks=(1, 0), target_log_prob=-9.0, target_entropy=0.25),
    row("a", 7, ranks=(-1, 1), draft_entropy=0.125),
    row("a", 5, 1, ranks=(1, -1), candidates=((-0.5, -0.125), (-2.0, -4.0))),
    row("a", 6, 1, ranks=(-1, 0)),
    row("a", 7, 1, ranks=(0, 0)),
    row("b", 3, ranks=(0, 0), temperature=0.0),
    row("b", 4, ranks=(1, 1), temperature=0.0),
)


def test_draws_stand_side_by_side_and_texts_one_after_the_other():
    positions = Positions.from_table(TABLE, COUPLED)
    assert positions.text.tolist() == [0, 0, 0, 1, 1]
    assert positions.document.tolist() == [document_number("doc a")] * 3 + [document_number("doc b")] * 2
    assert positions.entropy.tolist() == [0.75, 0.75, 0.125, 0.75, 0.75]
    assert positions.noisy_log_probs[0].tolist() == [[-0.25, -1.5], [-0.125, -4.0]]
    assert positions.noisy_log_probs[3, 1].tolist() == [-np.inf, -np.inf]  # greedy text has one draw
    assert positions.num_draws.tolist() == [2, 2, 2, 1, 1]
    assert positions.ngram_log_probs[4, 0].tolist() == [-3.0, -4.0]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (COUPLED, [[0, 1], [1, -1], [-1, 0], [0, -1], [1, -1]]),
        (FIXED, [[1, -1], [0, 0], [1, 0], [0, -1], [1, -1]]),
    ],
    ids=["coupled", "fixed"],
)
def test_the_rank_is_that_of_the_traces_own_scheme(header, expected):
    positions = Positions.from_table(TABLE, header)
    assert positions.rank.tolist() == expected
    assert positions.ranks[header.scheme] is positions.rank


def test_a_run_of_taken_candidates_ends_with_its_text_and_where_none_was_taken():
    positions = Positions.from_table(TABLE, COUPLED)
    assert positions.reach(4).tolist() == [0, 1, 2, 0, 1]
    assert positions.reach(1).tolist() == [0, 1, 1, 0, 1]
    beyond = table(row("a", 1), row("a", 2, ranks=(-1, 0)), row("a", 3), row("a", 4))
    assert Positions.from_table(beyond, COUPLED).reach(4).tolist() == [0, 1, 0, 1]
    assert Positions.from_table(beyond, FIXED).reach(4).tolist() == [0, 1, 2, 3]


def test_a_position_knows_what_was_written_before_it():
    """The second token of a text follows one of log probability -1 and entropy 0.5; the third one of -9, cut at -8."""
    history = Positions.from_table(TABLE, COUPLED).history
    assert history[0].tolist() == history[3].tolist() == START.tolist()
    np.testing.assert_allclose(history[1], [-1.0, 0.5, 0.7 * -2 + 0.3 * -1, 0.93 * -2 + 0.07 * -1], rtol=1e-6)
    assert history[2, :2].tolist() == [-8.0, 0.25]


def test_histories_of_many_texts_are_those_of_each_alone():
    text = np.repeat([4, 0, 7], [3, 1, 2])
    log_probs, entropies = np.linspace(-3, -1, 6), np.linspace(0, 2, 6)
    together = text_histories(text, log_probs, entropies)
    parts = [text_histories(text[part], log_probs[part], entropies[part]) for part in (range(3), [3], [4, 5])]
    assert together.tolist() == np.concatenate(parts).tolist()


def test_names_are_numbered_as_they_come():
    numbers, names = numbered_names(table(row("b", 1), row("a", 1), row("b", 2))["text_id"])
    assert (numbers.tolist(), names) == ([0, 1, 0], ["b", "a"])


def test_no_rows_are_no_positions():
    positions = Positions.from_table(table(), COUPLED)
    assert (len(positions.text), positions.history.shape, positions.reach(3).tolist()) == (0, (0, 4), [])
