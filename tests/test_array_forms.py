"""Any layout of the inputs gives the bits that their contiguous copies give, and inputs are never written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrnn
from problems import CELLS, Array, Cell, Problem, arrays, backward, forward, make_problem, solve, step
from tolerances import assert_same_bits


def padded(a: Array) -> Array:
    """Every other element of a larger array, along every axis."""
    room = np.full([2 * n + 1 for n in a.shape], 77, a.dtype)
    view: Array = room[tuple(slice(1, 2 * n + 1, 2) for n in a.shape)]
    view[...] = a
    return view


def reversed_strides(a: Array) -> Array:
    everywhere = (slice(None, None, -1),) * a.ndim
    view: Array = a[everywhere].copy()[everywhere]
    return view


def transposed(a: Array) -> Array:
    return np.asfortranarray(a)


def misaligned(a: Array) -> Array:
    view: Array = np.ndarray(a.shape, a.dtype, bytearray(a.nbytes + 1), offset=1)
    view[...] = a
    assert a.size == 0 or not view.flags.aligned or a.itemsize == 1
    return view


def read_only(a: Array) -> Array:
    view: Array = a.copy()
    view.flags.writeable = False
    return view


def broadcast(a: Array) -> Array:
    """The first entry of every axis, repeated with stride 0."""
    return np.broadcast_to(a[tuple(slice(0, 1) for _ in a.shape)], a.shape)


def broadcast_first_axis(a: Array) -> Array:
    return np.broadcast_to(a[:1], a.shape)


def subclass(a: Array) -> Array:
    class Labelled(np.ndarray[Any, np.dtype[Any]]):
        pass

    return a.view(Labelled)


FORMS: tuple[Callable[[Array], Array], ...] = (
    np.copy,
    padded,
    reversed_strides,
    transposed,
    misaligned,
    read_only,
    broadcast,
    broadcast_first_axis,
    subclass,
)


def formed(problem: Problem, choose: Callable[[], Callable[[Array], Array]]) -> tuple[Problem, Problem]:
    """The problem with every array in a chosen form, and the same with plain copies of what those hold."""
    forms = {
        group: {k: None if a is None else choose()(a) for k, a in getattr(problem, group).items()}
        for group in ("inputs", "upstream")
    }
    plain = {
        group: {k: None if a is None else np.array(a, order="C", subok=False) for k, a in values.items()}
        for group, values in forms.items()
    }
    return Problem(problem.cell, **forms), Problem(problem.cell, **plain)


def check(problem: Problem, choose: Callable[[], Callable[[Array], Array]]) -> None:
    variant, plain = formed(problem, choose)
    assert_same_bits(solve(fastrnn, variant), solve(fastrnn, plain), "forward and backward")
    if len(plain["x"]) > 0:
        assert_same_bits(step(fastrnn, variant), step(fastrnn, plain), "one step")
    for group in ("inputs", "upstream"):
        for name, array in getattr(variant, group).items():
            expected = getattr(plain, group)[name]
            assert array is None or array.tobytes() == expected.tobytes(), f"{name} was written to"


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("tokens", [False, True], ids=["dense", "tokens"])
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_each_form(cell: Cell, tokens: bool, dtype: Any, form: Callable[[Array], Array]) -> None:
    check(make_problem(cell, 4, 3, 5, 9, dtype=dtype, tokens=tokens), lambda: form)


@settings(max_examples=300)
@given(
    cell=st.sampled_from(CELLS),
    sizes=st.tuples(st.integers(0, 6), st.integers(0, 9), st.integers(1, 20), st.integers(1, 40)),
    dtype=st.sampled_from([np.float32, np.float64]),
    tokens=st.booleans(),
    biases=st.sampled_from(["none", "b_ih", "b_hh", "both"]),
    data=st.data(),
)
def test_any_mixture(
    cell: Cell, sizes: tuple[int, int, int, int], dtype: Any, tokens: bool, biases: str, data: st.DataObject
) -> None:
    problem = make_problem(cell, *sizes, dtype=dtype, tokens=tokens, biases=biases)
    check(problem, lambda: data.draw(st.sampled_from(FORMS), label="form"))


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_one_array_may_be_several_arguments(cell: Cell) -> None:
    problem = make_problem(cell, 3, 4, 6, 6, dtype=np.float32)
    shared = problem.with_inputs(w_hh=problem["w_ih"], b_hh=problem["b_ih"])
    copied = problem.with_inputs(w_hh=problem["w_ih"].copy(), b_hh=problem["b_ih"].copy())
    assert_same_bits(solve(fastrnn, shared), solve(fastrnn, copied), "shared arrays")


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_results_are_new_writable_arrays(cell: Cell) -> None:
    problem = make_problem(cell, 3, 4, 6, 8, dtype=np.float32)
    out = forward(fastrnn, problem)
    results = list((arrays(out) | arrays(backward(fastrnn, problem, out.tape))).values())
    inputs = [a for a in (*problem.inputs.values(), *problem.upstream.values()) if a is not None]
    for i, array in enumerate(results):
        assert array.flags.writeable
        assert array.flags.c_contiguous
        assert array.flags.aligned
        assert not any(np.shares_memory(array, other) for other in (*inputs, *results[:i]))
