"""The compiled kernels agree with the reference: every cell, instruction set, dtype and shape.

All outputs and all gradients are compared. Both dtypes get the same float32 numbers, so that one float64 run of the
reference serves all instruction sets and dtypes.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import reference
from problems import CELLS, Array, Cell, Problem, make_smooth_problem, solve, step
from tolerances import assert_close

DTYPES = (np.float32, np.float64)
SIZES = (1, 7, 8, 9, 16, 17, 33, 64, 100)
BATCHES = (1, 2, 3, 6, 7, 33)
STEPS = (1, 2, 5, 40)

each_cell = pytest.mark.parametrize("cell", CELLS, ids=str)
# Outermost, so that it varies fastest and the reference of one shape serves all instruction sets in a row.
each_isa = pytest.mark.parametrize("isa", fastrnn.available_isas(), indirect=True)


@lru_cache(maxsize=len(BATCHES) * len(STEPS))
def solved(cell_index: int, T: int, B: int, I: int, H: int, **options: Any) -> tuple[Problem, dict[str, Array]]:
    """A problem in float32, and all its outputs and gradients by the reference in float64."""
    problem = make_smooth_problem(CELLS[cell_index], T, B, I, H, dtype=np.float32, **options)
    return problem, solve(reference, problem.astype(np.float64))


def check(problem: Problem, expected: dict[str, Array], isa: str) -> None:
    for dtype in DTYPES:
        assert_close(solve(fastrnn, problem.astype(dtype)), expected, problem, dtype, isa)


@each_isa
@pytest.mark.parametrize("I", SIZES, ids="I{}".format)
@pytest.mark.parametrize("H", SIZES, ids="H{}".format)
@each_cell
def test_every_shape(cell: Cell, H: int, I: int, isa: str) -> None:
    for T in STEPS:
        for B in BATCHES:
            check(*solved(CELLS.index(cell), T, B, I, H), isa)


@each_isa
@each_cell
def test_every_tail_length(cell: Cell, isa: str) -> None:
    for n in range(1, 34):
        check(*solved(CELLS.index(cell), 2, n, n, n), isa)
        check(*solved(CELLS.index(cell), 2, 34 - n, 3, n), isa)


@each_isa
@each_cell
def test_zero_sizes(cell: Cell, isa: str) -> None:
    for T in (0, 1):
        for B in (0, 1):
            for I in (0, 1):
                for H in (1, 9):
                    check(*solved(CELLS.index(cell), T, B, I, H), isa)


@each_cell
def test_many_steps_of_no_rows(cell: Cell) -> None:
    """They cost no memory, and take no time."""
    long = np.empty((2**40, 0, 3), np.float32)
    problem, _ = solved(CELLS.index(cell), 1, 0, 3, 3)
    problem = replace(problem.with_inputs(x=long), upstream={**problem.upstream, "dy": long})
    results = solve(fastrnn, problem)
    assert results["y"].shape == results["dx"].shape == long.shape
    assert not results["dw_hh"].any()


@each_cell
def test_no_steps_return_the_initial_states(cell: Cell) -> None:
    problem, _ = solved(CELLS.index(cell), 0, 3, 2, 5)
    results = solve(fastrnn, problem)
    for s in cell.state_names:
        np.testing.assert_array_equal(results[f"{s}_n"], problem[f"{s}0"])
        np.testing.assert_array_equal(results[f"d{s}0"], problem[f"d{s}_n"])
    for name in ("dw_ih", "dw_hh", "db_ih", "db_hh"):
        assert not results[name].any(), name


@each_isa
@pytest.mark.parametrize("biases", ["none", "b_ih", "b_hh", "both"])
@pytest.mark.parametrize("tokens", [False, True], ids=["dense", "tokens"])
@each_cell
def test_biases_and_tokens(cell: Cell, tokens: bool, biases: str, isa: str) -> None:
    for T, B, I, H in ((1, 1, 5, 9), (5, 3, 7, 17), (40, 7, 33, 16), (3, 33, 300, 33)):
        check(*solved(CELLS.index(cell), T, B, I, H, tokens=tokens, biases=biases), isa)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64])
@each_cell
def test_every_integer_dtype_holds_tokens(cell: Cell, dtype: Any) -> None:
    problem, expected = solved(CELLS.index(cell), 5, 3, 7, 17, tokens=True)
    check(problem.with_inputs(x=problem["x"].astype(dtype)), expected, str(np.dtype(dtype)))


@each_isa
@each_cell
def test_initial_states_may_be_missing(cell: Cell, isa: str) -> None:
    problem, _ = solved(CELLS.index(cell), 5, 3, 7, 17)
    for missing in [(s,) for s in cell.state_names] + [cell.state_names]:
        none = problem.with_inputs(**dict.fromkeys(f"{s}0" for s in missing))
        check(none, solve(reference, none.astype(np.float64)), f"{isa}, without {missing}")


@each_isa
@each_cell
def test_gradients_arrive_alone_and_not_at_all(cell: Cell, isa: str) -> None:
    for T, B, I, H in ((1, 1, 5, 9), (5, 7, 8, 17), (3, 33, 33, 64)):
        problem, _ = solved(CELLS.index(cell), T, B, I, H)
        for arrives in ((), *((name,) for name in problem.upstream)):
            alone = problem.with_upstream(*arrives)
            check(alone, solve(reference, alone.astype(np.float64)), f"{isa}, arriving at {arrives}")


@each_isa
@pytest.mark.parametrize("tokens", [False, True], ids=["dense", "tokens"])
@each_cell
def test_one_step(cell: Cell, tokens: bool, isa: str) -> None:
    for B in (0, 1, 2, 3, 4, 7, 8, 9, 33):
        for I, H in [(n, n) for n in SIZES] + [(n, 101 - n) for n in range(1, 34)]:
            for biases in ("none", "both"):
                problem, _ = solved(CELLS.index(cell), 1, B, I, H, tokens=tokens, biases=biases)
                expected = step(reference, problem.astype(np.float64))
                for dtype in DTYPES:
                    assert_close(step(fastrnn, problem.astype(dtype)), expected, problem, dtype, f"{isa}, one step")


@each_isa
@each_cell
def test_one_step_without_states(cell: Cell, isa: str) -> None:
    problem, _ = solved(CELLS.index(cell), 1, 3, 7, 17)
    problem = problem.with_inputs(**dict.fromkeys(f"{s}0" for s in cell.state_names))
    expected = step(reference, problem.astype(np.float64))
    for dtype in DTYPES:
        assert_close(step(fastrnn, problem.astype(dtype)), expected, problem, dtype, f"{isa}, one step")


@each_cell
def test_training_changes_no_output(cell: Cell) -> None:
    problem, _ = solved(CELLS.index(cell), 5, 7, 9, 17)
    function = getattr(fastrnn, f"{cell.family}_forward")
    trained = function(**problem.inputs, **cell.options, training=True)
    inferred = function(**problem.inputs, **cell.options)
    assert inferred.tape is None
    assert trained.tape is not None
    np.testing.assert_array_equal(trained.y, inferred.y)
    np.testing.assert_array_equal(inferred.y[-1], inferred.h_n)


@each_cell
def test_sequence_in_two_parts(cell: Cell) -> None:
    problem, _ = solved(CELLS.index(cell), 40, 3, 9, 17)
    function = getattr(fastrnn, f"{cell.family}_forward")
    whole = function(**problem.inputs, **cell.options)
    first = function(**problem.with_inputs(x=problem["x"][:13]).inputs, **cell.options)
    carried = {f"{s}0": getattr(first, f"{s}_n") for s in cell.state_names}
    second = function(**problem.with_inputs(x=problem["x"][13:], **carried).inputs, **cell.options)
    np.testing.assert_array_equal(np.concatenate([first.y, second.y]), whole.y)
    for s in cell.state_names:
        np.testing.assert_array_equal(getattr(second, f"{s}_n"), getattr(whole, f"{s}_n"))
