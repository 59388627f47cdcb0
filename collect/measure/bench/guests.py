"""treewright inside transformers' `generate`, against the loops that `generate` has itself, in one interleaved run."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ....controller.errors import InputError
from ....controller.plans.setting import temperature_title
from ....runtime.adapters.generate.assistant import ChainAssistant, assistant_with
from ....runtime.adapters.generate.guest import Guest, generate_with, next_seed
from ....runtime.engines.transformers.pair import transformers_model
from ....runtime.engines.transformers.support import num_rows
from ....runtime.noise import KeyedNoise
from ....runtime.pair import Pair
from .measure import Speed, repeated_four_grams, run_interleaved
from .policies import Job, Policy, Run
from .report import known, print_policies, summarise
from .transformers_loops import (
    GRID,
    Assistance,
    assisted_policy,
    assisted_speeds,
    generate_policy,
    generated,
    models_of,
)

# More short chains than `bench` tries, for here it is the one to beat.
WIDER_GRID = (*GRID, *(Assistance(length, 0.0) for length in (1, 2, 4)), *(Assistance(n, 0.4) for n in (3, 5)))
PLAIN, LEARNED = "generate_with, plain", "generate_with, learned, guarded"
ASSISTED, NATIVE = "transformers assisted", "transformers.generate"


class NearTie(NamedTuple):
    """Where two texts that ought to be the same part: how far apart the target's scores of the two tokens are."""

    prompt: int
    token: int
    gap: float  # in units of logits over the temperature, the noise included


def inside_generate(pair: Pair, selector: Path, tuning: Sequence[Job], jobs: Sequence[Job]) -> dict[str, Any]:
    """Assisted generation tuned on the jobs for `tuning`, at its defaults without any, then every loop on `jobs`."""
    target, drafter = models_of(pair)
    if num_rows(target) != num_rows(drafter):
        raise InputError(
            "measure.inside_generate is held against assisted generation, which takes a drafter with as many rows as "
            f"the target, got {num_rows(drafter)} and {num_rows(target)}; choose another pair"
        )
    for model in (pair.target, pair.drafter):
        transformers_model(model, "transformers' loop").release()  # those loops run with the models' own attention
    temperature = jobs[0].sampling.temperature
    title = temperature_title(temperature)
    speeds = assisted_speeds(pair, WIDER_GRID, tuning, f"tune assisted at {title}") if tuning else [1.0]
    fastest = WIDER_GRID[int(np.argmax(speeds))]
    policies = [generate_policy(pair), assisted_policy(pair, fastest), *_ours(pair, selector)]
    runs = run_interleaved(policies, jobs, f"inside generate at {title}")
    by_name = {policy.family: of_policy for policy, of_policy in zip(policies, runs, strict=True)}
    rows = [summarise(policy, jobs, runs[number], runs[0]) for number, policy in enumerate(policies)]
    repeated = repeated_four_grams([run.tokens for run in runs[0]])
    print_policies(temperature, rows, jobs, repeated, is_tuned=bool(tuning))
    speed = Speed.of(by_name[LEARNED], by_name[ASSISTED])
    print(f"{LEARNED} over {ASSISTED}: {speed.speed_up:.3f} x, 95 % interval {speed.speed_up_95}")
    # A greedy text is that of `generate` itself, a drawn one that of the same seed without a drafter.
    wanted = by_name[NATIVE if temperature == 0 else PLAIN]
    ours = {name: of for name, of in by_name.items() if name.startswith("generate_with")}
    return {
        "assisted_grid": {
            options.text: round(speed, 1) for options, speed in zip(WIDER_GRID, speeds, strict=bool(tuning))
        },
        "repeated_four_grams": round(repeated, 3),
        "policies": [known(row) for row in rows],
        "learned_over_assisted": speed._asdict(),
        "texts_equal_to": NATIVE if temperature == 0 else PLAIN,
        "texts_unlike": {
            name: [tie._asdict() for tie in near_ties(pair, jobs, of, wanted)] for name, of in ours.items()
        },
    }


def _ours(pair: Pair, selector: Path) -> list[Policy]:
    """Guests without a drafter, with a tree grown by confidence, and learned; then an assistant's learned chains."""
    target, drafter = models_of(pair)
    guests = {
        PLAIN: generate_with(),
        "generate_with, default tree": generate_with(drafter, guard=False),
        "generate_with, learned": generate_with(drafter, selector, guard=False),
        LEARNED: generate_with(drafter, selector),
    }
    policies = [
        Policy(name, "-", "", partial(_guest_run, pair, guest), same_text=False) for name, guest in guests.items()
    ]
    helper = assistant_with(drafter, selector, target=target)
    return [*policies, Policy(f"{ASSISTED}, learned chains", "-", "", partial(_assistant_run, pair, helper))]


def _guest_run(pair: Pair, guest: Guest, job: Job) -> Run:
    run = generated(pair, [job], custom_generate=guest)
    return Run(run.tokens, run.seconds, guest.stats)


def _assistant_run(pair: Pair, helper: ChainAssistant, job: Job) -> Run:
    return generated(pair, [job], assistant_model=helper)


def near_ties(pair: Pair, jobs: Sequence[Job], runs: Sequence[Run], wanted: Sequence[Run]) -> list[NearTie]:
    """Of each text that differs from the one wanted, where it does."""
    ties = []
    for number, (job, run, other) in enumerate(zip(jobs, runs, wanted, strict=True)):
        place = next((i for i, (a, b) in enumerate(zip(run.tokens, other.tokens, strict=True)) if a != b), None)
        if place is not None:
            scores = _scores(pair, job, [*job.prompt_ids, *run.tokens[:place]])
            gap = float((scores[run.tokens[place]] - scores[other.tokens[place]]).abs())
            ties.append(NearTie(number, place, gap))
    return ties


def _scores(pair: Pair, job: Job, text: list[int]) -> Tensor:
    """[V] by which the token behind `text` was chosen."""
    target, _ = models_of(pair)
    with torch.inference_mode():
        row: Tensor = target(torch.tensor([text], device=pair.target.device)).logits[0, -1].float().cpu()
    if job.sampling.is_greedy:
        return row
    torch.manual_seed(job.sampling.seed)
    return row / job.sampling.temperature + KeyedNoise(next_seed(), 0, len(row)).at(len(text))
