"""What is counted of decode steps: nodes and times."""

from ...stats import StepRecord
from .series import STEP_SECONDS, Series

NODES = (1, 2, 4, 8, 16, 32, 64, 128)
DEPTHS = (1, 2, 3, 4, 6, 8, 12, 16)


class StepMetrics:
    """Written by the decode thread."""

    def __init__(self, series: Series):
        counter = series.counter
        self._steps = counter("decode_steps", "Decode steps; one of several requests counts for each")
        self._drafts = counter("spec_decode_num_drafts", "Those of them that drafted anything")
        self._drafted = counter("spec_decode_num_draft_tokens", "Nodes drafted, those not verified included")
        self._verified = counter("spec_decode_num_verified_tokens", "Drafted nodes that the target verified")
        self._taken = counter("spec_decode_num_accepted_tokens", "Drafted nodes accepted")
        name, what = "spec_decode_num_accepted_tokens_per_pos", "Drafted nodes accepted, by their depth less one"
        self._taken_at = counter(name, what, "position")
        self._nodes = series.histogram("tree_nodes", "Verified nodes of trees, without the root", NODES)
        self._depth = series.histogram("tree_depth", "Depth of verified trees", DEPTHS)
        self._prefill = series.seconds("prefill_seconds", "Reading prompts before a step of the batch", STEP_SECONDS)
        self._draft = series.seconds("draft_seconds", "Drafter forwards of a step", STEP_SECONDS)
        self._select = series.seconds("selector_seconds", "Shape decisions of a step", STEP_SECONDS)
        self._verify = series.seconds("verify_seconds", "Target forwards and verification of a step", STEP_SECONDS)

    def count(self, record: StepRecord) -> None:
        drafted, kept = record.drafted.num_nodes - 1, record.kept.num_nodes - 1
        accepted = record.verdict.accepted_lengths
        self._steps.inc(len(kept))
        self._prefill.observe(record.read_ms / 1e3)
        self._select.observe(record.controller_ms / 1e3)
        self._verify.observe((record.target_ms + record.verify_ms + record.commit_ms) / 1e3)
        if not drafted.any():
            return
        self._draft.observe(record.draft_ms / 1e3)
        self._drafts.inc(int((drafted > 0).sum()))
        self._drafted.inc(int(drafted.sum()))
        self._verified.inc(int(kept.sum()))
        self._taken.inc(int(accepted.sum()))
        for position in range(int(accepted.max())):
            self._taken_at.labels(position).inc(int((accepted > position).sum()))
        for nodes, depth in zip(kept[drafted > 0], record.kept.depths.max(axis=1)[drafted > 0], strict=True):
            self._nodes.observe(nodes)
            self._depth.observe(depth)
