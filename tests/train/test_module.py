"""The losses of the fit, by hand on a network that knows nothing."""

from math import log

import pytest
import torch
from treewright.controller.learned.torch_model import SelectorModel
from treewright.train.fit.module import Batch, SelectorModule


@pytest.fixture
def module():
    """Two features, two candidates; every score is 0."""
    module = SelectorModule(SelectorModel(2, 2, hidden_size=3), learning_rate=0.1, num_steps=100)
    with torch.no_grad():
        for weights in module.parameters():
            weights.zero_()
    return module


def batch(taken, family, next_rank):
    edges, nodes = torch.ones(len(taken), 2), torch.ones(len(next_rank), 2)
    return Batch(
        edges,
        torch.tensor(taken, dtype=torch.float32),
        torch.tensor(family, dtype=torch.int64),
        nodes,
        torch.tensor(next_rank, dtype=torch.int64),
    )


def losses(module, batch):
    with pytest.warns(UserWarning, match="trainer"):  # there is none to log to
        return module.training_step(batch)


@pytest.mark.parametrize("taken", [[1, 0, 0], [0, 0, 1], [0, 0, 0]])
def test_an_ignorant_network_loses_as_much_as_it_has_choices(module, taken):
    """A node of two children and one of a single child, the text among three and two choices; three ranks."""
    expected = (log(3) + log(2)) / 2 + log(3)
    assert losses(module, batch(taken, [0, 0, 1], [0, 2])).item() == pytest.approx(expected)


def test_the_bias_that_fits_the_shares_has_no_slope(module):
    """Of four only children three are taken, so odds of 3: a smaller or larger bias loses more."""
    some = batch([1, 1, 1, 0], [0, 1, 2, 3], [0])
    bias = module.model.accept_head.bias
    with torch.no_grad():
        bias.fill_(log(3))
    losses(module, some).backward()
    assert bias.grad.item() == pytest.approx(0.0, abs=1e-7)


@pytest.mark.parametrize("rows", [([], [], []), ([1], [0], []), ([], [], [1])])
def test_a_batch_that_drew_no_row_of_a_kind_loses_nothing_there(module, rows):
    loss = losses(module, batch(*rows))
    loss.backward()
    expected = log(2) * bool(rows[0]) + log(3) * bool(rows[2])
    assert loss.item() == pytest.approx(expected)
    assert all(torch.isfinite(weights.grad).all() for weights in module.parameters() if weights.grad is not None)


def test_the_step_size_rises_to_the_one_asked_for_and_falls_to_almost_nothing(module):
    optimizers = module.configure_optimizers()
    optimizer, pace = optimizers["optimizer"], optimizers["lr_scheduler"]["scheduler"]
    sizes = []
    for _ in range(99):
        sizes.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        pace.step()
    assert max(sizes) == pytest.approx(0.1)
    assert sizes.index(max(sizes)) == 9
    assert sizes[-1] < 1e-3
