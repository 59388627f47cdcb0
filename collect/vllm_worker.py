"""vLLM's worker that stores the texts it generates: `--worker-cls treewright.collect.vllm_worker.RecordingWorker`.

A worker lies on the floor below, which knows no traces; here it gets the observer. The folder is one of texts alone,
as of `serve --record`: `treewright collect --relabel` makes training rows of it.
"""

from dataclasses import replace
from pathlib import Path

from ..controller.errors import InputError
from ..runtime.adapters.vllm.settings import VllmSettings
from ..runtime.adapters.vllm.texts import Text
from ..runtime.adapters.vllm.worker import TreeWorker
from ..runtime.pair import PairConfig, load_pair
from ..runtime.request import Request
from .served import ServedTexts


class RecordingWorker(TreeWorker):
    """Stores each text that ended and that temperature, top-k and top-p alone have shaped; the first of the workers of
    a model does."""

    recorded: ServedTexts | None = None
    num_recorded = 0
    num_left_out = 0  # shaped by more than a trace can say, or empty

    def require_useful(self, settings: VllmSettings) -> None:
        if settings.record is None:
            raise InputError("RecordingWorker needs a folder for its texts; set treewright.record")
        super().require_useful(replace(settings, record=None))

    def load_model(self, *args: object, **options: object) -> None:
        super().load_model(*args, **options)
        if self.rank == 0:
            settings = self.model_runner.settings
            assert settings.record is not None
            # Read once more, to name both models by their weights.
            self.recorded = ServedTexts.open(Path(settings.record), load_pair(self._pair(settings)))
            self.model_runner.observer = self._record

    def _pair(self, settings: VllmSettings) -> PairConfig:
        speculative, model = self.vllm_config.speculative_config, self.vllm_config.model_config
        drafter = settings.drafter
        if drafter is None and speculative is not None and speculative.uses_draft_model():
            drafter = speculative.model
        if drafter is None:
            raise InputError("treewright.record names the drafter model in its traces, and none drafts here; give one")
        return PairConfig(str(model.model), drafter, dtype=str(model.dtype).removeprefix("torch."))

    def _record(self, text: Text) -> None:
        assert self.recorded is not None
        tokens = text.kept
        if not tokens or not text.is_plain:
            self.num_left_out += 1
        elif self.recorded(Request(text.prompt, text.max_tokens, text.sampling), tokens):
            self.num_recorded += 1

    def treewright_recorded(self) -> dict[str, int]:
        """For `collective_rpc`: texts stored and left out."""
        return {"recorded": self.num_recorded, "left_out": self.num_left_out}

    def shutdown(self) -> None:
        if self.recorded is not None:
            self.recorded.__exit__()
        super().shutdown()
