"""Arguments of `generate` that it hands to no custom_generate.

Dropped in silence they would do nothing, and nobody would end a streamer, so they are looked up in its frame.
"""

import inspect
from typing import Any, NamedTuple, Self

from transformers.generation.utils import GenerationMixin

from ....controller.errors import InputError


class Dropped(NamedTuple):
    """None where `generate` was not given one, or is not what runs."""

    assistant_model: Any = None
    streamer: Any = None
    synced_gpus: bool | None = None
    past_key_values: Any = None

    @classmethod
    def of_running_call(cls) -> Self:
        """By the `generate` that is being run."""
        mixin: Any = GenerationMixin
        code, frame = inspect.unwrap(mixin.generate).__code__, inspect.currentframe()
        while frame is not None and frame.f_code is not code:
            frame = frame.f_back
        if frame is None:
            return cls()
        given = {**frame.f_locals.get("kwargs", {}), **frame.f_locals}
        return cls(**{name: given.get(name) for name in cls._fields})

    def refuse(self) -> None:
        """InputError for an argument that cannot be honoured; a streamer can."""
        if self.assistant_model is not None:
            raise InputError("assistant_model and generate_with both draft; give its drafter to generate_with alone")
        if self.synced_gpus:
            raise InputError("synced_gpus keeps ranks in step, which generate_with cannot; leave it out")
        if self.past_key_values is not None:
            raise InputError("past_key_values cannot be used, for the guest keeps a cache of its own; leave them out")
