"""The ablation: groups that cover the features once, networks that cannot see a group, time charged to every step."""

import json
from dataclasses import asdict

import checkpoints
import numpy as np
import plans
import pytest
import torch
import traces
from trees import context, random_tree
from treewright.collect.labels.envelopes import EnvelopeConfig
from treewright.controller.learned.features import FEATURES, node_features
from treewright.controller.learned.torch_model import SelectorModel
from treewright.controller.plans.setting import Setting
from treewright.controller.plans.tuned import TunedSettings
from treewright.controller.policies.learned import learned_selector
from treewright.controller.policies.selector import Selector
from treewright.controller.pricing.objective import Objective
from treewright.controller.scorers.siblings import among_siblings
from treewright.train.data.stream import SelectorData
from treewright.train.evaluate.ablation import NOTHING, ablate, feature_groups, with_model
from treewright.train.evaluate.feature_cost import RecordingScorer, StepCost
from treewright.train.evaluate.reliability import Curve, Curves
from treewright.train.fit.export import export_onnx
from treewright.train.fit.fitted import with_baselines
from treewright.train.fit.settings import FitConfig
from treewright.train.replay.recording import read_recordings
from treewright.train.replay.replay import ReplayStats, replay
from treewright.train.report.document import report_page

FIT = FitConfig(max_epochs=1, batch_size=128, row_share=1.0)
GROUP = {"scheme's noise": feature_groups()["scheme's noise"]}
NOISE = [FEATURES.index(name) for name in GROUP["scheme's noise"]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    envelopes = EnvelopeConfig(2, max_depth=4, frontier=4, schemes=("coupled",))
    return traces.write(tmp_path_factory.mktemp("runs") / "traces", count=3, max_tokens=16, envelopes=envelopes)


@pytest.fixture(scope="module")
def recordings(folder):
    return {"coupled": read_recordings(folder)["coupled"]}


@pytest.fixture(scope="module")
def tuned():
    """A selector whose learned policy was tuned to the first theta scale, 1."""
    ranked = {Setting("coupled", 0.8): {"learned": [{"theta_scale": 1.0}, {"theta_scale": 0.5}]}}
    return with_baselines(plans.selector(), tuned=TunedSettings(ranked))


@pytest.fixture(scope="module")
def ablation(folder, recordings, tuned, tmp_path_factory):
    """Without the scheme's noise, beside a network that was never trained."""
    torch.manual_seed(5)  # the one of `plans.selector`
    model = SelectorModel(len(FEATURES), traces.WIDTH + 1).eval()
    data = SelectorData(folder, FIT, max_depth=4)
    logs = tmp_path_factory.mktemp("logs")
    return ablate(model, tuned, data, logs, table=plans.TABLE, recordings=recordings, groups=GROUP)


def test_every_feature_belongs_to_exactly_one_group():
    grouped = [name for names in feature_groups().values() for name in names]
    assert sorted(grouped) == sorted(FEATURES)


def test_columns_of_no_known_group_form_one_of_their_own():
    assert "other" not in feature_groups(("ranks", "depths"))
    groups = feature_groups(("ranks", "hidden_0", "depths", "hidden_1"))
    assert groups == {"rank": ["ranks"], "depth": ["depths"], "other": ["hidden_0", "hidden_1"]}


def test_a_network_does_not_see_a_held_column():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(50, len(FEATURES), generator=generator)
    model = SelectorModel(len(FEATURES), 3).eval()
    model.standardise(features, NOISE)
    at_mean, moved = features.clone(), features.clone()
    at_mean[:, NOISE] = features[:, NOISE].mean(dim=0)
    moved[:, NOISE] += 7.0
    graph = export_onnx(model, len(FEATURES))
    with torch.inference_mode():
        wanted = model(at_mean)
        for seen in (features, moved):
            assert all(torch.equal(*pair) for pair in zip(model(seen), wanted, strict=True))
            for head, expected in zip(checkpoints.answers(graph, seen.numpy()), wanted, strict=True):
                np.testing.assert_allclose(head, expected.numpy(), rtol=1e-5, atol=2e-5)


def test_what_a_fit_without_columns_is_given_stays_as_it_was(folder):
    data = SelectorData(folder, FitConfig(batch_size=128, row_share=1.0), max_depth=4)
    reduced = data.without(NOISE)
    assert (data.held, reduced.held) == ((), tuple(NOISE))
    assert reduced.training is data.training


def test_the_replay_of_the_whole_is_that_of_the_tuned_policy(ablation, recordings, tuned):
    texts = recordings["coupled"]
    runs = replay(texts, learned_selector(tuned, plans.TABLE, theta_scale=1.0), plans.TABLE)
    total = ReplayStats.merged(runs)
    whole, without = ablation.replays
    assert (whole.without, without.without) == (NOTHING, "scheme's noise")
    assert whole.speed_up == round(total.speed_up, 3)
    assert (whole.gain_of_whole, whole.low, whole.high) == (1.0, 1.0, 1.0)
    cost_ms = 1e-3 * ablation.fits[0].cost_us * total.num_steps
    charged = total.plain_ms / (total.priced_ms + cost_ms)
    assert whole.speed_up_charged == pytest.approx(charged, abs=1e-3)  # both rounded


def test_a_selector_with_another_network_scores_as_that_network(tuned):
    torch.manual_seed(6)
    other = SelectorModel(len(FEATURES), traces.WIDTH + 1).eval()
    tree = random_tree(np.random.default_rng(0), batch=1, levels=3)
    with torch.inference_mode():
        alone = other(torch.from_numpy(node_features(tree, context(1))[0])).accept.numpy()[None]
    scores = with_model(tuned, other).scorer().score(tree, context(1)).accept
    np.testing.assert_allclose(scores[:, 1:], among_siblings(alone, tree)[:, 1:], atol=1e-5)
    assert np.abs(tuned.scorer().score(tree, context(1)).accept - scores).max() > 1e-3


def test_the_rows_are_json_and_the_report_shows_them(ablation):
    json.dumps(asdict(ablation), allow_nan=False)
    curves = Curves(*[[Curve("1", 3, 0.5, 0.4, 0.1, [(0.5, 0.4)])]] * 2)
    page = report_page({}, curves, None, ablation=ablation)
    title = "Which features are worth their time?"
    assert title in page and "scheme&#39;s noise" in page
    assert title not in report_page({}, curves, None)


def test_a_groups_cost_is_its_share_of_the_columns_and_what_a_narrower_network_saves():
    num = len(FEATURES)
    cost = StepCost(features_us=3.0 * num, network_us={num: 20.0, num - 2: 19.0, num - 1: 20.5})
    assert cost.total_us == 3.0 * num + 20.0
    assert cost.of_columns(2) == pytest.approx(6.0 + 1.0)
    assert cost.of_columns(1) == pytest.approx(3.0)  # a narrower network that timed slower saves nothing


def test_every_node_a_step_drafts_is_recorded_once(recordings, tuned):
    """At the text's last root nothing was recorded, and no score is asked for."""
    recorder = RecordingScorer(tuned.scorer())
    policy = Selector(recorder, plans.LIMITS, objective=Objective(plans.TABLE))
    text, drafted = recordings["coupled"][0], {}
    replay(
        [text], policy, plans.TABLE, lambda step: drafted.update({step.context.positions[0]: step.drafted.num_nodes[0]})
    )
    recorded = sum(int(tree.num_nodes[0]) - first for tree, _, first in recorder.calls)
    assert recorded == sum(count for root, count in drafted.items() if root in text.envelopes)
