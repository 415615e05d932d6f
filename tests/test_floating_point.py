"""The caller's floating-point mode is left alone; NaN stays in its row, infinities saturate, denormals cost nothing."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import _core, reference
from isolated import run_function
from problems import CELLS, Cell, Problem, arrays, backward, forward, make_problem, solve, step
from tolerances import assert_close

each_cell = pytest.mark.parametrize("cell", CELLS, ids=str)
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])


def denormals_work() -> bool:
    """Whether this thread still computes with denormal numbers, as the caller of a kernel has the right to."""
    small = np.full(64, np.finfo(np.float32).smallest_normal, np.float32)
    return bool((small * np.float32(0.5) > 0).all() and (small * np.float32(0.5) * np.float32(2) == small).all())


@each_cell
def test_control_register_is_untouched(cell: Cell, isa: str) -> None:
    before = _core._fp_control()
    for sizes in ((1, 1, 1, 1), (5, 3, 7, 17), (20, 33, 64, 100)):
        problem = make_problem(cell, *sizes, dtype=np.float32)
        solve(fastrnn, problem)
        step(fastrnn, problem)
        assert _core._fp_control() == before
        assert denormals_work()


def test_control_register_is_untouched_by_errors(isa: str) -> None:
    before = _core._fp_control()
    problem = make_problem(CELLS[2], 5, 3, 7, 17, tokens=True)
    bad = problem["x"].copy()
    bad[-1, -1] = 99
    for wrong in (problem.with_inputs(x=bad), problem.with_inputs(w_hh=problem["w_ih"])):
        with pytest.raises(ValueError, match="lstm_forward"):
            forward(fastrnn, wrong)
        assert _core._fp_control() == before
    assert denormals_work()


def _signal_handler_computes_with_denormals() -> None:
    seen: list[bool] = []
    signal.signal(signal.SIGALRM, lambda *_: seen.append(denormals_work()))
    # Longer than the time between two looks at what the caller wants: handlers run in the middle of it.
    problem = make_problem(CELLS[2], 400, 64, 256, 256, dtype=np.float32)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    start = time.monotonic()
    while len(seen) < 3 and time.monotonic() - start < 30:
        forward(fastrnn, problem)
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert len(seen) >= 3
    assert all(seen)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timer")
def test_signal_handler_computes_with_denormals() -> None:
    run_function(_signal_handler_computes_with_denormals)


def _import_leaves_denormals_on() -> None:
    assert denormals_work()


def test_import_leaves_denormals_on() -> None:
    run_function(_import_leaves_denormals_on)


def _with_nan_in_row(problem: Problem, group: str, name: str, row: int) -> Problem:
    array = problem[name].copy()
    array[(slice(None),) * (array.ndim - 2) + (row,)] = np.nan
    changed = {**getattr(problem, group), name: array}
    return Problem(problem.cell, **{"inputs": problem.inputs, "upstream": problem.upstream, group: changed})


@each_dtype
@each_cell
def test_nan_stays_in_its_batch_row(cell: Cell, dtype: Any, isa: str) -> None:
    for n in range(1, 34):
        for sizes in ((3, 7, 5, n), (3, n, n, 9)):
            T, B, *_ = sizes
            problem = make_problem(cell, *sizes, dtype=dtype, seed=n)
            clean = solve(fastrnn, problem)
            row = n % B
            sources = [("inputs", k) for k in ("x", *(f"{s}0" for s in cell.state_names))]
            for group, name in sources + [("upstream", k) for k in problem.upstream]:
                got = solve(fastrnn, _with_nan_in_row(problem, group, name, row))
                where = f"{sizes}, NaN in row {row} of {name}"
                for result in ("y", "dx", *(f"{s}_n" for s in cell.state_names), *(f"d{s}0" for s in cell.state_names)):
                    axis = got[result].ndim - 2
                    others = np.delete(got[result], row, axis), np.delete(clean[result], row, axis)
                    assert others[0].tobytes() == others[1].tobytes(), f"{where}: {result}"
                if group == "inputs":
                    assert np.isnan(got["y"][:, row]).all() or name == "c0", where
                    assert np.isnan(got["h_n"][row]).all(), where
                elif name != "dc_n" or T > 0:
                    assert np.isnan(got["dh0"][row]).all() or cell.name == "rnn_relu", where


@each_dtype
@each_cell
def test_infinities_saturate(cell: Cell, dtype: Any, isa: str) -> None:
    # A relu net has nothing that saturates: after one step its infinities meet and make NaN.
    T = 1 if cell.name == "rnn_relu" else 4
    for sign in (1, -1):
        problem = make_problem(cell, T, 5, 7, 19, dtype=dtype)
        x = problem["x"].copy()
        x[:, 2, 3] = sign * np.inf
        problem = problem.with_inputs(x=x)
        got = arrays(forward(fastrnn, problem))
        expected = arrays(forward(reference, problem.astype(np.float64)))
        if cell.name == "rnn_relu":
            np.testing.assert_array_equal(got["y"][:, 2], expected["y"][:, 2])
            assert set(np.unique(got["y"][:, 2])) == {0, np.inf}
        else:
            assert np.abs(got["y"]).max() <= 1
            assert_close(got, expected, problem, dtype, isa)


@each_dtype
@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell.name != "rnn_relu"], ids=str)
def test_huge_numbers_saturate(cell: Cell, dtype: Any, isa: str) -> None:
    problem = make_problem(cell, 4, 5, 7, 19, dtype=dtype)
    problem = problem.with_inputs(x=problem["x"] * dtype(1e30))
    got = solve(fastrnn, problem)
    expected = solve(reference, problem.astype(np.float64))
    for name in ("y", "h_n"):
        assert_close({name: got[name]}, {name: expected[name]}, problem, dtype, isa)
    assert all(np.isfinite(a).all() for a in got.values())


@each_dtype
@each_cell
def test_denormals_are_not_slow(cell: Cell, dtype: Any, isa: str, set_threads: Callable[[int], None]) -> None:
    """Flushed denormals cost nothing; computed ones cost 20 times as much, which no noisy machine hides."""
    tiny = np.finfo(dtype).smallest_normal / 4

    def scaled(problem: Problem, scale: float) -> Problem:
        names = ("x", "b_ih", "b_hh", *(f"{s}0" for s in cell.state_names))
        inputs = {k: a if a is None or k not in names else (a * scale).astype(dtype) for k, a in problem.inputs.items()}
        upstream = {k: None if a is None else (a * scale).astype(dtype) for k, a in problem.upstream.items()}
        return Problem(cell, inputs, upstream)

    normal = make_problem(cell, 20, 8, 64, 64, dtype=dtype)
    denormal = scaled(normal, float(tiny))

    def seconds(problem: Problem) -> float:
        start = time.perf_counter()
        solve(fastrnn, problem)
        return time.perf_counter() - start

    # In turns, and the best of each: a busy machine makes calls slower now and then, denormals every time.
    set_threads(1)
    pairs = [(seconds(normal), seconds(denormal)) for _ in range(15)]
    fast, slow = (min(side) for side in zip(*pairs, strict=True))
    assert slow < 5 * fast, f"{slow * 1e3:.2f} ms with denormals, {fast * 1e3:.2f} ms without"


@each_cell
def test_denormal_inputs_are_right_to_within_the_smallest_normal(cell: Cell, isa: str) -> None:
    """Flushing changes results by less than tolerances see, and never into NaN."""
    problem = make_problem(cell, 5, 3, 7, 17, dtype=np.float32)
    problem = problem.with_inputs(x=(problem["x"] * np.float32(1e-39)).astype(np.float32))
    out = forward(fastrnn, problem)
    got = arrays(out) | arrays(backward(fastrnn, problem, out.tape))
    assert_close(got, solve(reference, problem.astype(np.float64)), problem, np.float32, isa)
