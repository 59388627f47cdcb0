"""What vLLM runs in each of its processes at their start (entry point `vllm.general_plugins`)."""

from vllm.v1.spec_decode.draft_model import DraftModelProposer
from vllm.v1.spec_decode.eagle import EagleProposer
from vllm.v1.worker import gpu_model_runner

from .length import LengthDraftModelProposer, LengthEagleProposer

OURS = {"DraftModelProposer": LengthDraftModelProposer, "EagleProposer": LengthEagleProposer}
THEIRS = {"DraftModelProposer": DraftModelProposer, "EagleProposer": EagleProposer}


def register() -> None:
    """Put our proposers in the place of vLLM's. Without `treewright` in --additional-config they are vLLM's."""
    for name, proposer in OURS.items():
        setattr(gpu_model_runner, name, proposer)


def withdraw() -> None:
    """Put vLLM's back, where the worker brings proposers of its own."""
    for name, proposer in THEIRS.items():
        setattr(gpu_model_runner, name, proposer)
