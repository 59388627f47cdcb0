"""What vLLM runs in each of its processes at their start (entry point `vllm.general_plugins`)."""

from vllm.v1.worker import gpu_model_runner

from .length import LengthDraftModelProposer, LengthEagleProposer

PROPOSERS = {"DraftModelProposer": LengthDraftModelProposer, "EagleProposer": LengthEagleProposer}


def register() -> None:
    """Put our proposers in the place of vLLM's. Without `treewright` in --additional-config they are vLLM's."""
    for name, proposer in PROPOSERS.items():
        if not issubclass(getattr(gpu_model_runner, name), proposer):
            setattr(gpu_model_runner, name, proposer)
