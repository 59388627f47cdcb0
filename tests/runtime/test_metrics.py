"""What is counted is what was answered: requests, tokens, and the nodes of every step."""

import asyncio
import re

import numpy as np
import plans
import pytest
import tiny
from failing import FailingModel
from serving import BODY, Gate, chat, complete, events, make_decoder, serving
from treewright.controller.contract import COUPLED
from treewright.controller.policies.selector import Selector
from treewright.controller.pricing.objective import Objective
from treewright.controller.scorers.confidence import ConfidenceScorer
from treewright.controller.trees.limits import TreeLimits
from treewright.runtime.decoder import Decoder
from treewright.runtime.drafters.language_model import LanguageModelDrafter
from treewright.runtime.request import Request
from treewright.runtime.sampling import Sampling
from treewright.runtime.serve.errors import ServeError
from treewright.runtime.serve.metrics.predictions import PredictionMetrics
from treewright.runtime.serve.metrics.series import Series
from treewright.runtime.serve.worker import Totals, Worker
from treewright.runtime.stats import StepRecord
from treewright.runtime.target import Target
from treewright.runtime.verification.walk import WalkVerifier


def value(worker, name, **labels):
    return worker.metrics.registry.get_sample_value(f"treewright_{name}", labels)


def requests(num_texts, max_tokens=3):
    return [Request([1, 2], max_tokens, Sampling(seed=9, choice=choice)) for choice in range(num_texts)]


def test_tokens_are_those_of_the_answers_usage():
    with serving(max_batch=2) as (client, worker):
        answers = [complete(client, n=n, prompt=["w1", "w2 w3"], stop="w7").json() for n in (1, 3)]
        complete(client, stream=True)
    usage = [answer["usage"] for answer in answers]
    reasons = [choice["finish_reason"] for answer in answers for choice in answer["choices"]]
    assert value(worker, "prompt_tokens_total") == 3 + sum(each["prompt_tokens"] for each in usage) == 9
    generated = 12 + sum(each["completion_tokens"] for each in usage)
    assert value(worker, "generation_tokens_total") == generated
    assert value(worker, "request_success_total", finished_reason="stop") == reasons.count("stop") > 0
    assert value(worker, "request_success_total", finished_reason="length") == 1 + reasons.count("length")
    for name in ("time_to_first_token_seconds", "e2e_request_latency_seconds", "request_queue_time_seconds"):
        assert value(worker, f"{name}_count") == 9
    assert value(worker, "inter_token_latency_seconds_count") == generated - 9  # one by one, without drafts
    assert value(worker, "decode_steps_total") == generated


def test_every_accepted_request_ends_in_one_way():
    gate = Gate()
    worker = Worker(make_decoder(gate), max_batch=2, max_queue=4, totals=Totals())

    async def ask():
        await worker.submit(requests(2))
        while value(worker, "num_requests_running") != 2:
            await asyncio.sleep(0.001)
        left, stopped = await worker.submit(requests(1)), await worker.submit(requests(3))
        with pytest.raises(ServeError, match="the queue is full"):
            await worker.submit(requests(2))
        assert (value(worker, "num_requests_running"), value(worker, "num_requests_waiting")) == (2, 4)
        left.cancelled.set()
        assert value(worker, "num_requests_waiting") == 3
        worker.stop()
        gate.opened.set()
        with pytest.raises(ServeError, match="stopping"):
            await stopped.begun()
        with pytest.raises(ServeError, match="stopping"):
            await worker.submit(requests(1))

    with worker:
        asyncio.run(ask())
    assert value(worker, "admission_rejections_total", reason="queue_full") == 2
    assert value(worker, "admission_rejections_total", reason="stopping") == 1
    assert value(worker, "request_accepted_total") == 6
    assert value(worker, "request_failed_total", reason="stopping") == 6
    assert (value(worker, "num_requests_running"), value(worker, "num_requests_waiting")) == (0, 0)


def test_requests_that_fail_or_are_left_are_told_apart():
    with serving(model=FailingModel(tiny.llama(), marked=50, max_length=35)) as (client, worker):
        assert complete(client, prompt=[1] * 30, max_tokens=20, n=2).status_code == 500

        async def leave():
            job = await worker.submit(requests(2, max_tokens=200))
            job.cancelled.set()
            with pytest.raises(ServeError, match="left"):
                async for _ in job.pieces():
                    pass

        asyncio.run(leave())
    assert value(worker, "request_failed_total", reason="error") == value(worker, "request_cancelled_total") == 2
    assert value(worker, "request_accepted_total") == 4


def drafting_decoder(records, objective=None):
    """Puts the records of its steps where it is told."""
    limits = TreeLimits(max_depth=3, width=3, frontier=3, budget=6)
    return Decoder(
        Target(tiny.llama()),
        WalkVerifier(),
        tiny.detokeniser(),
        frozenset(),
        drafter=LanguageModelDrafter(tiny.llama(noise=0.05), COUPLED),
        selector=Selector(ConfidenceScorer(), limits, objective=objective),
        observer=records.append,
        objective=objective,
    )


