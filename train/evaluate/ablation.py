"""What each group of features is worth: the selector fitted without it, its replays, and the time the group costs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...controller.checkpoint import Checkpoint
from ...controller.console import print_table, track
from ...controller.learned.features import FEATURES
from ...controller.learned.history import HISTORY
from ...controller.learned.torch_model import SelectorModel
from ...controller.policies.learned import LEARNED, learned_selector
from ...controller.pricing.latency import LatencyTable
from ..data.split import by_setting
from ..data.stream import SelectorData
from ..fit.export import export_onnx
from ..fit.trainer import fit_selector
from ..replay.recording import Recording
from ..replay.replay import ReplayStats, replay
from ..replay.tuning import gain
from .calibration import score_probs
from .feature_cost import measure_step_cost
from .scores import coverage_scores, test_probs

NOTHING = "nothing"
# Texts replayed per temperature and group.
MOST_TEXTS = 30
# Which column is whose, and what making it costs elsewhere: in the runtime, where nothing of `train` can time it.
# A path's noise says where the path stands, not how the node's own draw went, so it goes with the path.
GROUPS: dict[str, tuple[tuple[str, ...], str]] = {
    "drafter's probability": (("log_probs",), "the drafter's softmax, made for drafting anyway"),
    "scheme's noise": (
        ("noisy_log_probs", "margins"),
        "the noise and the softmax over noisy scores, one per drafter level",
    ),
    "rank": (("ranks",), "-"),
    "n-grams": (("ngram_log_probs", "ngram_top_log_probs"), "the counts, which draft a child anyway"),
    "drafter's row": (("entropies", "top_log_probs"), "the reduction of each drafter row over the vocabulary"),
    "depth": (("depths",), "-"),
    "path": (("path_log_probs", "path_noisy_log_probs"), "two sums kept with the growing tree"),
    "sampling": (("temperature", "top_p"), "-"),
    "history": (HISTORY, "the reduction of the target's rows over the vocabulary, one per written token"),
}


def feature_groups(features: Sequence[str] = FEATURES) -> dict[str, list[str]]:
    """The groups that have columns among `features`; columns of none of them stand together as "other"."""
    groups = {group: [name for name in features if name in names] for group, (names, _) in GROUPS.items()}
    grouped = {name for names in groups.values() for name in names}
    groups["other"] = [name for name in features if name not in grouped]
    return {group: names for group, names in groups.items() if names}


def ablate(
    model: SelectorModel,
    checkpoint: Checkpoint,
    data: SelectorData,
    logs: Path,
    *,
    table: LatencyTable | None,
    recordings: Mapping[str, Sequence[Recording]],
    groups: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """`fits` without each group beside the whole `model`, and `replays` of held-out recordings where there are any.

    The learned policy keeps the setting tuned for the whole model, whose `checkpoint` this is.
    """
    groups = feature_groups() if groups is None else groups
    width = data.folder.header.num_candidates
    models = {NOTHING: model}
    for number, (group, names) in enumerate(groups.items()):
        reduced = data.without([FEATURES.index(name) for name in names])
        models[group], _ = fit_selector(reduced, logs / f"{number}-{names[0]}")
    scheme = checkpoint.config.scheme
    settings = {
        temperature: (texts[:MOST_TEXTS], best[0]["theta_scale"])
        for of_scheme, temperature, texts in by_setting(recordings, scheme)
        if of_scheme == scheme and (best := checkpoint.tuned.at(scheme, temperature, LEARNED))
    }
    costs: dict[str, float] = {}
    replays: list[dict[str, Any]] = []
    if table is not None and settings:
        some = next(reversed(settings.values()))[0]
        counts = {len(names) for names in groups.values()}
        cost = measure_step_cost(checkpoint, table, some, width=width, hidden_size=data.fit.hidden_size, removed=counts)
        costs = {NOTHING: cost.total_us} | {group: cost.of_columns(len(names)) for group, names in groups.items()}
        replays = _replays(models, checkpoint, table, settings, costs)
    fits = [_fit_row(name, groups, each, data, costs.get(name)) for name, each in models.items()]
    return {"fits": fits, "replays": replays}


def print_ablation(ablation: Mapping[str, list[dict[str, Any]]]) -> None:
    """The tables of `ablate`."""
    fits = [{name: "-" if value is None else value for name, value in row.items()} for row in ablation["fits"]]
    print_table("Fitted without a group of features: held-out losses, and the group's time per step", fits)
    if ablation["replays"]:
        print_table("The same in replay, and with that time charged to every step", ablation["replays"])


def _fit_row(
    group: str, groups: Mapping[str, Sequence[str]], model: SelectorModel, data: SelectorData, cost_us: float | None
) -> dict[str, Any]:
    edges, nodes = data.test
    accept, coverage = test_probs(model, data)
    scores = score_probs(accept, edges.label)
    return {
        "without": group,
        "columns": ", ".join(groups.get(group, ())) or "-",
        "brier": scores["brier"],
        "log_loss": scores["log_loss"],
        "coverage_log_loss": coverage_scores(coverage, nodes.label)["log_loss"],
        "cost_us": None if cost_us is None else round(cost_us, 2),
        "cost_elsewhere": GROUPS[group][1] if group in GROUPS else "-",
    }


def with_model(checkpoint: Checkpoint, model: SelectorModel) -> Checkpoint:
    """The checkpoint with another network, which is run as its graph: the weights are left out."""
    graph = export_onnx(model, len(FEATURES))
    return replace(checkpoint, weights={}, files={**checkpoint.files, "model.onnx": graph})


def _replays(
    models: Mapping[str, SelectorModel],
    checkpoint: Checkpoint,
    table: LatencyTable,
    settings: Mapping[float, tuple[Sequence[Recording], float]],
    costs_us: Mapping[str, float],
) -> list[dict[str, Any]]:
    """One row per temperature and model; `settings` are texts and theta scale by temperature."""
    checkpoints = {
        group: checkpoint if group == NOTHING else with_model(checkpoint, model) for group, model in models.items()
    }
    rows = []
    for temperature, (texts, scale) in settings.items():
        whole: list[ReplayStats] = []
        for group, reduced in track(list(checkpoints.items()), f"ablation: replays, T={temperature:g}"):
            runs = replay(texts, learned_selector(reduced, table, theta_scale=scale), table)
            left_us = costs_us[NOTHING] - (costs_us[group] if group != NOTHING else 0.0)
            charged = [replace(run, priced_ms=run.priced_ms + 1e-3 * left_us * run.num_steps) for run in runs]
            whole = whole or charged
            value, low, high = gain(whole, charged)
            rows.append(
                {
                    "temperature": temperature,
                    "without": group,
                    "speed_up": round(ReplayStats.merged(runs).speed_up, 3),
                    "speed_up_charged": round(ReplayStats.merged(charged).speed_up, 3),
                    "gain_of_whole": round(value, 4),
                    "low": round(low, 4),
                    "high": round(high, 4),
                }
            )
    return rows
