"""A recorded text: a request and the tokens generated for it, as a row of the trace."""

from collections.abc import Sequence
from dataclasses import asdict

from ..controller.errors import named
from ..controller.ranges import require_some
from ..runtime.request import Request
from ..runtime.sampling import Sampling
from .trace import TextRow


def text_row(request: Request, token_ids: Sequence[int], *, text_id: str, domain: str, document: str) -> TextRow:
    """The row of a text that is neither timed nor labelled yet."""
    return TextRow(
        text_id=text_id,
        domain=domain,
        document=document,
        tokens=[*request.prompt_ids, *token_ids],
        prompt_length=len(request.prompt_ids),
        **asdict(request.sampling),
        num_ties=None,
        decode_ms=None,
    )


def sampling_of(text: TextRow) -> Sampling:
    """The sampling settings the text was generated with."""
    return Sampling(text.temperature, text.top_k, text.top_p, text.seed, text.choice)


def check_temperatures(name: str, temperatures: Sequence[float]) -> None:
    """InputError under the option's name unless texts can be drawn at each, and there is one."""
    require_some(name, temperatures)
    for temperature in temperatures:
        with named(name):
            Sampling(temperature)