def test_nodes_are_those_of_the_steps():
    records: list[StepRecord] = []
    objective = Objective(plans.TABLE)
    decoder = drafting_decoder(records, objective)
    with Worker(decoder, max_batch=2, max_queue=8, totals=Totals()) as worker:

        async def ask():
            async for _ in (await worker.submit(requests(3, max_tokens=30))).pieces():
                pass

        asyncio.run(ask())
    accepted = [length for record in records for length in record.verdict.accepted_lengths]
    drafts = [nodes - 1 for record in records for nodes in record.drafted.num_nodes if nodes > 1]
    kept = [nodes - 1 for record in records for nodes in record.kept.num_nodes]
    assert value(worker, "spec_decode_num_drafts_total") == len(drafts)
    assert value(worker, "spec_decode_num_draft_tokens_total") == sum(drafts)
    assert value(worker, "spec_decode_num_verified_tokens_total") == value(worker, "tree_nodes_sum") == sum(kept)
    assert value(worker, "spec_decode_num_accepted_tokens_total") == sum(accepted) > 0
    for position in range(max(accepted)):
        reached = sum(length > position for length in accepted)
        assert value(worker, "spec_decode_num_accepted_tokens_per_pos_total", position=str(position)) == reached
    assert value(worker, "selector_expected_tokens_total") == pytest.approx(objective.num_expected)
    assert value(worker, "selector_accepted_tokens_total") == objective.num_accepted == sum(accepted)
    assert value(worker, "theta") == objective.last_theta > 0
    verify_ms = sum(record.target_ms + record.verify_ms + record.commit_ms for record in records)
    assert value(worker, "verify_seconds_sum") == pytest.approx(verify_ms / 1e3)
    assert value(worker, "verify_seconds_count") == len(records)


def test_an_answer_of_one_text_says_what_speculation_did_for_it():
    records: list[StepRecord] = []
    usage = {"stream": True, "stream_options": {"include_usage": True}}
    with serving(decoder=drafting_decoder(records), measures=True) as (client, worker):
        said = complete(client, max_tokens=30).json()["metrics"]["speculative_decoding"]
        kept = [int(record.kept.num_nodes[0]) - 1 for record in records]
        lengths = [
            int(record.verdict.accepted_lengths[0]) for record, nodes in zip(records, kept, strict=True) if nodes
        ]
        accepted = value(worker, "spec_decode_num_accepted_tokens_total")
        *chunks, last, _ = events(complete(client, max_tokens=30, **usage))
        assert last["metrics"]["speculative_decoding"] == said and not any("metrics" in chunk for chunk in chunks)
        assert chat(client, max_tokens=30).json()["metrics"].keys() == {"speculative_decoding"}
        assert "metrics" not in complete(client, n=2).json()
        plain = complete(client, speculation="off").json()["metrics"]["speculative_decoding"]
    depth = max(int(record.kept.depths[0].max()) for record in records)
    assert said == {
        "mean_acceptance_length": 1 + sum(lengths) / len(lengths),
        "draft_acceptance_rate": sum(lengths) / sum(kept),
        "acceptance_histogram": [lengths.count(length) for length in range(depth + 1)],
        "num_spec_steps": len(lengths),
        "num_accepted_draft_tokens": accepted,
        "num_draft_tokens": sum(kept),
        "num_spec_tokens": depth,
    }
    assert plain["num_spec_steps"] == plain["num_draft_tokens"] == 0 and plain["mean_acceptance_length"] == 1


def test_prefixes_and_records_are_counted_as_they_are_in_the_totals():
    totals = Totals()
    decoder = make_decoder()
    decoder.keep_prefixes(64, totals.prefixes)
    with serving(
        decoder=decoder, totals=totals, keep_text=lambda request, tokens: request.sampling.seed == 5
    ) as opened:
        client, worker = opened
        answers = [complete(client, prompt=[*range(1, 30)], seed=seed) for seed in (5, 5, 6)]
    assert all(answer.status_code == 200 for answer in answers)
    assert value(worker, "prefix_cache_queries_total") == 3 * 29
    assert value(worker, "prefix_cache_hits_total") == totals.prefixes.tokens_reused == 2 * 16
    assert value(worker, "prefix_cache_tokens") == totals.prefixes.tokens_held > 0
    assert value(worker, "prefix_cache_evictions_total") == totals.prefixes.tokens_dropped
    assert (value(worker, "texts_recorded_total"), value(worker, "texts_unrecorded_total")) == (2, 1)


@pytest.mark.parametrize(
    ("accepted_share", "num_steps", "found"), [(1.0, 4000, 0), (0.9, 4000, 0), (0.5, 4000, 1), (0.5, 4, 0)]
)
def test_a_selector_that_expects_too_much_for_long_is_to_be_trained_again(accepted_share, num_steps, found):
    series, generator, objective = Series(), np.random.default_rng(0), Objective(plans.TABLE)
    metrics = PredictionMetrics(series, lambda: objective)
    for _ in range(num_steps):
        objective.judge(2.0, generator.binomial(8, 0.25 * accepted_share))
        metrics.count()
    ratio = series.registry.get_sample_value("treewright_selector_accepted_per_expected")
    assert ratio == pytest.approx(accepted_share, abs=0.05 if num_steps > 100 else 0.5)
    assert series.registry.get_sample_value("treewright_selector_needs_training") == found
    objective = Objective(plans.TABLE)
    metrics.count()
    assert series.registry.get_sample_value("treewright_selector_needs_training") == 0


def test_prometheus_finds_them_under_its_route():
    with serving() as (client, _):
        client.post("/v1/completions", json=BODY)
        answer = client.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    assert "treewright_generation_tokens_total 12.0" in answer.text.splitlines()
    names = re.findall(r"^# TYPE (\S+)", answer.text, re.MULTILINE)
    assert "process_resident_memory_bytes" in names and "treewright_num_requests_waiting" in names
