"""Learned shapes against the best fixed one on held-out texts, by the exact programme."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from ...controller.checkpoint.shapes import SpeedUps
from ...controller.intervals import Interval, ratio_interval
from ...controller.learned.shape_menu import SPECTR, TRAVERSAL
from ...controller.learned.shape_model import ShapeModel
from ...controller.plans.setting import temperature_key
from ...controller.pricing.latency import LatencyTable
from ...controller.trees.tree import Array
from .policies import PricedText, bound_ms, priced, tuned_speed_up
from .rules import rules
from .texts import ShapeText

# Around the speed-ups that speculation reaches; a finer search tells settings apart that are alike on other texts.
SPEED_UPS = (0.3, 0.5, 0.7, 0.85, 1.0, 1.15, 1.3, 1.5, 1.75, 2.0, 2.5, 3.0)

PricedTexts = dict[str, list[PricedText]]
"""By verifier; Traversal has none, because nothing is known of its trees given a text."""


@dataclass(frozen=True)
class ShapeRow:
    """One verifier on the held-out texts of one kind of sampling; ratios of expected times, with intervals over
    texts."""

    verifier: str
    temperature: float
    top_p: float
    texts: int
    trees: dict[str, list[int]]  # [K, L1, L2] of the rules that have one, tuned on the validation texts
    x_plain: dict[str, Interval]  # by rule
    learned_over: dict[str, Interval]  # by rule
    bound_x_plain: float


def expectations(model: ShapeModel, text: ShapeText) -> Array:
    """[n, answers]"""
    with torch.inference_mode():
        return model(torch.from_numpy(text.features)).numpy()


def price_texts(
    model: ShapeModel, texts: Sequence[ShapeText], verifiers: Sequence[str], table: LatencyTable
) -> PricedTexts:
    expected = [expectations(model, text) for text in texts]
    return {
        verifier: [
            priced(text, verifier, table, lengths, verifiers) for text, lengths in zip(texts, expected, strict=True)
        ]
        for verifier in verifiers
        if verifier != TRAVERSAL
    }


def tune_speed_ups(validation: PricedTexts, verifiers: Sequence[str]) -> SpeedUps:
    """By verifier and temperature. Traversal takes SpecTr's, because there is no programme for its own."""
    tuned: dict[str, dict[str, float]] = {}
    for verifier, texts in validation.items():
        temperatures = sorted({temperature_key(of.text.temperature) for of in texts})
        tuned[verifier] = {
            temperature: tuned_speed_up(
                [of for of in texts if temperature_key(of.text.temperature) == temperature], SPEED_UPS
            )
            for temperature in temperatures
        }
    return tuned | ({TRAVERSAL: tuned[SPECTR]} if TRAVERSAL in verifiers else {})


def compare(validation: PricedTexts, test: PricedTexts, speed_ups: SpeedUps) -> list[ShapeRow]:
    """A row per verifier and kind of sampling that both sides have texts of."""
    rows = []
    for verifier, texts in test.items():
        for kind in sorted({of.text.kind for of in texts}):
            tuned_on, measured = ([of for of in side if of.text.kind == kind] for side in (validation[verifier], texts))
            if tuned_on:
                rows.append(_row(verifier, tuned_on, measured, speed_ups[verifier]))
    return rows


def _row(
    verifier: str, tuned_on: Sequence[PricedText], measured: Sequence[PricedText], speed_ups: Mapping[str, float]
) -> ShapeRow:
    temperature, top_p = measured[0].text.kind
    by_name, trees = rules(tuned_on, speed_ups[temperature_key(temperature)])
    times = {name: [rule(of) for of in measured] for name, rule in by_name.items()}
    plain = [float(of.plain_ms.sum()) for of in measured]
    return ShapeRow(
        verifier,
        temperature,
        top_p,
        len(measured),
        {name: shape.option for name, shape in trees.items()},
        {name: ratio_interval(plain, of_rule).rounded(4) for name, of_rule in times.items()},
        {name: ratio_interval(of_rule, times["learned"]).rounded(4) for name, of_rule in times.items()},
        round(sum(plain) / sum(bound_ms(of) for of in measured), 4),
    )
