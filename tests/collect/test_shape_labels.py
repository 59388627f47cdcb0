"""Labels of delayed trees: rows read behind a text, what is stored per token, and which folders hold them."""

import json

import numpy as np
import pytest
import rows
import tiny
import torch
import traces
from closed_forms import specinfer_acceptance
from treewright.collect.labels.cover_trees import Grove, drafted_lengths
from treewright.collect.labels.rows import warped_rows
from treewright.collect.labels.shapes import COLUMNS, ROWS, ShapeConfig, label_shapes
from treewright.collect.trace import TraceFolder
from treewright.collect.trace.manifest import MANIFEST, Manifest, _digest
from treewright.controller.errors import InputError
from treewright.controller.learned.agreement import OF_LAST, UNVERIFIED
from treewright.controller.trees.children import Children
from treewright.controller.trees.delayed import BRANCHED, CHAINS, DelayedShape
from treewright.controller.trees.menu import DELAYED_MENU, SIDED_MENU
from treewright.controller.trees.sided import SidedTrunk
from treewright.controller.trees.tree import DraftTree

TARGET, DRAFTER = tiny.llama(), tiny.llama(noise=0.05)


def text(max_tokens=12, temperature=0.8, **sampling):
    (request,) = tiny.requests(1, temperature, max_tokens, **sampling)
    (stream,), _ = tiny.decoder(TARGET).generate([request])
    return traces.row_of(request, stream.token_ids, "doc")


def test_the_menu_names_each_of_the_233_trees_once():
    triples = [(k, one, two) for k in range(1, 5) for one in range(9) for two in range(9)]
    assert {DelayedShape.distinct(*triple) for triple in triples} == set(DELAYED_MENU.shapes)
    assert len(triples) == 324 and len(DELAYED_MENU.places) == 233 == len(CHAINS) + len(BRANCHED)


def test_a_shape_is_priced_by_the_levels_it_drafts():
    assert DelayedShape(3, 2, 2).level_widths == [1, 1, 1, 3]
    assert DelayedShape(2, 0, 1).level_widths == [1]
    assert DelayedShape(1, 2, 0).level_widths == [1, 1]
    assert DelayedShape(1, 0, 0).level_widths == []


def test_a_shape_is_cut_where_a_text_ends():
    place = DELAYED_MENU.places[DelayedShape(3, 2, 4)]
    cut = [DELAYED_MENU.shapes[depth[place]] for depth in DELAYED_MENU.cuts]
    assert cut[:7] == [*CHAINS[:3], *(DelayedShape(3, 2, length) for length in (1, 2, 3, 4))]
    assert cut[16] == DelayedShape(3, 2, 4)
    trunk = SIDED_MENU.places[SidedTrunk(3, 2)]
    assert [SIDED_MENU.shapes[depth[trunk]] for depth in SIDED_MENU.cuts[:4]] == [(1, 0), (3, 1), (3, 2), (3, 2)]


def test_rows_of_trees_behind_a_text_are_those_of_plain_forwards():
    row = text()
    grove, plain = Grove(TARGET, row, 2), tiny.network(TARGET)
    roots = np.array([4, 9])
    grove.plant(roots)
    tree = DraftTree.from_roots(grove.tokens[roots])
    for tokens in ([[[5], [6]], [[7], [8]]], [[[9], [10]], [[11], [12]]]):
        frontier = np.array([[0, 0], [0, 0]]) if tree.tokens.shape[1] == 1 else np.array([[1, 2], [1, 2]])
        ones = np.ones((2, 2, 1), dtype=np.float32)
        tree = tree.extend(frontier, Children(np.array(tokens), ones, ones, ones[..., 0], ones[..., 0]))
    logits = grove.read(tree, np.array([[0, 1, 2, 3], [0, 2, 4, -1]]))
    for slot, nodes in enumerate(([0, 1, 2, 3], [0, 2, 4])):
        for place, node in enumerate(nodes):
            path, above = [], node
            while above > 0:
                path, above = [int(tree.tokens[slot, above]), *path], int(tree.parents[slot, above])
            prefix = [*row.tokens[: roots[slot] + 1], *path]
            with torch.inference_mode():
                expected = plain(torch.tensor([prefix])).logits[0, -1]
            torch.testing.assert_close(logits[slot, place], expected, rtol=0, atol=1e-10)


