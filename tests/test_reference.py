"""The reference is right: against finite differences, and against one example a cell worked by hand."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import reference
from problems import CELLS, Cell, Problem, arrays, backward, finite_difference, forward, make_problem, step

T, B, I, H = 3, 2, 3, 4

FINITE_DIFFERENCE_TOLERANCE = 1e-8


def loss(problem: Problem) -> float:
    """The scalar whose gradients at y, h_n and c_n are the problem's upstream gradients."""
    outputs = arrays(forward(reference, problem, training=False))
    return sum(float((outputs[k[1:]] * a).sum()) for k, a in problem.upstream.items() if a is not None)


def arrivals(cell: Cell) -> list[str]:
    """Where gradients may arrive: each place alone, and all together."""
    return ["dy", *(f"d{s}_n" for s in cell.state_names), "together"]


@pytest.mark.parametrize("tokens", [False, True], ids=["dense", "tokens"])
@pytest.mark.parametrize(("cell", "arrives"), [(c, a) for c in CELLS for a in arrivals(c)], ids=str)
def test_gradients_are_finite_differences(cell: Cell, tokens: bool, arrives: str) -> None:
    problem = make_problem(cell, T, B, I, H, tokens=tokens, seed=3)
    if arrives != "together":
        problem = problem.with_upstream(arrives)
    gradients = arrays(backward(reference, problem, forward(reference, problem).tape))
    names = [name for name in problem.inputs if not (name == "x" and tokens)]
    assert set(gradients) == {f"d{name}" for name in names}
    for name in names:
        np.testing.assert_allclose(
            gradients[f"d{name}"],
            finite_difference(lambda: loss(problem), problem[name]),
            rtol=0,
            atol=FINITE_DIFFERENCE_TOLERANCE,
            err_msg=f"d{name}",
        )


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_missing_arguments_are_zeros(cell: Cell) -> None:
    full = make_problem(cell, T, B, I, H)
    optional = [k for k in full.inputs if k not in ("x", "w_ih", "w_hh")]
    none = full.with_inputs(**dict.fromkeys(optional))
    zeros = full.with_inputs(**{k: np.zeros_like(full[k]) for k in optional})
    out, expected = forward(reference, none), forward(reference, zeros)
    results = arrays(out) | arrays(backward(reference, none, out.tape))
    expecteds = arrays(expected) | arrays(backward(reference, zeros, expected.tape))
    assert results.keys() == expecteds.keys()
    for name in results:
        np.testing.assert_array_equal(results[name], expecteds[name], err_msg=name)


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_tokens_are_one_hot_rows(cell: Cell) -> None:
    tokens = make_problem(cell, T, B, I, H, tokens=True)
    one_hot = tokens.with_inputs(x=np.eye(I)[tokens["x"]])
    out, expected = forward(reference, tokens), forward(reference, one_hot)
    results = arrays(out) | arrays(backward(reference, tokens, out.tape))
    expecteds = arrays(expected) | arrays(backward(reference, one_hot, expected.tape))
    assert expecteds.keys() - results.keys() == {"dx"}
    for name in results:
        np.testing.assert_allclose(results[name], expecteds[name], rtol=1e-14, atol=1e-14, err_msg=name)


@pytest.mark.parametrize("tokens", [False, True], ids=["dense", "tokens"])
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_step_is_a_sequence_of_one(cell: Cell, tokens: bool) -> None:
    problem = make_problem(cell, 1, B, I, H, tokens=tokens)
    out = forward(reference, problem, training=False)
    for name, state in step(reference, problem).items():
        np.testing.assert_array_equal(state, getattr(out, f"{name}_n"))


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_computes_in_the_dtype_of_its_inputs(cell: Cell) -> None:
    problem = make_problem(cell, T, B, I, H, dtype=np.float32)
    out = forward(reference, problem)
    results = arrays(out) | arrays(backward(reference, problem, out.tape))
    assert {a.dtype for a in results.values()} == {np.dtype(np.float32)}


FUNCTIONS = [name for name in reference.__all__ if name.islower()]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_signatures_are_those_of_fastrnn(name: str) -> None:
    def parameters(function: Any) -> list[tuple[Any, ...]]:
        return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]

    assert parameters(getattr(reference, name)) == parameters(getattr(fastrnn, name))


