"""Drafts without a model: what followed the text's last tokens before, in itself or in a datastore.

Prompt lookup (Saxena 2023) as a tree, and retrieval from a user's texts (REST, arXiv:2311.08252). Every node is looked
up by its own path, so a copied suffix grows level by level.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ...controller.contract import FIXED
from ...controller.errors import InputError
from ...controller.trees.children import Children
from ...controller.trees.tree import Array, DraftTree
from ..engines.base import Session
from ..machine.transfer import to_device, to_host
from ..prefixes.rows import NO_PREFIX, Prefix
from ..processing import processed
from ..sampling import TokenSampler
from ..text.tokenizer import Tokenizer
from ..verification.base import DraftRows
from .ngrams.datastore import Datastore
from .ngrams.proposals import path_to
from .ngrams.slots import SlotNgrams


class LookupDrafter:
    """A `Drafter` (see `base`) under the fixed scheme: candidates are ranked by the length of the context they
    followed, then by how often. The entropy of a row is over its candidates alone; others have no estimate."""

    scheme = FIXED
    draft_rows: DraftRows = ()
    most_ahead = num_ahead = 0

    def __init__(self, datastore: Datastore | None = None):
        self._texts = SlotNgrams(datastore)

    def prepare(self, num_slots: int, frontier: int) -> None:
        pass  # there is nothing to capture

    def open(self) -> Sequence[Session]:
        self._texts.open()
        return ()

    def join(self, text: Array, capacity: int, prefix: Prefix = NO_PREFIX) -> None:
        self._texts.join(text)

    def keep(self, slots: Sequence[int]) -> None:
        self._texts.keep(slots)

    def expand(self, tree: DraftTree, frontier: Array, width: int, sampler: TokenSampler) -> DraftTree:
        shape = (*frontier.shape, width)
        tokens, log_probs = np.zeros(shape, dtype=np.int64), np.full(shape, -np.inf, dtype=np.float32)
        top_log_probs = np.zeros(frontier.shape, dtype=np.float32)
        for row, nodes in enumerate(frontier.tolist()):
            of_tree = tree.tokens[row].tolist(), tree.parents[row].tolist()
            for entry, node in enumerate(nodes):
                contexts = self._texts.models[row].contexts(path_to(node, *of_tree))
                found = contexts.forecast(width)
                tokens[row, entry, : len(found.tokens)] = found.tokens
                log_probs[row, entry, : len(found.tokens)] = found.log_probs
                top_log_probs[row, entry] = found.top_log_prob
        log_probs = _without_banned(tree, frontier, tokens, log_probs, sampler)
        entropies = -(np.exp(log_probs) * np.maximum(log_probs, -1e4)).sum(axis=-1)
        return tree.extend(frontier, Children(tokens, log_probs, log_probs, entropies, top_log_probs))

    def commit(self, tree: DraftTree, path: Array, next_tokens: Array) -> None:
        for row, (nodes, token) in enumerate(zip(path, next_tokens.tolist(), strict=True)):
            self._texts.extend(row, [*tree.tokens[row, nodes[nodes >= 0]].tolist(), token])


def _without_banned(tree: DraftTree, frontier: Array, tokens: Array, log_probs: Array, sampler: TokenSampler) -> Array:
    """[B, F, W]: -inf for candidates that a text's own processor bans behind their nodes: nobody would draw them."""
    if not any(sampler.processors):
        return log_probs
    nothing = torch.zeros((*frontier.shape, sampler.vocabulary_size), device=sampler.device)
    rows = processed(sampler.processors, tree, frontier, nothing, of_target=False)
    (of_tokens,) = to_host(rows.gather(-1, to_device(tokens, rows.device)))
    return np.where(np.isneginf(of_tokens), np.float32(-np.inf), log_probs)


def read_datastore(files: Sequence[Path], tokenizer: Tokenizer) -> Datastore | None:
    """The n-grams of UTF-8 text files, None for no files; InputError where one cannot be read."""
    if not files:
        return None
    texts = []
    for file in files:
        try:
            text = file.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"datastore file {file} cannot be read ({error}); give UTF-8 text files") from error
        if not text.strip():
            raise InputError(f"datastore file {file} holds no text; leave it out")
        texts.append(tokenizer.encode(text))
    return Datastore.of(texts)
