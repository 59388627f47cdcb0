"""Recorded texts with their envelopes: all information that a policy has, without a language model."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ...collect.trace import TraceFolder
from ...collect.trace.schema import EnvelopeRow
from ...controller.contract import RANKED_SCHEMES
from ...controller.trees.children import Children
from ...controller.trees.limits import TreeLimits
from ...controller.trees.tree import Array, DraftTree
from ..data.positions import document_number, numbered_names, text_histories

TEXT_COLUMNS = ("text_id", "domain", "document", "tokens", "prompt_length", "temperature", "top_p")


@dataclass(frozen=True)
class Envelope:
    """The over-grown draft tree at one root; node 0 is the root."""

    tokens: Array  # [N]
    children: Array  # [N, W + 1] node of the rank-w child, -1 where it was not drafted; the last is the n-grams'
    expanded: Array  # [N] bool, whether the children of the node were drafted at all
    log_probs: Array  # [N]
    noisy_log_probs: Array  # [N]
    entropies: Array  # [N]
    top_log_probs: Array  # [N]
    ngram_log_probs: Array  # [N]
    ngram_top_log_probs: Array  # [N]

    def drafted(self, nodes: Array, limits: TreeLimits) -> Array:
        """[n, W]: of the children of `nodes` [n] those that `limits` allow, by rank."""
        ranks = [*range(min(limits.width, self.children.shape[1] - 1)), *[-1] * limits.ngrams]
        return self.children[nodes][:, ranks]


@dataclass(frozen=True)
class Recording:
    """One text with an envelope at every root."""

    text_id: str
    domain: str
    document: int  # see `positions.document_number`
    tokens: Array  # [n] prompt and continuation
    prompt_length: int
    temperature: float
    top_p: float
    history: Array  # [n - prompt_length, H] before each generated token
    envelopes: dict[int, Envelope]  # by the root's index in the text


class PlannedRecording(NamedTuple):
    document: int  # see `positions.document_number`
    temperature: float


class RecordedDrafter:
    """Appends recorded children to the nodes of a growing tree, as the drafter did."""

    def __init__(self, envelope: Envelope):
        self._envelope = envelope
        self._nodes = np.zeros(1, dtype=np.int64)  # [N] envelope node of each node of the tree
        self.num_outside = 0  # nodes asked for that the envelope does not expand

    def expand(self, tree: DraftTree, frontier: Array, limits: TreeLimits) -> DraftTree:
        """The one tree with the children that `limits` allow under each node of `frontier` [1, F]; a node the envelope
        does not expand stays a leaf."""
        envelope = self._envelope
        above = self._nodes[frontier[0]]
        self.num_outside += int((~envelope.expanded[above]).sum())
        nodes = envelope.drafted(above, limits)
        drafted = nodes >= 0
        some_child = nodes[:, 0]
        children = Children(
            tokens=envelope.tokens[nodes][None],
            log_probs=envelope.log_probs[nodes][None],
            noisy_log_probs=np.where(drafted, envelope.noisy_log_probs[nodes], -np.inf)[None],
            entropies=envelope.entropies[some_child][None],
            top_log_probs=envelope.top_log_probs[some_child][None],
            ngram_log_probs=envelope.ngram_log_probs[nodes][None] if limits.ngrams else None,
            ngram_top_log_probs=envelope.ngram_top_log_probs[some_child][None] if limits.ngrams else None,
        )
        self._nodes = np.concatenate((self._nodes, nodes[drafted]))
        return tree.extend(frontier, children)


def read_recordings(folder: TraceFolder) -> dict[str, list[Recording]]:
    """By scheme, every text that was recorded with envelopes of that scheme; greedy ones are listed under every scheme.

    Texts without envelopes are not kept in memory.
    """
    recordings: dict[str, list[Recording]] = {scheme: [] for scheme in RANKED_SCHEMES}
    for number, schemes in enveloped_texts(folder):
        histories = _histories(folder, number, schemes)
        envelopes = _envelopes(folder, number)
        for row in _texts(folder, number, schemes, TEXT_COLUMNS):
            for scheme in schemes[row["text_id"]]:
                recording = Recording(
                    text_id=row["text_id"],
                    domain=row["domain"],
                    document=document_number(row["document"]),
                    tokens=np.array(row["tokens"]),
                    prompt_length=row["prompt_length"],
                    temperature=row["temperature"],
                    top_p=row["top_p"],
                    history=histories[row["text_id"]],
                    envelopes=envelopes[row["text_id"], scheme],
                )
                for like in schemes_of(scheme, row["temperature"]):
                    recordings[like].append(recording)
    return recordings


def planned_recordings(folder: TraceFolder) -> dict[str, list[PlannedRecording]]:
    """What `read_recordings` would read, without the tokens and the envelopes."""
    planned: dict[str, list[PlannedRecording]] = {scheme: [] for scheme in RANKED_SCHEMES}
    for number, schemes in enveloped_texts(folder):
        for row in _texts(folder, number, schemes, ("text_id", "document", "temperature")):
            text = PlannedRecording(document_number(row["document"]), row["temperature"])
            for scheme in schemes[row["text_id"]]:
                for like in schemes_of(scheme, text.temperature):
                    planned[like].append(text)
    return planned


def enveloped_texts(folder: TraceFolder) -> Iterator[tuple[int, dict[str, list[str]]]]:
    """(shard, schemes of the envelopes by text) of each shard that holds envelopes; a text is in one shard."""
    if not holds_recordings(folder):
        return
    for number in range(len(folder.shards)):
        grown = folder.shard("nodes", number, ("text_id", "scheme")).group_by(["text_id", "scheme"]).aggregate([])
        pairs = {(row["text_id"], row["scheme"]) for row in grown.to_pylist()}
        wanted = folder.header.command["envelopes"]["schemes"]
        texts = dict.fromkeys(sorted(text_id for text_id, _ in pairs))
        if texts:
            yield number, {text_id: [scheme for scheme in wanted if (text_id, scheme) in pairs] for text_id in texts}


def holds_recordings(folder: TraceFolder) -> bool:
    """Replay needs the tokens and the envelopes."""
    return not folder.header.omitted and bool(folder.header.command["envelopes"]["texts"])


def schemes_of(scheme: str, temperature: float) -> tuple[str, ...]:
    """The schemes that an envelope grown under `scheme` is one of: without noise all schemes draft the same."""
    return (scheme,) if temperature > 0 else tuple(RANKED_SCHEMES)


def _texts(
    folder: TraceFolder, shard: int, wanted: Collection[str], columns: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """The rows of the `wanted` texts, in order."""
    table = folder.shard("texts", shard, columns)
    for number, text_id in enumerate(table["text_id"].to_pylist()):
        if text_id in wanted:
            yield {name: table[name][number].as_py() for name in columns}


def _histories(folder: TraceFolder, shard: int, wanted: Collection[str]) -> dict[str, Array]:
    """[n, H] before each generated token of the `wanted` texts."""
    table = folder.shard("positions", shard, ("text_id", "draw", "target_log_prob", "target_entropy"))
    text, names = numbered_names(table["text_id"])
    is_wanted = np.array([name in wanted for name in names])
    rows = np.nonzero((table["draw"].to_numpy() == 0) & is_wanted[text])[0]
    numbers = (table[name].to_numpy()[rows] for name in ("target_log_prob", "target_entropy"))
    starts = np.nonzero(np.diff(text[rows], prepend=-1))[0]
    of_texts = np.split(text_histories(text[rows], *numbers), starts[1:])
    return {names[number]: of_text for number, of_text in zip(text[rows][starts], of_texts, strict=True)}


def _envelopes(folder: TraceFolder, shard: int) -> dict[tuple[str, str], dict[int, Envelope]]:
    """By (text, scheme) and by the root's index in the text."""
    found: dict[tuple[str, str], dict[int, Envelope]] = {}
    width = folder.header.num_candidates
    keys = ("text_id", "position", "scheme")
    names = [name for name in EnvelopeRow._fields if name not in (*keys, "document")]
    table = folder.shard("nodes", shard, (*keys, *names))
    lists = {name: _split(table[name]) for name in names}
    roots = zip(*(table[name].to_pylist() for name in keys), strict=True)
    for number, (text_id, position, scheme) in enumerate(roots):
        row = {name: values[number] for name, values in lists.items()}
        nodes = np.arange(1, len(row["tokens"]))
        children = np.full((len(row["tokens"]), width), -1)
        children[row["parents"][1:], row["ranks"][1:]] = nodes
        expanded = np.zeros(len(row["tokens"]), dtype=bool)
        expanded[row["expanded"]] = True
        columns = {name: row[name] for name in names if name not in ("parents", "ranks", "expanded")}
        envelope = Envelope(children=children, expanded=expanded, **columns)
        found.setdefault((text_id, scheme), {})[position] = envelope
    return found


def _split(column) -> list[Array]:
    """The rows of a list column as arrays."""
    chunk = column.combine_chunks()
    return np.split(chunk.flatten().to_numpy(), chunk.offsets.to_numpy()[1:-1] - chunk.offsets[0].as_py())
