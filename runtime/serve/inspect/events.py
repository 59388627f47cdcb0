"""What `/inspect/steps` takes and tells: one generation as a stream of typed events."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..protocol import Text, Usage
from ..whole import AS_WHOLE

MAX_PROMPT = 1 << 15  # characters
MAX_TOKENS = 512  # a page keeps every candidate of every step


class InspectRequest(BaseModel):
    """Body of POST /inspect/steps; the fields are those of a completion, and there are no others."""

    model_config = ConfigDict(strict=True, extra="forbid")

    prompt: Annotated[Text, Field(max_length=MAX_PROMPT)]
    max_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS), AS_WHOLE] = 64
    temperature: float = Field(1.0, ge=0, le=100, allow_inf_nan=False)
    top_p: float = Field(1.0, gt=0, le=1, allow_inf_nan=False)
    seed: Annotated[int, Field(ge=-1, lt=2**63), AS_WHOLE] = -1  # -1 takes a random one


class Begin(BaseModel):
    """The first event."""

    kind: Literal["begin"] = "begin"
    model: str
    prompt_tokens: int
    temperature: float
    top_p: float
    seed: int
    scheme: str | None  # how drafts are proposed; None where decoding is plain
    verifier: str


class Node(BaseModel):
    """A drafted node. The first of a step is its root, the last committed token."""

    token: int
    text: str  # behind its parent's
    parent: int  # its place in the list; -1 of the root
    depth: int
    rank: int  # among its siblings, in the scheme's order
    draft_prob: float  # of the token behind its parent, by the drafter; 1 of the root
    predicted: float | None  # probability that the text runs through the node, by the policy; None where it says none
    kept: bool  # whether the target verified it
    accepted: bool


class Emitted(BaseModel):
    """A token that the step added to the text."""

    token: int
    text: str  # nothing of a special token, and of all but the last of the tokens that make one character
    depth: int  # of the accepted draft that it was; 0 of the target's own


class Times(BaseModel):
    """Milliseconds of the step's parts, of the whole batch."""

    read: float  # prompts of texts that join
    draft: float
    controller: float
    target: float
    verify: float
    commit: float


class Totals(BaseModel):
    """Sums over this step and those before, and rates from them."""

    steps: int
    tokens: int
    drafted: int
    kept: int
    accepted: int
    predicted: float  # accepted tokens that were predicted, in the steps with a prediction
    predicted_accepted: int  # accepted tokens of those steps
    block_efficiency: float
    nodes_per_step: float
    acceptance_rate: float  # accepted share of the kept nodes
    controller_share: float
    total_ms: float
    tokens_per_second: float


class Step(BaseModel):
    """One decode step of the request."""

    kind: Literal["step"] = "step"
    step: int  # from 1
    position: int  # of the root in its text
    batch: int  # requests that were decoded together
    nodes: list[Node]
    emitted: list[Emitted]  # fewer than the block where the text ended
    next_token: int  # the target's, behind the accepted path
    next_text: str
    accepted: int  # accepted length
    predicted: float | None  # expected accepted length: the kept nodes' predictions added up
    level_widths: list[int]  # nodes that each drafter level expanded, of the widest tree of the batch
    times: Times
    totals: Totals


class End(BaseModel):
    """The last event of a text that has ended; of one that cannot, it is the error envelope."""

    kind: Literal["end"] = "end"
    text: str
    finish_reason: str
    usage: Usage
