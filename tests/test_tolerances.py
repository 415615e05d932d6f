"""The tolerances are neither too tight for plain float32 arithmetic nor so wide that a mistake passes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fastrnn import reference
from problems import CELLS, Array, Cell, Problem, make_smooth_problem, solve
from tolerances import assert_close


def edited(name: str, edit: Callable[[Array], None]) -> Callable[[Problem], Problem]:
    def mutate(problem: Problem) -> Problem:
        array = problem[name].copy()
        edit(array)
        return problem.with_inputs(**{name: array})

    return mutate


def clear_last_column(a: Array) -> None:
    a[..., -1] = 0


def clear_last_row(a: Array) -> None:
    a[-1] = 0


def swap_ends(a: Array) -> None:
    a[[0, -1]] = a[[-1, 0]]


MISTAKES = {
    "one bias of b_ih dropped": edited("b_ih", clear_last_row),
    "one bias of b_hh dropped": edited("b_hh", clear_last_row),
    "last input forgotten": edited("w_ih", clear_last_column),
    "last hidden unit forgotten": edited("w_hh", clear_last_column),
    "first and last gate row swapped": edited("w_hh", swap_ends),
    "last batch row starts from zeros": edited("h0", clear_last_row),
    "first and last time step swapped": edited("x", swap_ends),
}


@pytest.mark.parametrize("shape", [(5, 3, 7, 9), (40, 33, 100, 100)], ids=str)
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_plain_float32_passes_and_mistakes_fail(cell: Cell, shape: tuple[int, int, int, int]) -> None:
    problem = make_smooth_problem(cell, *shape, dtype=np.float32)
    expected = solve(reference, problem.astype(np.float64))
    assert_close(solve(reference, problem), expected, problem, np.float32, "NumPy")
    for mistake, mutate in MISTAKES.items():
        wrong = solve(reference, mutate(problem))
        with pytest.raises(AssertionError, match="expected"):
            assert_close(wrong, expected, problem, np.float32, mistake)
    for name in expected:
        wrong = solve(reference, problem)
        wrong[name].flat[-1] += 1e-3 * max(1.0, float(np.abs(expected[name]).max()))
        with pytest.raises(AssertionError, match=name):
            assert_close(wrong, expected, problem, np.float32, "one element")
        wrong[name].flat[-1] = np.nan
        with pytest.raises(AssertionError, match=name):
            assert_close(wrong, expected, problem, np.float32, "NaN")