@pytest.mark.parametrize("name", [name for name in reference.__all__ if name.endswith(("Output", "Gradients"))])
def test_results_have_the_fields_of_those_of_fastrnn(name: str) -> None:
    assert getattr(reference, name)._fields == getattr(fastrnn, name)._fields


# One example a cell, one unit, one row, one step, from the published equations and with other names, other order and no
# array: x = 0.5, h' = -0.3, c' = 0.8. Gate k of n has W_ih = 0.1 + 0.2 k, W_hh = 0.4 - 0.3 k, b_ih = 0.05 (k + 1),
# b_hh = -0.1 k.  The numbers in the comments were worked with a pocket calculator to six places.

X, H_PREV, C_PREV = 0.5, -0.3, 0.8


def by_hand(cell: Cell) -> Problem:
    k = np.arange(cell.gates, dtype=np.float64)
    return Problem(
        cell,
        {
            "x": np.array([[[X]]]),
            "w_ih": (0.1 + 0.2 * k)[:, None],
            "w_hh": (0.4 - 0.3 * k)[:, None],
            "b_ih": 0.05 * (k + 1),
            "b_hh": -0.1 * k,
            "h0": np.array([[H_PREV]]),
            **({"c0": np.array([[C_PREV]])} if cell.states == 2 else {}),
        },
    )


def logistic(a: float) -> float:
    return 1 / (1 + math.exp(-a))


def test_rnn_by_hand() -> None:
    tanh_cell, relu_cell = CELLS[:2]
    # 0.1 * 0.5 + 0.05 + 0.4 * -0.3 + 0 = -0.02
    h = forward(reference, by_hand(tanh_cell)).h_n.item()
    assert h == pytest.approx(math.tanh(-0.02), abs=1e-15)
    assert h == pytest.approx(-0.019997, abs=1e-6)
    assert forward(reference, by_hand(relu_cell)).h_n.item() == 0
    relu_positive = by_hand(relu_cell).with_inputs(b_ih=np.array([0.25]))
    assert forward(reference, relu_positive).h_n.item() == pytest.approx(0.18, abs=1e-15)


def test_lstm_by_hand() -> None:
    input_gate = logistic(0.05 + 0.05 - 0.12)
    forget_gate = logistic(0.15 + 0.10 - 0.03 - 0.1)
    candidate = math.tanh(0.25 + 0.15 + 0.06 - 0.2)
    output_gate = logistic(0.35 + 0.20 + 0.15 - 0.3)
    cell_state = forget_gate * C_PREV + input_gate * candidate
    out = forward(reference, by_hand(CELLS[2]))
    assert out.c_n.item() == pytest.approx(cell_state, abs=1e-15)
    assert out.h_n.item() == pytest.approx(output_gate * math.tanh(cell_state), abs=1e-15)
    # i = 0.495000, f = 0.529964, g = 0.254296, o = 0.598688
    assert out.c_n.item() == pytest.approx(0.549848, abs=1e-6)
    assert out.h_n.item() == pytest.approx(0.299587, abs=1e-6)


def test_gru_reset_after_by_hand() -> None:
    reset = logistic(0.05 + 0.05 - 0.12)
    update = logistic(0.15 + 0.10 - 0.03 - 0.1)
    candidate = math.tanh(0.25 + 0.15 + reset * (0.06 - 0.2))
    out = forward(reference, by_hand(CELLS[3]))
    assert out.h_n.item() == pytest.approx((1 - update) * candidate + update * H_PREV, abs=1e-15)
    # r = 0.495000, z = 0.529964, n = tanh(0.4 - 0.0693) = 0.319150
    assert out.h_n.item() == pytest.approx(-0.008977, abs=1e-6)


def test_gru_reset_before_by_hand() -> None:
    reset = logistic(0.05 + 0.05 - 0.12)
    update = logistic(0.15 + 0.10 - 0.03 - 0.1)
    candidate = math.tanh(0.25 + 0.15 + -0.2 * (reset * H_PREV) - 0.2)
    out = forward(reference, by_hand(CELLS[4]))
    assert out.h_n.item() == pytest.approx((1 - update) * candidate + update * H_PREV, abs=1e-15)
    # r = 0.495000, z = 0.529964, n = tanh(0.4 + 0.0297 - 0.2) = 0.225744
    assert out.h_n.item() == pytest.approx(-0.052882, abs=1e-6)
