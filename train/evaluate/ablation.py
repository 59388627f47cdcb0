"""Ablation of feature groups: the selector fitted without each, its replays, and the time the group costs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ...controller.checkpoint import SelectorBundle
from ...controller.console import print_table, track
from ...controller.learned.features import FEATURES
from ...controller.learned.history import HISTORY
from ...controller.learned.torch_model import SelectorModel
from ...controller.plans.setting import temperature_title
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
# The columns of each group, and what they cost in the runtime, which training cannot time.
# A path's noise describes the path and not the node's own draw, so it belongs to the path.
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
    "history": (HISTORY, "the reduction of the target's rows over the vocabulary, one per generated token"),
}


@dataclass(frozen=True)
class AblationFit:
    without: str
    columns: str
    brier: float
    log_loss: float
    coverage_log_loss: float
    cost_us: float | None  # per step; None where nothing was replayed
    cost_elsewhere: str


@dataclass(frozen=True)
class AblationReplay:
    temperature: float
    without: str
    speed_up: float
    speed_up_charged: float  # with the columns' time charged to every step
    gain_of_whole: float  # of the whole set, charged, with its interval
    low: float
    high: float


@dataclass(frozen=True)
class Ablation:
    fits: list[AblationFit]
    replays: list[AblationReplay]


def feature_groups(features: Sequence[str] = FEATURES) -> dict[str, list[str]]:
    """The groups that have columns among `features`; columns of no group form the group "other"."""
    groups = {group: [name for name in features if name in names] for group, (names, _) in GROUPS.items()}
    grouped = {name for names in groups.values() for name in names}
    groups["other"] = [name for name in features if name not in grouped]
    return {group: names for group, names in groups.items() if names}


def ablate(
    model: SelectorModel,
    selector: SelectorBundle,
    data: SelectorData,
    logs: Path,
    *,
    table: LatencyTable | None,
    recordings: Mapping[str, Sequence[Recording]],
    groups: Mapping[str, Sequence[str]] | None = None,
) -> Ablation:
    """Fits without each group beside the whole `model`, and replays of held-out recordings where there are any.

    The learned policy keeps the theta scale tuned for the whole model, which `selector` holds.
    """
    groups = feature_groups() if groups is None else groups
    width = data.folder.header.num_candidates
    models = {NOTHING: model}
    for number, (group, names) in enumerate(groups.items()):
        reduced = data.without([FEATURES.index(name) for name in names])
        models[group], _ = fit_selector(reduced, logs / f"{number}-{names[0]}")
    settings = {
        setting.temperature: (texts[:MOST_TEXTS], best[0]["theta_scale"])
        for setting, texts in by_setting(recordings, selector.config.scheme).items()
        if setting.scheme == selector.config.scheme and (best := selector.tuned.at(setting, LEARNED))
    }
    costs: dict[str, float] = {}
    replays: list[AblationReplay] = []
    if table is not None and settings:
        some = next(reversed(settings.values()))[0]
        counts = {len(names) for names in groups.values()}
        cost = measure_step_cost(selector, table, some, width=width, hidden_size=data.fit.hidden_size, removed=counts)
        costs = {NOTHING: cost.total_us} | {group: cost.of_columns(len(names)) for group, names in groups.items()}
        replays = _replays(models, selector, table, settings, costs)
    fits = [_fit_row(name, groups, each, data, costs.get(name)) for name, each in models.items()]
    return Ablation(fits, replays)


def print_ablation(ablation: Ablation) -> None:
    """The tables of `ablate`."""
    rows = [{name: "-" if value is None else value for name, value in asdict(row).items()} for row in ablation.fits]
    print_table("Fitted without a group of features: held-out losses, and the group's time per step", rows)
    if ablation.replays:
        print_table(
            "The same in replay, and with that time charged to every step", [asdict(row) for row in ablation.replays]
        )


def _fit_row(
    group: str, groups: Mapping[str, Sequence[str]], model: SelectorModel, data: SelectorData, cost_us: float | None
) -> AblationFit:
    edges, nodes = data.test
    accept, coverage = test_probs(model, data)
    scores = score_probs(accept, edges.label)
    return AblationFit(
        without=group,
        columns=", ".join(groups.get(group, ())) or "-",
        brier=scores.brier,
        log_loss=scores.log_loss,
        coverage_log_loss=coverage_scores(coverage, nodes.label).log_loss,
        cost_us=None if cost_us is None else round(cost_us, 2),
        cost_elsewhere=GROUPS[group][1] if group in GROUPS else "-",
    )


def with_model(selector: SelectorBundle, model: SelectorModel) -> SelectorBundle:
    """The selector with another network, which is run as its graph: the weights are left out."""
    return replace(selector, weights={}, graph=export_onnx(model, len(FEATURES)))


def _replays(
    models: Mapping[str, SelectorModel],
    selector: SelectorBundle,
    table: LatencyTable,
    settings: Mapping[float, tuple[Sequence[Recording], float]],
    costs_us: Mapping[str, float],
) -> list[AblationReplay]:
    """One row per temperature and model; `settings` are texts and theta scale by temperature."""
    selectors = {
        group: selector if group == NOTHING else with_model(selector, model) for group, model in models.items()
    }
    rows = []
    for temperature, (texts, scale) in settings.items():
        whole: list[ReplayStats] = []
        for group, reduced in track(list(selectors.items()), f"ablation: replays, {temperature_title(temperature)}"):
            runs = replay(texts, learned_selector(reduced, table, theta_scale=scale), table)
            left_us = costs_us[NOTHING] - (costs_us[group] if group != NOTHING else 0.0)
            charged = [replace(run, priced_ms=run.priced_ms + 1e-3 * left_us * run.num_steps) for run in runs]
            whole = whole or charged
            rows.append(
                AblationReplay(
                    temperature,
                    group,
                    round(ReplayStats.merged(runs).speed_up, 3),
                    round(ReplayStats.merged(charged).speed_up, 3),
                    *gain(whole, charged).rounded(4),
                )
            )
    return rows
