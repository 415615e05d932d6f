"""The activations of the reference: finite differences, values worked by hand, infinities, NaN and large numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastrnn.reference.activations import ACTIVATIONS, Notation, activation, limited, limited_slope
from kinks import SPREAD, kinks, name_of
from problems import STEP

INF, NAN = np.inf, np.nan
NOTATIONS: list[Notation] = [*ACTIVATIONS, *(n for n in SPREAD if not isinstance(n, str))]
each_notation = pytest.mark.parametrize("notation", NOTATIONS, ids=str)
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])

# By name, with default parameters: f(-inf), f(-3), f(0), f(0.5), f(3), f(inf).
VALUES = {
    "sigmoid": (0, 1 / (1 + math.exp(3)), 0.5, 1 / (1 + math.exp(-0.5)), 1 / (1 + math.exp(-3)), 1),
    "tanh": (-1, math.tanh(-3), 0, math.tanh(0.5), math.tanh(3), 1),
    "relu": (0, 0, 0, 0.5, 3, INF),
    "hard_sigmoid": (0, 0, 0.5, 0.6, 1, 1),
    "affine": (-INF, -3, 0, 0.5, 3, INF),
    "leaky_relu": (-INF, -0.03, 0, 0.5, 3, INF),
    "thresholded_relu": (0, 0, 0, 0, 3, INF),
    "scaled_tanh": (-1, math.tanh(-3), 0, math.tanh(0.5), math.tanh(3), 1),
    "elu": (-1, math.exp(-3) - 1, 0, 0.5, 3, INF),
    "softsign": (-1, -0.75, 0, 1 / 3, 0.75, 1),
    "softplus": (0, math.log1p(math.exp(-3)), math.log(2), math.log1p(math.exp(0.5)), math.log1p(math.exp(3)), INF),
    "identity": (-INF, -3, 0, 0.5, 3, INF),
}
# f'(-inf), f'(0), f'(inf); 0 is a kink of some, where the lower branch counts.
SLOPES = {
    "sigmoid": (0, 0.25, 0),
    "tanh": (0, 1, 0),
    "relu": (0, 0, 1),
    "hard_sigmoid": (0, 0.2, 0),
    "affine": (1, 1, 1),
    "leaky_relu": (0.01, 0.01, 1),
    "thresholded_relu": (0, 0, 1),
    "scaled_tanh": (0, 1, 0),
    "elu": (0, 1, 1),
    "softsign": (0, 1, 0),
    "softplus": (0, 0.5, 1),
    "identity": (1, 1, 1),
}


def test_defaults_are_those_of_onnx() -> None:
    expected = {
        "hard_sigmoid": (0.2, 0.5),
        "affine": (1, 0),
        "leaky_relu": (0.01,),
        "thresholded_relu": (1,),
        "scaled_tanh": (1, 1),
        "elu": (1,),
    }
    assert {name: f.parameters for name, f in ACTIVATIONS.items() if f.parameters} == expected


def test_notation() -> None:
    assert activation("softsign") is not None
    assert activation("hard_sigmoid") == activation(("hard_sigmoid",)) == activation(("hard_sigmoid", 0.2, 0.5))
    assert activation(("hard_sigmoid", 0.3)).parameters == (0.3, 0.5)
    assert activation(("hard_sigmoid", 0.3, 0.4)).parameters == (0.3, 0.4)
    assert ACTIVATIONS["hard_sigmoid"].parameters == (0.2, 0.5)


@each_dtype
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_values(name: str, dtype: type) -> None:
    x = np.array([-INF, -3, 0, 0.5, 3, INF, NAN], dtype)
    got = activation(name).value(x)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, np.array([*VALUES[name], NAN], dtype), rtol=4 * np.finfo(dtype).eps)


def test_values_with_parameters() -> None:
    x = np.array([-2.0, 0.0, 0.5, 2.0])
    expected = {
        ("hard_sigmoid", 0.5, 0.25): (0, 0.25, 0.5, 1),
        ("affine", 3, -1): (-7, -1, 0.5, 5),
        ("leaky_relu", -0.5): (1, 0, 0.5, 2),
        ("thresholded_relu", 0.5): (0, 0, 0, 2),
        ("scaled_tanh", 3, 0.5): (-3 * math.tanh(1), 0, 3 * math.tanh(0.25), 3 * math.tanh(1)),
        ("elu", 2): (2 * math.exp(-2) - 2, 0, 0.5, 2),
    }
    assert {name for name, *_ in expected} == {name for name, f in ACTIVATIONS.items() if f.parameters}
    for notation, right in expected.items():
        np.testing.assert_allclose(activation(notation).value(x), right, rtol=1e-15, err_msg=str(notation))


@each_dtype
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_slopes(name: str, dtype: type) -> None:
    got = activation(name).slope(np.array([-INF, 0, INF], dtype))
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, np.array(SLOPES[name], dtype))


@each_notation
def test_slopes_are_finite_differences(notation: Notation) -> None:
    f = activation(notation)
    x = np.linspace(-4, 4, 1001)
    for kink in kinks(notation):
        x = x[np.abs(x - kink) > 2 * STEP]
    difference = (f.value(x + STEP) - f.value(x - STEP)) / (2 * STEP)
    np.testing.assert_allclose(f.slope(x), difference, rtol=0, atol=1e-9)


@each_notation
def test_at_a_kink_the_lower_branch_counts(notation: Notation) -> None:
    if name_of(notation) == "hard_sigmoid":
        return  # has none that counts there, and its ends are what rounding makes of them
    f = activation(notation)
    for kink in kinks(notation):
        at, below = f.slope(np.array([kink, kink - 1e-12]))
        assert at == pytest.approx(below, abs=1e-11)


def test_at_the_ends_of_hard_sigmoid_it_is_flat() -> None:
    slope = activation(("hard_sigmoid", 0.5, 0.5)).slope(np.array([-1.0, -0.5, 0.5, 1.0]))
    np.testing.assert_array_equal(slope, [0, 0.5, 0.5, 0])


@each_dtype
@each_notation
def test_large_numbers(notation: Notation, dtype: type) -> None:
    """They warn of nothing, which is an error in these tests, and give what infinities give, or tend to it."""
    f = activation(notation)
    most = np.finfo(dtype).max
    for x, limit in ((most, INF), (-most, -INF), (dtype(1000), INF), (dtype(-1000), -INF)):
        value, at_limit = f.value(np.array([x, limit], dtype))
        assert not np.isnan(value)
        if np.isfinite(at_limit):
            np.testing.assert_allclose(value, at_limit, atol=1e-3)
        else:
            assert np.sign(value) == np.sign(at_limit)
        slope, slope_at_limit = f.slope(np.array([x, limit], dtype))
        np.testing.assert_allclose(slope, slope_at_limit, atol=1e-5)


@each_notation
def test_nan_stays_nan(notation: Notation) -> None:
    value = activation(notation).value(np.array([NAN, 0.3]))
    assert np.isnan(value[0])
    assert np.isfinite(value[1])


def test_limited() -> None:
    a = np.array([-INF, -2, -1.5, 1, 2, 3, NAN])
    np.testing.assert_array_equal(limited(a, 2), [-2, -2, -1.5, 1, 2, 2, NAN])
    np.testing.assert_array_equal(limited(a, INF), a)
    np.testing.assert_array_equal(limited_slope(activation("identity"), a, 2), [0, 0, 1, 1, 0, 0, 0])
    np.testing.assert_array_equal(limited_slope(activation(("affine", 3)), a[1:-1], INF), [3] * 5)
