"""`treewright serve --engine vllm`: vLLM's own server, started with the adapter's options."""

import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ....controller.errors import InputError
from ....controller.trees.limits import LARGEST
from ...hosts import VLLM, require_host
from ...selectors import read_selector
from .launch import WORKER, VllmConfig, arguments, require_models, tree_options
from .policy import Loaded, read_table, shaping
from .settings import VllmSettings

SERVER = "vllm.entrypoints.openai.api_server"
# Of a floor above, which knows traces; vLLM imports it by this name.
RECORDING_WORKER = "treewright.collect.vllm_worker.RecordingWorker"


def serve(
    vllm: VllmConfig = VllmConfig(),
    trees: VllmSettings = VllmSettings(),
    host: str = "127.0.0.1",
    port: int = 8000,
    more: tuple[str, ...] = (),
) -> None:
    """Answer OpenAI requests with vLLM's own server, whose worker verifies trees; this process becomes it.

    Args:
        vllm: Which models vLLM decodes, and what drafts for them
        trees: Which trees are drafted
        host: Address to listen on
        port: Port to listen on
        more: Further words of vLLM's command line, such as --served-model-name=NAME
    """
    require_host(VLLM, "--engine")
    words = command(vllm, trees, ["--host", host, "--port", str(port), *more])
    require_readable(vllm, trees)
    environment = server_environment(os.environ)
    sys.stdout.flush()
    os.execve(sys.executable, words, environment)


def require_readable(vllm: VllmConfig, trees: VllmSettings) -> None:
    """InputError here, and not in the middle of vLLM's log, where a model or a file of the settings cannot be used or a
    static tree is too large."""
    require_models(vllm)
    table = read_table(trees)
    checkpoint = None if trees.selector is None else read_selector(trees.selector, tokenizer_sha256=None)
    shaping(trees, Loaded(checkpoint, table), replace(LARGEST, budget=vllm.budget))


def command(vllm: VllmConfig, trees: VllmSettings, more: list[str]) -> list[str]:
    """The words that start the server."""
    if vllm.drafter is None and trees != VllmSettings():
        raise InputError("trees are shaped, but vllm.drafter is none and nothing drafts; give both or neither")
    worker = WORKER if trees.record is None else RECORDING_WORKER
    return [sys.executable, "-m", SERVER, *arguments(tree_options(vllm, trees, worker)), *more]


def server_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """With what brings the worker's counters to `/metrics` (see `counters`), and the plug-in let in."""
    given = dict(environment)
    if "PROMETHEUS_MULTIPROC_DIR" not in given:
        given["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="treewright-metrics-")
    paths = [str(Path(__file__).resolve().parents[4]), *filter(None, given.get("PYTHONPATH", "").split(os.pathsep))]
    return given | {"PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}
