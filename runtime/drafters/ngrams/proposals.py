"""The text's own n-grams as a second drafter: one more child under every node, fused with the model's tree.

Retrieval from the text itself (prompt lookup; RASD, arXiv:2503.03434, fuses such drafts by their prefix): a small
drafter seldom notices that a text repeats itself.
"""

from collections.abc import Sequence

from ....controller.trees.tree import Array, DraftTree
from ...schemes.ranked import NgramProposals
from .model import NgramModel


def expect(texts: Sequence[NgramModel], tree: DraftTree, frontier: Array, candidates: Array) -> NgramProposals:
    """What each of `texts` [B], which end with their trees' roots, expects under the nodes of `frontier` [B, F]
    besides the drafter's `candidates` [B, F, W]."""
    expectations = []
    for row, (text, nodes, of_nodes) in enumerate(zip(texts, frontier.tolist(), candidates.tolist(), strict=True)):
        tokens, parents = tree.tokens[row].tolist(), tree.parents[row].tolist()
        expectations.append([])
        for node, expected in zip(nodes, of_nodes, strict=True):
            expectations[-1].append(text.behind(path_to(node, tokens, parents), expected))
    return NgramProposals.of(expectations)


def path_to(node: int, tokens: Sequence[int], parents: Sequence[int]) -> list[int]:
    """The tokens drafted from the root, left out, to `node` of one tree."""
    path: list[int] = []
    while node > 0:
        path.append(tokens[node])
        node = parents[node]
    return path[::-1]
