"""Fitting: in this process alone wherever it runs, to its end however the rows fall, and never to a useless network."""

from dataclasses import replace

import numpy as np
import pytest
import rows
import traces
from treewright.collect.trace import TraceFolder
from treewright.controller.errors import InputError
from treewright.train.data.stream import SelectorData, batches
from treewright.train.fit.resume import FitFolder
from treewright.train.fit.settings import FitConfig
from treewright.train.fit.trainer import fit_selector

SLURM = {"JOB_ID": "1", "JOB_NAME": "train", "NTASKS": "2", "LOCALID": "0", "PROCID": "1", "NODEID": "0"}
CLUSTERS = {
    "slurm": {f"SLURM_{name}": value for name, value in (SLURM | {"JOB_NODELIST": "localhost"}).items()},
    "torchrun": {
        "TORCHELASTIC_RUN_ID": "1",
        "GROUP_RANK": "0",
        "LOCAL_RANK": "1",
        "RANK": "1",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29513",
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return traces.write(tmp_path_factory.mktemp("runs") / "traces", count=3, max_tokens=12)


def data_of(folder, **settings):
    fit = FitConfig(hidden_size=4, max_epochs=2, batch_size=32)
    return SelectorData(folder, replace(fit, **settings), max_depth=2)


def weights_of(folder, logs, **settings):
    model, epochs = fit_selector(data_of(folder, **settings), logs)
    return epochs, {name: value.tolist() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_a_clusters_variables_change_nothing(folder, tmp_path, monkeypatch, cluster):
    alone = weights_of(folder, tmp_path / "alone")
    for name, value in CLUSTERS[cluster].items():
        monkeypatch.setenv(name, value)
    assert weights_of(folder, tmp_path / "cluster") == alone
    losses = [(tmp_path / name / "metrics.csv").read_text() for name in ("alone", "cluster")]
    assert losses[0] == losses[1]


def test_losses_that_are_not_finite_end_in_a_sentence_and_leave_no_state(folder, tmp_path):
    with pytest.raises(
        InputError, match=r"losses of the fit are not finite after \d .* lower fit\.learning_rate, got 1e\+12"
    ):
        weights_of(folder, tmp_path, learning_rate=1e12, max_epochs=8)
    assert FitFolder(tmp_path).epochs == 0


@pytest.mark.parametrize("settings", [{"batch_size": 1}, {"row_share": 1e-9}], ids=str)
def test_the_smallest_batches_and_shares_are_fitted_as_well(folder, tmp_path, settings):
    epochs, weights = weights_of(folder, tmp_path, **settings)
    assert epochs == 2
    assert all(np.isfinite(values).all() for values in weights.values())


def test_a_batch_of_a_few_shards_is_a_step_however_large_batches_may_be(folder, memory):
    """Twenty steps where the rows would fill a thousandth of one: the schedule of the step size lasts."""
    with TraceFolder.create(memory / "traces", folder.header, shard_texts=1) as many:
        for number in range(40):
            own = {"text_id": str(number), "document": str(number)}
            texts, positions = (folder.shard(table, 0).to_pylist()[:1] for table in ("texts", "positions"))
            many.append(rows.typed({"texts": [texts[0] | own], "positions": [positions[0] | own]}))
        many.finish()
    data = data_of(many, batch_size=10**7, max_epochs=1)
    assert len(list(data.train_dataloader())) == 20
    fit_selector(data, memory / "logs")


def test_no_batch_is_without_nodes(folder):
    edges, nodes = data_of(folder).training
    cut = list(batches(edges, nodes, batch_size=1))
    assert len(cut) == min(len(edges.starts), len(nodes.starts))
    assert all(len(batch.taken) and len(batch.next_rank) for batch in cut)
    assert sum(len(batch.taken) for batch in cut) == len(edges.label)
