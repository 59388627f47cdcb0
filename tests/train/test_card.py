"""The model card: metadata a hub reads, and tables a person reads."""

from dataclasses import replace

from checkpoints import CONFIG
from huggingface_hub import ModelCard
from treewright.controller.intervals import Interval
from treewright.train.evaluate.calibration import Scores
from treewright.train.evaluate.scores import CoverageScores, Evaluation
from treewright.train.metrics import Metrics
from treewright.train.replay.tuning import ReplayRow
from treewright.train.report.card import model_card

EVALUATION = Evaluation(
    scores={"learned": Scores(0.1, 0.3, 0.02), "drafter confidence": Scores(0.12, 0.4, 0.03)},
    by_depth=[],
    brier_skill_over_isotonic=Interval(0.1, 0.0, 0.2),
    coverage=CoverageScores(1.0, 1.1, []),
)
METRICS = Metrics(epochs=2, training_edges=10, positions=5, evaluation=EVALUATION)
REPLAY = [
    ReplayRow("chain", "coupled", 0.6, "depth=3", 100.0, 1.0, 2.0, 3.0, 3.0, 0),
    ReplayRow("learned", "coupled", 0.6, "theta_scale=1.0", 120.0, 1.2, 2.0, 3.0, 3.0, 0),
]


def test_the_hub_reads_the_metadata():
    metadata = ModelCard(model_card(CONFIG, METRICS), ignore_metadata_errors=False).data.to_dict()
    assert (metadata["library_name"], metadata["license"]) == ("treewright", "apache-2.0")
    assert "speculative-decoding" in metadata["tags"]


def test_it_says_what_the_selector_is_for_and_how_well_it_scores():
    card = model_card(CONFIG, METRICS)
    assert "pair `tiny` under the **coupled** scheme" in card
    assert "| score | brier | log_loss | ece |\n| --- | --- | --- | --- |\n| learned | 0.1 | 0.3 | 0.02 |" in card


def test_a_replay_table_has_its_section_only_where_there_is_one():
    assert "## Replay" not in model_card(CONFIG, METRICS)
    card = model_card(CONFIG, replace(METRICS, replay=REPLAY))
    assert "## Replay" in card
    assert "| learned | coupled | 0.6 | theta_scale=1.0 | 120.0 | 1.2 |" in card
