"""What policies are tuned and compared under: a drafting scheme at a temperature."""

from dataclasses import dataclass

# Options have no more in practice; a trace stores float32, whose error is smaller.
DECIMALS = 3


@dataclass(frozen=True)
class Setting:
    scheme: str
    temperature: float  # rounded

    def __post_init__(self) -> None:
        object.__setattr__(self, "temperature", rounded(self.temperature))


def rounded(temperature: float) -> float:
    return round(float(temperature), DECIMALS)


def temperature_key(temperature: float) -> str:
    """The temperature as a key of JSON."""
    return f"{rounded(temperature):g}"


def temperature_title(temperature: float) -> str:
    return f"T = {temperature_key(temperature)}"
