"""Memory that is not there is a MemoryError and no more; memory in use does not grow with the number of shapes seen."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from typing import Any

import numpy as np
import pytest

import fastrnn
from isolated import run_function
from problems import CELLS, Cell, arrays, backward, forward, make_problem, solve
from tolerances import assert_same_bits


def _pages(column: int) -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[column]) * os.sysconf("SC_PAGE_SIZE")


def _run_out_of_memory() -> None:
    import resource

    small = make_problem(CELLS[2], 5, 3, 7, 17)
    parallel = make_problem(CELLS[2], 10, 33, 64, 100)
    expected = solve(fastrnn, small), solve(fastrnn, parallel)
    limit = _pages(0) + (128 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    w_ih, w_hh = np.ones((400, 8), np.float32), np.ones((400, 100), np.float32)
    for repeat in range(20):
        for steps in (10**5, 10**6, 10**9):
            # Broadcast: the input itself takes no memory.
            x = np.broadcast_to(np.float32(0.1), (steps, 33, 8))
            for training in (False, True):
                try:
                    fastrnn.lstm_forward(x, w_ih, w_hh, training=training)
                except MemoryError:
                    continue
                raise AssertionError(f"{steps} steps fit into 128 MB")
        assert_same_bits(solve(fastrnn, small), expected[0], f"small call after {repeat}")
        assert_same_bits(solve(fastrnn, parallel), expected[1], f"parallel call after {repeat}")


@pytest.mark.usefixtures("needs_proc", "needs_no_sanitizer")
def test_memory_error() -> None:
    run_function(_run_out_of_memory)


def _run_out_of_memory_in_backward() -> None:
    import resource

    problem = make_problem(CELLS[2], 2000, 33, 64, 64, dtype=np.float32)
    tape = forward(fastrnn, problem).tape
    expected = arrays(backward(fastrnn, problem, tape))
    # dx alone takes 17 MB.
    limit = _pages(0) + (8 << 20)
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        backward(fastrnn, problem, tape)
    except MemoryError:
        pass
    else:
        raise AssertionError("17 MB fitted into 8 MB")
    resource.setrlimit(resource.RLIMIT_AS, before)
    assert_same_bits(arrays(backward(fastrnn, problem, tape)), expected, "after the error")


@pytest.mark.usefixtures("needs_proc", "needs_no_sanitizer")
def test_memory_error_in_backward() -> None:
    run_function(_run_out_of_memory_in_backward)


def _use_many_shapes() -> None:
    fastrnn.set_num_threads(2)
    rng = np.random.default_rng(0)

    def call() -> None:
        cell = CELLS[rng.integers(len(CELLS))]
        # The few blocks that are kept for the next call stay below a megabyte each.
        T, B, I, H = (int(n) for n in rng.integers(1, (20, 24, 80, 80)))
        solve(fastrnn, make_problem(cell, T, B, I, H, dtype=np.float32))

    for _ in range(500):
        call()
    gc.collect()
    before = _pages(1)
    for _ in range(2000):
        call()
    gc.collect()
    grown = (_pages(1) - before) / 2**20
    assert grown < 5, f"{grown:.1f} MB more after 2,000 shapes"


@pytest.mark.usefixtures("needs_proc", "needs_no_sanitizer")
def test_memory_does_not_grow_with_shapes() -> None:
    run_function(_use_many_shapes, timeout=120)


def _leak_nothing() -> None:
    problem = make_problem(CELLS[2], 20, 16, 64, 64, dtype=np.float32)
    wrong = problem.with_inputs(w_hh=problem["w_ih"][:3])
    for n in range(600):
        if n == 100:
            gc.collect()
            before = _pages(1)
        out = forward(fastrnn, problem)
        backward(fastrnn, problem, out.tape)
        with contextlib.suppress(ValueError):
            forward(fastrnn, wrong)
    del out
    gc.collect()
    # 500 leaks of the smallest of all arrays would be 2 MB, of a tape 300.
    grown = (_pages(1) - before) / 2**20
    assert grown < 1.5, f"{grown:.1f} MB more after 500 calls"


@pytest.mark.usefixtures("needs_proc", "needs_no_sanitizer")
def test_calls_and_errors_leak_nothing() -> None:
    run_function(_leak_nothing, timeout=120)


def test_a_view_keeps_its_results_memory() -> None:
    """The memory of large results serves later calls, but not before the last view of them is gone."""
    problem = make_problem(CELLS[2], 20, 16, 64, 64, dtype=np.float32)
    views = [array[1:] for array in solve(fastrnn, problem).values() if array.nbytes >= 2**16]
    assert len(views) >= 4
    before = [view.copy() for view in views]
    for seed in range(10):
        solve(fastrnn, make_problem(CELLS[2], 20, 16, 64, 64, dtype=np.float32, seed=seed))
    for view, values in zip(views, before, strict=True):
        np.testing.assert_array_equal(view, values)
        assert view.flags.writeable
        assert view.flags.aligned


def test_references_are_given_back() -> None:
    problem = make_problem(CELLS[2], 5, 3, 7, 17)
    inputs = [a for a in (*problem.inputs.values(), *problem.upstream.values()) if a is not None]
    before = [sys.getrefcount(a) for a in inputs]
    for _ in range(10):
        solve(fastrnn, problem)
        with pytest.raises(ValueError, match="lstm_forward"):
            forward(fastrnn, problem.with_inputs(b_hh=problem["h0"]))
    gc.collect()
    assert [sys.getrefcount(a) for a in inputs] == before


@pytest.mark.parametrize("cell", CELLS, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_training_memory(cell: Cell, dtype: type[np.floating[Any]]) -> None:
    """The tape has x, the gates, and little besides: in floats for each of T * B * H, as I is H."""
    H, sizes = 128, (60, 120)
    tapes = [forward(fastrnn, make_problem(cell, T, 32, H, H, dtype=dtype)).tape for T in sizes]
    # The difference leaves out what is made of the weights.
    each = (tapes[1].nbytes - tapes[0].nbytes) / np.dtype(dtype).itemsize / ((sizes[1] - sizes[0]) * 32 * H)
    expected = 1 + {"lstm": 4, "gru": 4, "rnn": 1}[cell.family]
    assert expected <= each < 1.15 * expected


def _inference_memory_is_flat() -> None:
    """Inference takes room for what it returns, and workspace that does not grow with T."""
    import resource

    w_ih, w_hh = np.ones((400, 256), np.float32), np.ones((400, 100), np.float32)
    fastrnn.set_num_threads(1)
    x = np.ones((4000, 8, 256), np.float32)
    fastrnn.lstm_forward(x[:100], w_ih, w_hh)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    y = fastrnn.lstm_forward(x, w_ih, w_hh).y
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    # The gates of all steps would be four times y.
    assert grown < 1.5 * y.nbytes, f"{grown / y.nbytes:.2f} times the output"


@pytest.mark.usefixtures("needs_proc", "needs_no_sanitizer")
def test_inference_workspace_does_not_grow_with_steps() -> None:
    run_function(_inference_memory_is_flat)
