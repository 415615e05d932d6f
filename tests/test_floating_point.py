"""The caller's floating-point mode is left alone; NaN stays in its row, infinities saturate, denormals are zeros."""

from __future__ import annotations

import signal
import time
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import _core, reference
from isolated import run_function
from layer_problems import LAYERS, each_variant, parts, solve_layer, state_like
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


def raise_flags(some: bool) -> None:
    """Have this thread's flags of exceptions all down, or some of them up."""
    np.add(np.ones(1), np.ones(1))  # NumPy clears them
    if some:
        large, three = float("1e308"), float("3")
        assert large * large == np.inf  # overflow
        assert 1 / three > 0  # inexact


@each_cell
@pytest.mark.parametrize("some", [False, True], ids=["none", "some"])
def test_flags_are_untouched(some: bool, cell: Cell, isa: str) -> None:
    problem = make_problem(cell, 5, 3, 7, 17, dtype=np.float32)
    wrong = problem.with_inputs(w_hh=problem["w_ih"])
    tape = forward(fastrnn, problem).tape
    x, weight = np.ones((3, 7), np.float32), np.full((5, 7), np.float32(1 / 3))
    raise_flags(some)
    before = _core._fp_control(flags=True)
    forward(fastrnn, problem)
    backward(fastrnn, problem, tape)
    step(fastrnn, problem)
    fastrnn.linear(x, weight)
    with pytest.raises(ValueError, match="_forward"):
        forward(fastrnn, wrong)
    assert _core._fp_control(flags=True) == before


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
@each_variant
def test_nan_stays_in_its_batch_row_of_a_layer(family: str, options: dict[str, Any], dtype: Any, isa: str) -> None:
    for n in range(1, 34):
        for T, B, I, H in ((3, 7, 5, n), (3, n, n, 9)):
            own = {k: H if k == "proj_size" else v for k, v in options.items()}
            layer = LAYERS[family](I, H + ("proj_size" in own), seed=n, dtype=dtype, **own)
            rng = np.random.default_rng(n)
            x = rng.uniform(-1, 1, (T, B, I)).astype(dtype)
            dy = rng.uniform(-1, 1, (T, B, layer._spec.state_sizes[0])).astype(dtype)
            given = [x, *parts(state_like(layer, B)), dy, *parts(state_like(layer, B, seed=2))]

            def solve_with(arrays: list[Any], layer: fastrnn.Layer = layer) -> dict[str, Any]:
                count = len(layer._spec.state_sizes)
                state, dstate = tuple(arrays[1 : 1 + count]), tuple(arrays[2 + count :])
                pair = (state, dstate) if count == 2 else (state[0], dstate[0])
                return solve_layer(layer, arrays[0], pair[0], arrays[1 + count], pair[1])

            clean, row = solve_with(given), n % B
            for k, array in enumerate(given):
                bad = array.copy()
                bad[:, row] = np.nan
                got = solve_with([*given[:k], bad, *given[k + 1 :]])
                where = f"{layer}, NaN in row {row} of argument {k}"
                for name in clean:
                    if name not in layer.params:
                        others = np.delete(got[name], row, 1), np.delete(clean[name], row, 1)
                        assert others[0].tobytes() == others[1].tobytes(), f"{where}: {name}"
                if k == 0:
                    assert np.isnan(got["y"][:, row]).all(), where
                    assert np.isnan(got["state_n[0]"][:, row]).all(), where


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
@each_variant
def test_denormals_are_zeros(family: str, options: dict[str, Any], dtype: Any, isa: str) -> None:
    """So they cost what zeros do, where computing with them costs 20 times as much."""
    layer = LAYERS[family](7, 17, dtype=dtype, seed=0, **options)
    T, B = 5, 3
    tiny = float(np.finfo(dtype).smallest_normal)

    def solve_scaled(scale: float) -> dict[str, Any]:
        states = [tuple((a * scale).astype(dtype) for a in parts(state_like(layer, B, seed=s))) for s in (0, 2)]
        x, dy = (
            (np.random.default_rng(size).uniform(-1, 1, (T, B, size)) * scale).astype(dtype)
            for size in (layer.input_size, layer._spec.state_sizes[0])
        )
        assert scale == 0 or (x != 0).all()
        state, dstate = (s if len(s) == 2 else s[0] for s in states)
        return solve_layer(layer, x, state, dy, dstate)

    zeros = solve_scaled(0)
    for name, got in solve_scaled(tiny / 2).items():
        np.testing.assert_array_equal(got, zeros[name], err_msg=name)
    # Weights too: with no biases a net of them does what one of zeros does.
    if "bias_ih_l0" in layer.params and family != "mingru" and "layer_norm" not in options:
        x, outputs = np.ones((T, B, layer.input_size), dtype), []
        for weight in (tiny / 2, 0):
            for name, parameter in layer.params.items():
                parameter[...] = 0 if "bias" in name else weight
            outputs.append(solve_layer(layer, x)["y"])
        np.testing.assert_array_equal(*outputs)


@each_cell
def test_denormal_inputs_are_right_to_within_the_smallest_normal(cell: Cell, isa: str) -> None:
    """Flushing changes results by less than tolerances see, and never into NaN."""
    problem = make_problem(cell, 5, 3, 7, 17, dtype=np.float32)
    problem = problem.with_inputs(x=(problem["x"] * np.float32(1e-39)).astype(np.float32))
    out = forward(fastrnn, problem)
    got = arrays(out) | arrays(backward(fastrnn, problem, out.tape))
    assert_close(got, solve(reference, problem.astype(np.float64)), problem, np.float32, isa)
