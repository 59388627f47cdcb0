"""The sampled drafting schemes: children drawn from the drafter's own rows, with fresh noise of the step.

A frontier names a node once for each child it is to get. Under i.i.d. paths every entry is a draw of its own, and equal
draws become one node, which is in `DraftTree.paths` as often as it was drawn. Without replacement, the entries of a
node are its first draws, in Gumbel order. Greedy-plus-one gives a node of k entries the drafter's best k - 1 tokens
behind one draw among all others. Under the hybrid scheme, too, a node's first entry is a draw, but from the whole row,
and the others are free: the best tokens besides it.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...controller.contract import GREEDY_PLUS_ONE, HYBRID, IID_PATHS, SAMPLED_SCHEMES, WITHOUT_REPLACEMENT, Scheme
from ...controller.errors import InputError
from ...controller.policies.delayed import MAX_DEPTH, MAX_PATHS
from ...controller.trees.children import Children
from ...controller.trees.tree import Array, DraftTree
from ..machine.transfer import to_device, to_host
from ..noise import FIRST_DRAFTING_NUMBER, step_gumbel
from ..sampling import TokenSampler
from ..surprise import entropy


def get_sampled_scheme(name: str) -> Scheme:
    """The sampled scheme called `name`; InputError where there is none."""
    if name not in SAMPLED_SCHEMES:
        raise InputError(f"a sampled tree is drafted under one of the schemes {', '.join(SAMPLED_SCHEMES)}, got {name}")
    return SAMPLED_SCHEMES[name]


class Draws(NamedTuple):
    """The child that each entry of a frontier gets."""

    tokens: Tensor  # [B, F] int64
    is_draw: Tensor  # [B, F] bool: drawn, and not a free candidate
    scheme: Tensor  # [B, F, V] log of the scheme that the draws of the entry's node came from


def append_draws(
    tree: DraftTree, frontier: Array, log_probs: Tensor, scheme: Scheme, sampler: TokenSampler, root_positions: Array
) -> tuple[DraftTree, list[dict[int, Tensor]]]:
    """The tree with the draws of `frontier` [B, F] appended, and per slot the row [V] of each node drawn from.

    `log_probs` [B, F, V] are the drafter's rows of the entries' nodes; `root_positions` [B] the roots' text indices.
    The rows handed over are logarithms as well, of what the draws came from.
    """
    drawn = _draw(frontier, log_probs, scheme, sampler, root_positions, level=int(tree.depths.max()))
    of_tokens = log_probs.gather(-1, drawn.tokens[..., None])[..., 0]
    of_draws = drawn.scheme.gather(-1, drawn.tokens[..., None])[..., 0]
    # Where a cut or an earlier entry leaves no token, there is no child.
    tokens, is_draw, exists, numbers, entropies, top_log_probs = to_host(
        drawn.tokens,
        drawn.is_draw,
        torch.where(drawn.is_draw, of_draws, of_tokens).isfinite(),
        of_tokens,
        entropy(log_probs),
        log_probs.amax(dim=-1),
    )
    exists = exists & (frontier >= 0)
    is_draw = is_draw & exists
    first = _first_equal(np.stack((frontier, tokens), axis=-1), exists)
    is_first = exists & (first == np.arange(frontier.shape[1]))
    children = Children(
        tokens=tokens[:, :, None],
        log_probs=numbers[:, :, None],
        noisy_log_probs=np.where(is_first, numbers, -np.inf)[:, :, None],
        entropies=entropies,
        top_log_probs=top_log_probs,
    )
    grown = tree.extend(frontier, children)
    nodes = np.take_along_axis(tree.num_nodes[:, None] + is_first.cumsum(axis=1) - 1, np.maximum(first, 0), axis=1)
    _number_siblings(grown, frontier, nodes, is_first)
    if scheme in (IID_PATHS, HYBRID):
        grown = replace(grown, paths=_with_level(tree, np.where(is_draw, nodes, -1)))
    draft_rows: list[dict[int, Tensor]] = [{} for _ in frontier]
    for slot, entry in zip(*np.nonzero(is_draw), strict=True):
        draft_rows[slot].setdefault(int(frontier[slot, entry]), drawn.scheme[slot, entry])
    return grown, draft_rows


def _draw(
    frontier: Array, log_probs: Tensor, scheme: Scheme, sampler: TokenSampler, root_positions: Array, level: int
) -> Draws:
    node_entries = _first_equal(frontier[:, :, None], frontier >= 0)
    same = (node_entries[:, :, None] == node_entries[:, None, :]) & (frontier >= 0)[:, :, None]
    host_turns, host_counts = np.tril(same, -1).sum(axis=2), same.sum(axis=2)
    most = int(host_counts.max(initial=1))  # entries of one node
    # [B, F] each: which of its node's entries, and how many there are.
    turns, counts = to_device(np.stack((host_turns, host_counts)), log_probs.device)
    sources = np.where(frontier >= 0, np.arange(frontier.shape[1]), -1) if scheme == IID_PATHS else node_entries
    noise = _noise(sources, sampler, root_positions, level, log_probs)
    match scheme.name:
        case IID_PATHS.name:
            return Draws((log_probs + noise).argmax(-1), turns >= 0, log_probs)
        case WITHOUT_REPLACEMENT.name:
            # Float64: later draws differ by less than the rounding of the first one's logarithm.
            return Draws(_in_order(log_probs.double() + noise, turns, most), turns >= 0, log_probs)
        case GREEDY_PLUS_ONE.name:
            best = log_probs.topk(min(most, log_probs.shape[-1])).indices
            ranks = torch.arange(best.shape[-1], device=best.device)
            taken = torch.zeros_like(log_probs, dtype=torch.bool)
            rest = log_probs.masked_fill(taken.scatter_(-1, best, ranks < (counts - 1)[..., None]), -torch.inf)
            total = rest.logsumexp(-1, keepdim=True)
            rest_log_probs = torch.where(total.isfinite(), rest - total, -torch.inf)
            is_draw = turns == 0
            tokens = torch.where(
                is_draw, (rest_log_probs + noise).argmax(-1), _in_order(log_probs, (turns - 1).clamp_min(0), most)
            )
            return Draws(tokens, is_draw, rest_log_probs)
        case HYBRID.name:
            drawn = (log_probs + noise).argmax(-1, keepdim=True)
            ordered = _in_order(log_probs.scatter(-1, drawn, torch.inf), turns, most)
            return Draws(ordered, turns == 0, log_probs)
        case _:
            raise AssertionError(scheme.name)


def _noise(sources: Array, sampler: TokenSampler, root_positions: Array, level: int, like: Tensor) -> Tensor:
    """[B, F, V] of each entry the noise of the entry that `sources` [B, F] names; 0 where it names none."""
    num_entries = sources.shape[1]
    assert num_entries <= MAX_PATHS and level < MAX_DEPTH, "a step has more draws than numbers"
    slots, entries = np.nonzero(sources == np.arange(num_entries))
    steps = [sampler.step_noise(slot, int(root_positions[slot])) for slot in slots.tolist()]
    # By level and entry, so that no text depends on the others of its batch.
    numbers = FIRST_DRAFTING_NUMBER + level * MAX_PATHS + entries
    rows = step_gumbel(steps, numbers.tolist(), like.shape[-1]).to(like.dtype)
    numbered = np.zeros_like(sources)
    numbered[slots, entries] = np.arange(len(slots))
    picked = np.take_along_axis(numbered, np.maximum(sources, 0), axis=1)
    chosen, is_named = to_device(np.stack((picked, sources >= 0)), like.device)
    return rows[chosen].masked_fill_(is_named[..., None] == 0, 0.0)


def _in_order(scores: Tensor, turns: Tensor, most: int) -> Tensor:
    """[B, F] token of rank `turns` [B, F] below `most` of the scores [B, F, V] of each entry, best first."""
    most = min(most, scores.shape[-1])
    return scores.topk(most).indices.gather(-1, turns.clamp_max(most - 1)[..., None])[..., 0]


def _first_equal(keys: Array, valid: Array) -> Array:
    """[B, F] index of the first valid entry with the same key, of `keys` [B, F, n]; -1 where not `valid` [B, F]."""
    same = (keys[:, :, None] == keys[:, None, :]).all(axis=-1) & valid[:, None, :]
    return np.where(valid, same.argmax(axis=2), -1)


def _number_siblings(tree: DraftTree, frontier: Array, nodes: Array, is_first: Array) -> None:
    """Sibling ranks in draw order; `extend` cannot know them where one entry brings one child."""
    earlier = np.tril(frontier[:, :, None] == frontier[:, None, :], -1) & is_first[:, None, :]
    slots, entries = np.nonzero(is_first)
    tree.ranks[slots, nodes[slots, entries]] = earlier.sum(axis=2)[slots, entries]


def _with_level(tree: DraftTree, level: Array) -> Array:
    """[B, K, L + 1]: the paths of `tree` and the nodes [B, F] that they drew at one more level."""
    if tree.paths is None:
        return level[:, :, None]
    num_trees, num_paths, depth = tree.paths.shape
    paths = np.full((num_trees, max(num_paths, level.shape[1]), depth + 1), -1)
    paths[:, :num_paths, :depth] = tree.paths
    paths[:, : level.shape[1], depth] = level
    return paths
