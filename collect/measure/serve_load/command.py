"""A server under load: what it decodes with speculation, against the same server without, in one run."""

import asyncio
import json
import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import torch

from ....controller.console import print_json
from ....controller.errors import InputError
from ....controller.files import atomic_write
from ....controller.ranges import require_at_least
from ....runtime.machine.processor import processor_name
from ....runtime.pair_config import PairConfig
from ....runtime.speculation import SpeculationConfig
from ...prompts.prompt import Prompt
from ...prompts.sources import PromptConfig, load_prompts
from ..profile import ProfileConfig
from .client import Client
from .process import profiled, served
from .rounds import run_rounds
from .rows import LoadRow, load_row, print_rows
from .settings import LoadConfig

BATCHES = (1, 2, 4, 8, 16, 32, 64)


def serve_load(
    load: LoadConfig = LoadConfig(),
    pair: PairConfig = PairConfig(),
    speculation: SpeculationConfig = SpeculationConfig(selector=Path("reference")),
    max_batch: int = BATCHES[-1],
    prefix_tokens: int = 0,
    profile: ProfileConfig = ProfileConfig(batches=BATCHES),
    profiles: bool = True,
    address: str | None = None,
) -> None:
    """Ask a server for the same texts with speculation and without, by more and more clients at once.

    Args:
        load: What is asked, by how many clients
        pair: The two models of the server that is started
        speculation: Which trees it drafts
        max_batch: Texts that it decodes together
        prefix_tokens: Tokens of texts that it keeps; with 0 it reads every prompt, whichever way came first
        profile: What its latency table spans
        profiles: Measure that table first; else the stored one counts
        address: A server that runs on this machine already, instead of all that
    """
    require_at_least("max_batch", max_batch, 1)
    if address is None and profiles and profile.batches[-1] < max_batch:
        raise InputError(
            f"profile.batches end with {profile.batches[-1]}, and max_batch is {max_batch}; prices of larger batches "
            "would be guessed, so add it"
        )
    prompts = load_prompts(PromptConfig(load.source, "bench", load.prompts))
    models: dict[str, Any] = {"pair": asdict(pair)}
    if address is None and profiles:
        profiled({**models, "sizes": asdict(profile)})
    options = {**models, "speculation": asdict(speculation), "max_batch": max_batch, "prefix_tokens": prefix_tokens}
    with served(options) if address is None else nullcontext(address) as at:
        provenance = {
            "command": shlex.join(["python", "-m", __name__.rpartition(".")[0], *sys.argv[1:]]),
            "hardware": f"{processor_name(torch.device('cpu'))}, {os.cpu_count()} cores",
            "server": f"threads {pair.threads or 'as profiled'}, {pair.dtype}, max_batch {max_batch}"
            if address is None
            else f"one that ran at {address}",
            "prompts": f"{len(prompts)} prompts, {load.rounds} rounds",
            "date": date.today().isoformat(),
        }
        asyncio.run(_measure(at, prompts, load, provenance))


async def _measure(address: str, prompts: Sequence[Prompt], load: LoadConfig, provenance: dict[str, str]) -> None:
    """The rows of all numbers of clients, each reported as soon as it is known."""
    client, rows = Client(address), list[LoadRow]()
    async with client.http:
        report = {
            "command": "serve-load",
            "pair": await client.model(),
            "provenance": provenance,
            "temperature": load.temperature,
            "max_tokens": load.max_tokens,
        }
        for concurrency in load.concurrency:
            rows.append(load_row(concurrency, await run_rounds(client, report["pair"], prompts, load, concurrency)))
            if load.out is not None:
                document = report | {"rows": [asdict(row) for row in rows]}
                atomic_write(load.out, f"{json.dumps(document, indent=1)}\n".encode())
    print_rows(f"T = {load.temperature:g}, about {load.max_tokens} tokens a text, a text joins as one ends", rows)
    print_json(report | {"rows": [asdict(row) for row in rows]})
