"""The only tolerances of the tests, computed from the dtype and from how many terms a number is a sum of.

A sum of n terms in floating point is off by about eps * sqrt(n) times the size of its terms (rounding errors have
either sign; the bound eps * n for the worst case is never met). Problems are scaled so that terms are of order 1 or
smaller, and results are compared with ``tolerance * max(1, largest magnitude expected)``.

The constant 16 pays for what does not grow: exp, tanh and sigmoid at up to 4 units in the last place, a handful of
multiplications a gate, and what the steps before hand on (the problems' recurrences contract, so that errors of earlier
steps fade instead of piling up; plain NumPy in float32 stays below a third of the allowance at T = 40).

For scale: at I = H = 100 a float32 output may be off by 3.6e-6, while one forgotten term of its sums is worth 1e-2, and
one forgotten bias 0.5; test_tolerances.py shows that such mistakes fail.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from problems import Array, Problem


def output_tolerance(dtype: Any, *, terms: int) -> float:
    """For y, h_n and c_n: gates are sums of ``terms`` = I + H products."""
    return float(np.finfo(dtype).eps) * (16 + math.sqrt(terms))


def gradient_tolerance(dtype: Any, *, terms: int, rows: int) -> float:
    """For gradients: dx and dh are sums over ``terms`` = I + G*H products; those of weights over ``rows`` = T*B too."""
    return float(np.finfo(dtype).eps) * (16 + math.sqrt(terms) + math.sqrt(rows))


def tolerance(name: str, problem: Problem, dtype: Any) -> float:
    """What the result called ``name`` may be off by, relative to max(1, largest magnitude expected)."""
    T, B, I, H = problem.sizes
    if name.startswith("d"):
        return gradient_tolerance(dtype, terms=I + problem.cell.gates * H, rows=T * B)
    return output_tolerance(dtype, terms=I + H)


def assert_close(got: dict[str, Array], expected: dict[str, Array], problem: Problem, dtype: Any, where: str) -> None:
    """Every expected array is there, has its shape and dtype, and is within tolerance; ``where`` heads the message."""
    assert got.keys() == expected.keys(), f"{where}: results are {sorted(got)}, expected {sorted(expected)}"
    for name, right in expected.items():
        value = got[name]
        what = f"{where}, {problem.cell}, {problem.shape}, {np.dtype(dtype)}: {name}"
        assert value.dtype == np.dtype(dtype), f"{what} has dtype {value.dtype}"
        assert value.shape == right.shape, f"{what} has shape {value.shape}, expected {right.shape}"
        if right.size == 0:
            continue
        error = np.abs(value - right)
        allowed = tolerance(name, problem, dtype) * max(1.0, float(np.abs(right).max()))
        # Not "error.max() > allowed", which NaN would pass.
        if not error.max() <= allowed:
            worst = np.unravel_index(int(np.argmax(np.where(np.isnan(error), np.inf, error))), error.shape)
            at = tuple(int(i) for i in worst)
            raise AssertionError(f"{what}{list(at)} is {value[at]}, expected {right[at]} within {allowed:.2g}")


def assert_same_bits(got: dict[str, Array], expected: dict[str, Array], where: str) -> None:
    """Every array is the expected one, bit for bit: NaN equals the same NaN, and 0.0 is not -0.0."""
    assert got.keys() == expected.keys(), f"{where}: results are {sorted(got)}, expected {sorted(expected)}"
    for name, right in expected.items():
        value = got[name]
        assert (value.dtype, value.shape) == (right.dtype, right.shape), f"{where}: {name}"
        if value.tobytes() != right.tobytes():
            differ = np.flatnonzero(value.ravel() != right.ravel())
            raise AssertionError(f"{where}: {name} differs in {differ.size} of {value.size} places, from {differ[:5]}")
