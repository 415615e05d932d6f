"""The tape owns all that backward needs, and may be used more than once."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest

import fastrnn
from problems import CELLS, Cell, arrays, backward, forward, make_problem, solve
from tolerances import assert_same_bits

each_cell = pytest.mark.parametrize("cell", CELLS, ids=str)
each_input = pytest.mark.parametrize("tokens", [False, True], ids=["dense", "tokens"])


@each_input
@each_cell
def test_inputs_and_outputs_may_be_overwritten(cell: Cell, tokens: bool) -> None:
    problem = make_problem(cell, 5, 3, 7, 17, tokens=tokens)
    untouched = arrays(backward(fastrnn, problem, forward(fastrnn, problem).tape))
    out = forward(fastrnn, problem)
    for array in (*problem.inputs.values(), *arrays(out).values()):
        if array is not None:
            array.fill(0 if array.dtype.kind == "i" else np.nan)
    assert_same_bits(arrays(backward(fastrnn, problem, out.tape)), untouched, "after overwriting")


@each_input
@each_cell
def test_inputs_and_outputs_may_be_deleted(cell: Cell, tokens: bool) -> None:
    expected = solve(fastrnn, make_problem(cell, 5, 3, 7, 17, tokens=tokens))
    problem = make_problem(cell, 5, 3, 7, 17, tokens=tokens)
    tape = forward(fastrnn, problem).tape
    problem.inputs.clear()
    gc.collect()
    # Room that deleted arrays left is taken and filled before backward runs.
    filler = [np.full(n, np.nan) for n in range(1, 2000)]
    gradients = arrays(backward(fastrnn, problem, tape))
    del tape, filler
    gc.collect()
    assert_same_bits(gradients, {k: a for k, a in expected.items() if k in gradients}, "after deleting")


@each_input
@each_cell
def test_backward_twice(cell: Cell, tokens: bool) -> None:
    problem = make_problem(cell, 5, 3, 7, 17, tokens=tokens)
    tape = forward(fastrnn, problem).tape
    first = arrays(backward(fastrnn, problem, tape))
    other = problem.with_upstream("dh_n")
    alone = arrays(backward(fastrnn, other, tape))
    assert_same_bits(arrays(backward(fastrnn, problem, tape)), first, "second time")
    assert_same_bits(alone, arrays(backward(fastrnn, other, forward(fastrnn, problem).tape)), "other gradients")


@each_cell
def test_backward_leaves_its_arguments_alone(cell: Cell) -> None:
    problem = make_problem(cell, 5, 3, 7, 17)
    before = {k: a.copy() for k, a in problem.upstream.items() if a is not None}
    backward(fastrnn, problem, forward(fastrnn, problem).tape)
    assert_same_bits({k: problem[k] for k in before}, before, "upstream gradients")


@pytest.mark.parametrize("isas", [(a, b) for a in fastrnn.available_isas() for b in fastrnn.available_isas()], ids=str)
@each_cell
def test_tape_remembers_its_instruction_set(cell: Cell, isas: tuple[str, str]) -> None:
    """A tape may be laid out for the vectors of the instruction set that filled it; switching between is harmless."""
    problem = make_problem(cell, 5, 3, 7, 17, dtype=np.float32)
    before = fastrnn.isa()
    try:
        results: list[Any] = []
        for at_backward in (isas[0], isas[1]):
            fastrnn._core.set_isa(isas[0])
            tape = forward(fastrnn, problem).tape
            fastrnn._core.set_isa(at_backward)
            results.append(arrays(backward(fastrnn, problem, tape)))
    finally:
        fastrnn._core.set_isa(before)
    expected, switched = results
    assert_same_bits(switched, expected, "instruction set switched between")
