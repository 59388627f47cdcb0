"""The engine's own loops beside ours: what its users have without us."""

import logging
from collections.abc import Sequence

from ....runtime.pair import Pair
from .llamacpp_loops import PACKAGE, is_installed, server_policies
from .policies import Job, Policy
from .transformers_loops import generate_policy, runs_in_transformers, tuned_assisted

log = logging.getLogger(__name__)


def peer_policies(pair: Pair, jobs: Sequence[Job], label: str) -> list[Policy]:
    """The engine's plain decoding and its own ways to speculate, tuned on `jobs`."""
    if runs_in_transformers(pair):
        return [generate_policy(pair), *tuned_assisted(pair, jobs, label)]
    if is_installed():
        return server_policies(pair, jobs, label)
    log.warning("llama.cpp's own loops are left out: their package, %s, is missing", PACKAGE)
    return []
