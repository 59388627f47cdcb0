"""What constraints cost in a step: `python tests/constraint_costs.py` prints docs/figures/constraints.json.

Times are of the processor that the decoding thread had, so that other programs do not count, nor does waiting for them.
A kind's cost is that of processing rows of logits, the target's and the drafter's, and of looking for dead ends, over
its own run's steps.
"""

import json
import sys
from contextlib import contextmanager
from datetime import date
from importlib.metadata import version
from time import process_time, thread_time

from treewright.collect.prompts.prompt import prompt_request
from treewright.collect.prompts.sources import PromptConfig, load_prompts
from treewright.runtime import batch, dead_ends, processing
from treewright.runtime.build import build_decoder
from treewright.runtime.constraints.constrain import Constrainer
from treewright.runtime.constraints.settings import Constraints
from treewright.runtime.drafters import language_model
from treewright.runtime.pair import PairConfig, load_pair
from treewright.runtime.sampling import Sampling
from treewright.runtime.speculation import SpeculationConfig

NUM_PROMPTS, NUM_TOKENS, TEMPERATURE, DYNAMIC = 4, 64, 0.6, (3, 4, 12)
SMALL = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}, "tags": {"type": "array", "maxItems": 4}},
    "required": ["name", "age"],
}
FIELDS = {f"field_{number}": SMALL for number in range(60)}
LARGE = {"type": "object", "properties": FIELDS, "required": [*FIELDS]}
KINDS = {
    "nothing": Constraints(),
    "logit_bias of 100 tokens": Constraints(logit_bias=dict.fromkeys(range(100, 200), 1.0)),
    "repetition_penalty": Constraints(repetition_penalty=1.1),
    "frequency and presence": Constraints(frequency_penalty=0.3, presence_penalty=0.3),
    "20 bad_words": Constraints(bad_words=tuple(f"word{number}" for number in range(20))),
    "min_p": Constraints(min_p=0.05),
    "a JSON list of 8 values": Constraints(json_schema='{"type": "array", "minItems": 8}'),
    "a schema of 3 fields": Constraints(json_schema=json.dumps(SMALL)),
    "a schema of 240 fields": Constraints(json_schema=json.dumps(LARGE)),
    "a regular expression": Constraints(regex=r"(def|class) [a-z_]{3,12}\([a-z, ]{0,40}\):(\n    [a-z ]{1,40}){1,9}"),
}


class Spent:
    """Seconds of processing, and the rows that were processed."""

    def __init__(self):
        self.seconds = 0.0
        self.rows = 0

    @contextmanager
    def counted(self):
        """Around whatever decodes."""

        def processed(processors, tree, nodes, logits, *, of_target):
            started = thread_time()
            rows = processing.processed(processors, tree, nodes, logits, of_target=of_target)
            self.seconds += thread_time() - started
            self.rows += int((tree.valid if nodes is None else nodes >= 0).sum())
            return rows

        def timed(of_dead_ends):
            def call(*arguments):
                started = thread_time()
                result = of_dead_ends(*arguments)
                self.seconds += thread_time() - started
                return result

            return call

        batch.processed = language_model.processed = processed
        batch.fail_at_dead_ends = timed(dead_ends.fail_at_dead_ends)
        batch.cut_at_dead_ends = timed(dead_ends.cut_at_dead_ends)
        try:
            yield
        finally:
            batch.processed = language_model.processed = processing.processed
            batch.fail_at_dead_ends = dead_ends.fail_at_dead_ends
            batch.cut_at_dead_ends = dead_ends.cut_at_dead_ends


def measured(decoder, constrainer, pair, constraints):
    started = process_time()
    requests = [
        constrainer.constrained(prompt_request(prompt, pair, NUM_TOKENS, Sampling(TEMPERATURE, seed=seed)), constraints)
        for seed, prompt in enumerate(load_prompts(PromptConfig(split="bench", limit=NUM_PROMPTS)))
    ]
    made_ms, spent, started = (process_time() - started) * 1e3, Spent(), thread_time()
    with spent.counted():
        stats = [decoder.generate([request])[1] for request in requests]
    total, steps = thread_time() - started, sum(each.num_steps for each in stats)
    return {
        "made_ms": round(made_ms, 1),
        "step_ms": round(total / steps * 1e3, 2),
        "constraint_ms": round(spent.seconds / steps * 1e3, 3),
        "share": round(spent.seconds / total, 4),
        "rows_per_step": round(spent.rows / steps, 1),
        "block_efficiency": round(sum(each.num_tokens for each in stats) / steps, 2),
    }


def main(folders):
    pair = load_pair(PairConfig(*folders, threads=1))
    decoder = build_decoder(pair, SpeculationConfig(dynamic=DYNAMIC, guard=False))
    constrainer = Constrainer.of(pair)
    first = prompt_request(load_prompts(PromptConfig())[0], pair, 1, Sampling())
    constrainer.constrained(first, Constraints(regex="a"))  # reads the tokenizer
    measured(decoder, constrainer, pair, KINDS["nothing"])  # warms up
    figures = {
        "provenance": {
            "command": "python tests/constraint_costs.py",
            "hardware": f"{pair.target.processor}, 1 thread, float32",
            "date": date.today().isoformat(),
            "versions": {name: version(name) for name in ("llguidance", "torch")},
            "prompts": NUM_PROMPTS,
            "tokens": NUM_TOKENS,
            "temperature": TEMPERATURE,
            "dynamic": DYNAMIC,
            "vocabulary": pair.target.vocabulary_size,
        },
        "kinds": {name: measured(decoder, constrainer, pair, constraints) for name, constraints in KINDS.items()},
    }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
