"""The model card: metadata a hub reads, and tables a person reads."""

from checkpoints import CONFIG
from huggingface_hub import ModelCard
from treewright.train.fit.card import model_card

METRICS = {
    "scores": {"learned": {"brier": 0.1, "log_loss": 0.3}, "drafter confidence": {"brier": 0.12, "log_loss": 0.4}},
    "training_edges": 10,
    "positions": 5,
    "epochs": 2,
}
REPLAY = [
    {"policy": "plain", "scheme": "-", "temperature": 0.6, "tokens_per_second": 100.0, "speed-up": 1.0},
    {"policy": "learned", "scheme": "coupled", "temperature": 0.6, "tokens_per_second": 120.0, "speed-up": 1.2},
]


def test_the_hub_reads_the_metadata():
    metadata = ModelCard(model_card(CONFIG, METRICS), ignore_metadata_errors=False).data
    assert (metadata.library_name, metadata.license) == ("treewright", "apache-2.0")
    assert "speculative-decoding" in metadata.tags


def test_it_says_what_the_selector_is_for_and_how_well_it_scores():
    card = model_card(CONFIG, METRICS)
    assert "pair `tiny` under the **coupled** scheme" in card
    assert "| score | brier | log_loss |\n| --- | --- | --- |\n| learned | 0.1 | 0.3 |" in card


def test_a_replay_table_has_its_section_only_where_there_is_one():
    assert "## Replay" not in model_card(CONFIG, METRICS)
    card = model_card(CONFIG, METRICS | {"replay": REPLAY})
    assert "## Replay" in card
    assert "| learned | coupled | 0.6 | 120.0 | 1.2 |" in card
