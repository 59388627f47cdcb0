"""What goes to a device and comes back is what was sent."""

import numpy as np
import torch
from treewright.runtime.machine.transfer import packed, to_device, to_host, unpacked

CPU = torch.device("cpu")


def test_numbers_of_every_kind_are_copied_at_once():
    tensors = (torch.randn(2, 3), torch.arange(5), torch.tensor([[True], [False]]), torch.tensor(2.5))
    for given, back in zip(tensors, unpacked(packed(tensors), tensors), strict=True):
        assert back.dtype == given.numpy().dtype
        assert np.array_equal(back, given.numpy())


def test_floating_point_is_copied_as_float32():
    (array,) = to_host(torch.tensor([0.5, 2.0], dtype=torch.bfloat16))
    assert array.dtype == np.float32 and array.tolist() == [0.5, 2.0]


def test_an_array_with_gaps_is_sent_as_it_reads():
    array = np.arange(12).reshape(3, 4)[:, ::2]
    assert to_device(array, CPU).tolist() == array.tolist()
