"""A text the target wrote: what can be labelled, whether it was decoded just now, served, or stored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from ..controller.errors import named
from ..controller.ranges import require_some
from ..runtime.sampling import Sampling

SAMPLING = ("temperature", "top_k", "top_p", "seed", "choice")


@dataclass(frozen=True)
class Text:
    """One text, and how it was drawn; the fields are columns of `schema.TEXTS`."""

    text_id: str
    domain: str
    document: str
    tokens: Sequence[int]  # prompt and continuation
    prompt_length: int
    sampling: Sampling
    decode_ms: float | None = None

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """The text of a row of `schema.TEXTS`."""
        names = ("text_id", "domain", "document", "tokens", "prompt_length", "decode_ms")
        return cls(sampling=Sampling(**{name: row[name] for name in SAMPLING}), **{name: row[name] for name in names})

    def row(self, num_ties: int | None = None) -> dict[str, Any]:
        """A row of `schema.TEXTS`; `num_ties` is known once the text is labelled."""
        return {
            "text_id": self.text_id,
            "domain": self.domain,
            "document": self.document,
            "tokens": list(self.tokens),
            "prompt_length": self.prompt_length,
            **{name: getattr(self.sampling, name) for name in SAMPLING},
            "num_ties": num_ties,
            "decode_ms": self.decode_ms,
        }


def check_temperatures(name: str, temperatures: Sequence[float]) -> None:
    """InputError under the option's name unless texts can be drawn at each, and there is one."""
    require_some(name, temperatures)
    for temperature in temperatures:
        with named(name):
            Sampling(temperature)
