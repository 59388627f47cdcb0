"""The kernels are the plain operations: on a device, and without one in Triton's interpreter, if that is installed."""

import os
import subprocess
import sys
from typing import NamedTuple

import pytest
import torch
from packed import packed
from treewright.runtime.engines.transformers.pages import PAGE, dense_attention, store_rows

IS_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if IS_INTERPRETED else "cuda"
SCALE = 0.2


class Case(NamedTuple):
    counts: list[int]
    lengths: list[int]
    num_heads: int = 4
    num_groups: int = 2
    size: int = 64
    block_rows: int = 4
    window: int | None = None
    softcap: float | None = None
    has_sinks: bool = False
    num_pages: int = 0


CASES = {
    "one row": Case([1], [130], block_rows=1),
    "an empty text, heads in odd groups": Case([5, 2], [200, 0], 3, 1, 80),
    "blocks of a tile, texts that end on a page": Case([20, 7], [PAGE, PAGE - 1], block_rows=8),
    "a head of 128": Case([9, 3], [70, 300], 2, 2, 128),
    "a small head": Case([3], [5], size=8),
    "trees longer than a page": Case([PAGE + 9, 1], [2 * PAGE - 1, 1], block_rows=16),
    "a window": Case([9, 3, 1], [500, 90, 0], window=100),
    "a window narrower than a tree is deep": Case([9, 3], [PAGE, 2], window=2),
    "capped scores": Case([9, 3], [70, 130], softcap=1.5),
    "sinks": Case([9, 3], [70, 0], has_sinks=True),
    "one page alone, with a window, capped scores and sinks": Case(
        [9, 3], [20, 0], window=6, softcap=1.5, has_sinks=True
    ),
    "splits": Case([1], [900], 2, 1, block_rows=1, num_pages=16),
    "splits, many without a page": Case([3, 1], [70, 0], 2, 1, num_pages=16),
    "splits of a window, capped scores and sinks": Case(
        [3, 1], [900, 40], 2, 1, window=300, softcap=1.5, has_sinks=True, num_pages=16
    ),
}
# The largest outputs are of size 3. Half precision rounds weights and outputs, float32 is summed in another order.
TOLERANCES = {torch.float32: 1e-5, torch.float16: 4e-3}
if not IS_INTERPRETED:  # the interpreter multiplies the bits of bfloat16
    TOLERANCES[torch.bfloat16] = 3e-2


@pytest.mark.skipif(IS_INTERPRETED, reason="it is the interpreter that runs")
def test_the_kernels_pass_their_tests_in_the_interpreter():
    pytest.importorskip("triton")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "gpu", "-p", "no:cacheprovider", __file__]
    run = subprocess.run(command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout
    assert " passed" in run.stdout


def kernels():
    pytest.importorskip("triton")
    if not IS_INTERPRETED and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    from treewright.runtime.engines.transformers import tree_kernel

    return tree_kernel


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_the_kernel_attends_as_plain_operations_do(name, dtype):
    kernel, case = kernels(), CASES[name]
    given = packed(
        case.counts,
        case.lengths,
        num_heads=case.num_heads,
        num_groups=case.num_groups,
        size=case.size,
        block_rows=case.block_rows,
        window=case.window,
        bit=2,
        num_pages=case.num_pages,
    ).to(DEVICE, dtype)
    sinks = torch.linspace(-2, 3, case.num_heads, dtype=dtype, device=DEVICE) if case.has_sinks else None
    options = {"scale": SCALE, "window": case.window, "bit": 2, "softcap": case.softcap, "sinks": sinks}
    attended = kernel.kernel_attention(given.query, given.keys, given.values, given.rows, **options)
    wide = given.to(DEVICE, torch.float64)
    exact = dense_attention(wide.query, wide.keys, wide.values, wide.rows, **options)
    assert attended.dtype == dtype
    torch.testing.assert_close(attended.double(), exact, rtol=0, atol=TOLERANCES[dtype])
    if name.startswith(("one page", "splits")):  # else it depends on the device
        num_programs = given.rows.blocks.shape[1] * case.num_groups
        num_splits = kernel.num_splits(num_programs, given.rows.tables.shape[1], given.query.device)
        assert (num_splits > 1) == name.startswith("splits")


@pytest.mark.gpu
@pytest.mark.parametrize("num_pages", [0, 16])
def test_the_kernel_gives_nothing_to_a_row_that_sees_nothing(num_pages):
    kernel = kernels()
    given = packed([3, 2], [70, 0], num_heads=2, num_groups=1, size=64, num_pages=num_pages).to(DEVICE, torch.float32)
    far = given.rows._replace(positions=given.rows.positions + 1000, seen=torch.zeros_like(given.rows.seen))
    attended = kernel.kernel_attention(given.query, given.keys, given.values, far, scale=SCALE, window=3)
    assert attended.shape == (5, 2, 64) and not attended.any()


@pytest.mark.gpu
def test_the_kernel_reads_queries_and_rows_however_they_lie():
    """As slices of one merged projection and as transposed heads."""
    kernel = kernels()
    given = packed([5, 2], [70, 0], num_heads=4, num_groups=2, size=64).to(DEVICE, torch.float32)
    merged = torch.cat((given.query.transpose(0, 1).flatten(1), torch.ones(7, 99, device=DEVICE)), dim=1)
    query = merged[:, : 4 * 64].view(7, 4, 64).transpose(0, 1)
    expected = kernel.kernel_attention(given.query, given.keys, given.values, given.rows, scale=SCALE)
    for each in (query, query.transpose(1, 2).contiguous().transpose(1, 2)):
        attended = kernel.kernel_attention(each, given.keys, given.values, given.rows, scale=SCALE)
        assert torch.equal(attended, expected)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("size", [8, 80, 128])
def test_the_kernel_stores_as_plain_operations_do(size, dtype):
    kernel, generator = kernels(), torch.Generator().manual_seed(0)
    keys, values = torch.randn(2, 3 * PAGE, 3, size, generator=generator).to(DEVICE, dtype)
    new_keys, new_values = torch.randn(2, 7, 3, size, generator=generator).to(DEVICE, dtype).transpose(1, 2)
    at = torch.randperm(3 * PAGE, generator=generator)[:7].to(DEVICE)
    expected = keys.clone(), values.clone()
    store_rows(*expected, new_keys, new_values, at)
    kernel.kernel_store(keys, values, new_keys, new_values.contiguous(), at)
    assert torch.equal(keys, expected[0]) and torch.equal(values, expected[1])


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one device alone is always the current one")
def test_the_kernels_run_on_the_device_of_their_tensors():
    kernel = kernels()
    given = packed([5, 2], [70, 0], num_heads=4, num_groups=2, size=64).to("cuda:1", torch.float32)
    attended = kernel.kernel_attention(given.query, given.keys, given.values, given.rows, scale=SCALE)
    expected = dense_attention(given.query, given.keys, given.values, given.rows, scale=SCALE)
    torch.testing.assert_close(attended, expected, rtol=0, atol=TOLERANCES[torch.float32])
    kernel.kernel_store(
        given.keys,
        given.values,
        given.keys[:3].transpose(0, 1),
        given.values[:3].transpose(0, 1),
        torch.arange(64, 67, device="cuda:1"),
    )
    assert torch.equal(given.keys[64:67], given.keys[:3])
