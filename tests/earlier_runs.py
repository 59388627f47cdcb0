"""Checkpoint folders of earlier training runs, with made-up speed-ups."""

import json

import checkpoints

SPEED_UPS = {
    "chain": 1.1,
    "static": 1.3,
    "static, thresholds": 1.2,
    "Sequoia": 1.25,
    "choice, confidence": 1.4,
    "learned": 1.5,
    "oracle": 2.5,
}


def metrics(first_choice=0.6):
    """A run's numbers at T = 1 under both schemes, the fixed one far ahead, and at T = 0 under the one there is."""
    schemes = (("coupled", 1.0, 0.0), ("fixed", 1.0, 3.0), ("coupled", 0.0, 0.5))
    return {
        "drafter": [
            {"temperature": temperature, "positions": 9, "overlap": 0.5, "first_choice": first_choice}
            for temperature in (0.0, 1.0)
        ],
        "replay": [
            {"policy": name, "scheme": scheme, "temperature": temperature, "speed_up": value + more}
            for scheme, temperature, more in schemes
            for name, value in SPEED_UPS.items()
            if (name, scheme) != ("learned", "fixed")
        ],
    }


def run(folder, **numbers):
    return checkpoints.write(folder, metrics_json=json.dumps(numbers).encode())
