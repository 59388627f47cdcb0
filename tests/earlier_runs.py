"""Checkpoint folders of earlier training runs, with made-up speed-ups."""

import json
from dataclasses import asdict

import checkpoints
from treewright.train.evaluate.drafters import DrafterStrength
from treewright.train.replay.tuning import ReplayRow

SPEED_UPS = {
    "chain": 1.1,
    "static": 1.3,
    "static, thresholds": 1.2,
    "Sequoia": 1.25,
    "choice, confidence": 1.4,
    "learned": 1.5,
    "oracle": 2.5,
}


def rows(first_choice=0.6):
    """A run's rows at T = 1 under both schemes, the fixed one far ahead, and at T = 0 under the one there is."""
    schemes = (("coupled", 1.0, 0.0), ("fixed", 1.0, 3.0), ("coupled", 0.0, 0.5))
    strengths = [DrafterStrength(temperature, 9, 0.5, first_choice, first_choice) for temperature in (0.0, 1.0)]
    replays = [
        ReplayRow(name, scheme, temperature, "", 0.0, value + more, 0.0, 0.0, 0.0, 0)
        for scheme, temperature, more in schemes
        for name, value in SPEED_UPS.items()
        if (name, scheme) != ("learned", "fixed")
    ]
    return strengths, replays


def metrics(first_choice=0.6):
    """Those rows as `metrics.json` holds them."""
    return {
        name: [asdict(row) for row in of] for name, of in zip(("drafter", "replay"), rows(first_choice), strict=True)
    }


def run(folder, **numbers):
    return checkpoints.write(folder, metrics_json=json.dumps(numbers).encode())