def test_what_is_stored_are_the_chances_of_the_rows():
    row = text(top_p=0.9)
    stored, sides = label_shapes(TARGET, DRAFTER, row, ShapeConfig(labels=True, trees=0))
    target_probs, draft_probs = (scores.softmax(-1) for scores in warped_rows(TARGET, DRAFTER, row))
    tokens = torch.tensor(row.tokens[row.prompt_length :])
    target, draft = (probs.gather(1, tokens[:, None])[:, 0] for probs in (target_probs, draft_probs))
    torch.testing.assert_close(torch.tensor([each.ratio for each in stored]).double(), draft / target)
    one_path = int(np.nonzero((ROWS == 0) & (COLUMNS == 0))[0][0])
    for name in ("naive_tree", "specinfer", "spectr"):
        values = torch.tensor([getattr(each, name)[one_path] for each in stored]).double()
        torch.testing.assert_close(values, (draft / target).clamp_max(1.0))
    agreement = np.array([each.agreement for each in stored])
    np.testing.assert_allclose(agreement[0, :OF_LAST], UNVERIFIED)
    overlap = torch.minimum(target_probs, draft_probs).sum(-1).numpy()
    np.testing.assert_allclose(agreement[1:, 1], overlap[:-1], rtol=1e-5)
    np.testing.assert_allclose(agreement[:, OF_LAST + 1], draft_probs.amax(-1).numpy(), rtol=1e-5)
    assert all(each.traversal == [] for each in stored)
    ranks = [int((probs > probs[token]).sum()) for probs, token in zip(draft_probs, tokens, strict=True)]
    for side, rank, own in zip(sides, ranks, draft, strict=True):
        above, at = side.landing[max(rank, 0) :], side.landing[rank - 1] if 0 < rank <= 7 else 0.0
        assert own == 0 or (above == [1.0] * len(above) and 0 <= at <= 1)


def test_drafted_trees_accept_as_often_as_the_closed_form_says():
    """Traversal's first level rejects recursively, like SpecInfer but for repeats, which merge."""
    row, roots = text(max_tokens=9), np.arange(3, 11)
    drafter, target = (Grove(model, row, 8 * 16) for model in (DRAFTER, TARGET))
    lengths = drafted_lengths(drafter, target, row, roots, 0, 16)
    target_probs, draft_probs = (scores.softmax(-1) for scores in warped_rows(TARGET, DRAFTER, row))
    chances = specinfer_acceptance(target_probs, draft_probs, 2)[:8].numpy()
    assert abs(lengths[:, 0, 0].mean() - chances.mean()) < 4 * np.sqrt(0.25 / (16 * 8))
    # One more path, or one more level, never accepts less.
    assert (np.diff(lengths, axis=1) >= -1e-12).all() and (np.diff(lengths, axis=2) >= -1e-12).all()


def test_a_folder_declares_the_group_and_one_without_it_says_what_to_do(tmp_path):
    with TraceFolder.create(tmp_path / "with", traces.header(groups=("shapes",))) as folder:
        row = text()
        labels = label_shapes(TARGET, DRAFTER, row, ShapeConfig(labels=True, every=4)).shapes
        folder.append(rows.typed(rows.of_text(0))._replace(shapes=labels))
        folder.finish()
    again = TraceFolder.open(folder.path)
    assert again.read("shapes", ["ratio"])["ratio"].to_pylist() == pytest.approx([label.ratio for label in labels])
    assert [len(each) for each in again.read("shapes")["traversal"].to_pylist()[:5]] == [216, 0, 0, 0, 216]
    without = traces.write(tmp_path / "without", count=1, max_tokens=4)
    with pytest.raises(InputError, match="hold no labels of shapes; collect, or relabel them"):
        without.read("shapes")


def test_a_folder_written_before_there_were_groups_and_memories_is_read(tmp_path):
    folder = traces.write(tmp_path / "old", count=1, max_tokens=4)
    manifest = json.loads((folder.path / MANIFEST).read_text())
    del manifest["header"]["groups"], manifest["header"]["memory"], manifest["sha256"]
    (folder.path / MANIFEST).write_text(json.dumps(manifest | {"sha256": _digest(manifest)}))
    header = Manifest.read(folder.path).header
    assert header.groups == () and header.memory is None
    assert rows.contents(TraceFolder.open(folder.path)) == rows.contents(folder)
