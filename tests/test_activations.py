"""Activations: the reference by finite differences and by hand, the kernels beside it, and what layers take."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import _core
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


# --- the kernels


def full(notation: Notation) -> tuple[str, float, float]:
    return (name_of(notation), *(*activation(notation).parameters, 0.0, 0.0)[:2])  # type: ignore[return-value]


def test_the_kernels_know_the_same() -> None:
    assert _core.activations() == {name: f.parameters for name, f in ACTIVATIONS.items()}


@each_dtype
@each_notation
def test_kernels_beside_the_reference(notation: Notation, dtype: Any, isa: str) -> None:
    x = np.random.default_rng(0).normal(0, 3, 10_007).astype(dtype)
    value, slope = _core._activation(full(notation), x)
    wide, f = x.astype(np.float64), activation(notation)
    eps = np.finfo(dtype).eps
    near = np.min([np.abs(wide - k) for k in kinks(notation)] or [np.ones_like(wide)], axis=0) < 1e-3
    np.testing.assert_allclose(value, f.value(wide), rtol=8 * eps, atol=8 * eps, err_msg="value")
    np.testing.assert_allclose(slope[~near], f.slope(wide)[~near], rtol=0, atol=16 * eps, err_msg="slope")
    for n in range(1, 67):
        assert _core._activation(full(notation), x[:n])[0].tobytes() == value[:n].tobytes()


@each_dtype
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_infinities_and_nan_in_kernels(name: str, dtype: Any, isa: str) -> None:
    x = np.array([-INF, -3, 0, 0.5, 3, INF, NAN], dtype)
    value, slope = _core._activation(full(name), x)
    np.testing.assert_allclose(value, np.array([*VALUES[name], NAN], dtype), rtol=8 * np.finfo(dtype).eps, atol=1e-38)
    np.testing.assert_allclose(slope[[0, 2, 5]], SLOPES[name], rtol=0, atol=8 * np.finfo(dtype).eps)


# --- what layers take


def by_hand(x: np.ndarray[Any, Any], layer: fastrnn.Layer, notation: Notation) -> np.ndarray[Any, Any]:
    p, h, ys = layer.params, np.zeros((x.shape[1], layer.hidden_size)), []
    for x_t in x:
        sums = x_t @ p["weight_ih_l0"].T + p["bias_ih_l0"] + h @ p["weight_hh_l0"].T + p["bias_hh_l0"]
        h = activation(notation).value(sums)
        ys.append(h)
    return np.stack(ys)


def test_forms() -> None:
    x = np.random.default_rng(0).normal(size=(4, 2, 3))
    for notation in ("hard_sigmoid", ("hard_sigmoid",), ["hard_sigmoid", 0.2], ("hard_sigmoid", np.float32(0.2), 0.5)):
        for activations in ((notation,), [notation]):
            layer = fastrnn.RNN(3, 4, activations=activations, dtype=np.float64, seed=0)  # type: ignore[arg-type]
            np.testing.assert_allclose(layer(x)[0], by_hand(x, layer, "hard_sigmoid"), rtol=0, atol=1e-8)
    both = fastrnn.RNN(3, 4, activations=(("elu",), (("leaky_relu", 0.2),)), bidirectional=True, dtype=np.float64)
    y, _ = both(x)
    np.testing.assert_allclose(y[..., :4], by_hand(x, both, "elu"), rtol=0, atol=1e-12)
    same = fastrnn.RNN(3, 4, activations=("elu",), bidirectional=True, dtype=np.float64)
    same.load_state_dict(both.state_dict())
    assert np.array_equal(same(x)[0][..., :4], y[..., :4])
    assert not np.array_equal(same(x)[0][..., 4:], y[..., 4:])
    gates = (("hard_sigmoid", 0.2, 0.5), "softsign", "elu"), ("sigmoid", "tanh", "tanh")
    lstm = fastrnn.LSTM(3, 4, activations=gates, bidirectional=True, seed=0)
    one = fastrnn.LSTM(3, 4, activations=gates[0], seed=0)
    assert np.array_equal(lstm(x.astype("f"))[0][..., :4], one(x.astype("f"))[0])
    for again in (copy.deepcopy(lstm), pickle.loads(pickle.dumps(lstm))):
        assert np.array_equal(again(x.astype("f"))[0], lstm(x.astype("f"))[0])
    assert repr(one).startswith("LSTM(3, 4, activations=(('hard_sigmoid', 0.2, 0.5), 'softsign', 'elu'))")
    assert "activations" not in repr(fastrnn.LSTM(3, 4))


def test_what_cells_have_by_default_takes_the_plain_cells() -> None:
    kinds = [
        (fastrnn.RNN, ("tanh",), "rnn_tanh"),
        (fastrnn.RNN, ("relu",), "rnn_relu"),
        (fastrnn.GRU, ("sigmoid", "tanh"), "gru_reset_after"),
        (fastrnn.LSTM, ("sigmoid", "tanh", "tanh"), "lstm"),
    ]
    for kind, activations, cell in kinds:
        for directions in (False, True):
            layer: Any = kind(2, 3, activations=activations, bidirectional=directions)
            assert layer._spec.cell == cell
        assert kind(2, 3, activations=(activations, activations), bidirectional=True)._spec.cell == cell
        mixed = fastrnn.RNN(2, 3, activations=(("relu",), ("tanh",)), bidirectional=True)
        assert mixed._spec.cell == "rnn_general"


@pytest.mark.parametrize("kind", [fastrnn.RNN, fastrnn.GRU, fastrnn.LSTM])
def test_a_limit_that_is_never_met_changes_nothing(kind: type[fastrnn.Layer]) -> None:
    x = np.random.default_rng(0).normal(size=(4, 2, 3)).astype(np.float32)
    plain, general = kind(3, 5, seed=0), kind(3, 5, seed=0, gate_clip=1e300)
    infinite = kind(3, 5, seed=0, gate_clip=np.inf)
    assert np.array_equal(plain(x)[0], general(x)[0])
    assert np.array_equal(plain(x)[0], infinite(x)[0])
    dx, expected = (layer.backward(np.ones((4, 2, 5), np.float32))[0] for layer in (general, plain))
    np.testing.assert_allclose(dx, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "options", "error", "message"),
    [
        (fastrnn.RNN, {"activations": "relu"}, TypeError, r"RNN: activations is 'relu', expected a tuple \(f,\)"),
        (
            fastrnn.GRU,
            {"activations": ("tanh",)},
            ValueError,
            r"GRU: activations is \('tanh',\), expected a .* \(f, g\)",
        ),
        (fastrnn.LSTM, {"activations": ("tanh",) * 6}, ValueError, r"LSTM: .* expected a tuple \(f, g, h\)"),
        (
            fastrnn.LSTM,
            {"activations": ("tanh",) * 6, "bidirectional": True},
            ValueError,
            r"expected a tuple \(f, g, h\) or a tuple of two of these",
        ),
        (fastrnn.RNN, {"activations": ("gelu",)}, ValueError, "there is no activation 'gelu': did you mean 'elu'?"),
        (fastrnn.RNN, {"activations": ("HardSigmoid",)}, ValueError, "'HardSigmoid': did you mean 'hard_sigmoid'?"),
        (
            fastrnn.GRU,
            {"activations": (("elu", "elu"), ("elu",)), "bidirectional": True},
            ValueError,
            r"expected a tuple \(f, g\) or a tuple of two of these",
        ),
        (fastrnn.RNN, {"activations": ("linear",)}, ValueError, "'linear': did you mean 'identity'?"),
        (fastrnn.GRU, {"activations": (("elu", "elu"), ("elu", "elu"))}, ValueError, "are for bidirectional=True"),
        (
            fastrnn.RNN,
            {"activations": ("swish",)},
            ValueError,
            "RNN: there is no activation 'swish'; there are sigmoid",
        ),
        (fastrnn.RNN, {"activations": (1,)}, TypeError, "RNN: activations has 1, expected a name, or a tuple"),
        (fastrnn.RNN, {"activations": ((),)}, TypeError, r"RNN: activations has \(\), expected a name"),
        (
            fastrnn.RNN,
            {"activations": (("elu", 1, 2),)},
            ValueError,
            r"\('elu', 1, 2\), and elu has one parameter, alpha",
        ),
        (fastrnn.RNN, {"activations": (("tanh", 1),)}, ValueError, "and tanh has no parameters"),
        (
            fastrnn.RNN,
            {"activations": (("elu", "1"),)},
            TypeError,
            "RNN: alpha of elu is '1', expected a finite number",
        ),
        (fastrnn.RNN, {"activations": (("elu", np.nan),)}, ValueError, "RNN: alpha of elu is nan, expected a finite"),
        (
            fastrnn.RNN,
            {"activations": (("affine", 1, 1e39),)},
            ValueError,
            "beta of affine is 1e\\+39, expected a finite",
        ),
        (fastrnn.RNN, {"activations": ("elu",), "nonlinearity": "relu"}, ValueError, "leave one of them out"),
        (
            fastrnn.GRU,
            {"activations": ("elu", "elu"), "layer_norm": True},
            ValueError,
            "neither with gate_clip nor act",
        ),
        (fastrnn.GRU, {"gate_clip": 0}, ValueError, "GRU: gate_clip is 0, expected a number above 0"),
        (fastrnn.GRU, {"gate_clip": -1.0}, ValueError, "GRU: gate_clip is -1.0, expected a number above 0"),
        (fastrnn.RNN, {"gate_clip": np.nan}, ValueError, "RNN: gate_clip is nan, expected a number above 0"),
        (fastrnn.RNN, {"gate_clip": "1"}, TypeError, "RNN: gate_clip is '1', expected a number above 0"),
    ],
    ids=str,
)
def test_what_layers_refuse(kind: Any, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        kind(2, 3, **options)


@pytest.mark.parametrize("name", ["leaky_relu", "elu", "thresholded_relu"])
def test_what_has_no_gradient_says_so(name: str) -> None:
    x = np.random.default_rng(0).normal(size=(4, 2, 3))
    layer = fastrnn.RNN(3, 4, activations=((name, -0.3),), dtype=np.float64, seed=0)
    y, _ = layer(x)
    np.testing.assert_allclose(y, by_hand(x, layer, (name, -0.3)), rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match=f"RNN.backward: there is no gradient of {name} with a negative alpha"):
        layer.backward(y)
    both = fastrnn.GRU(3, 4, activations=(("sigmoid", "tanh"), ("sigmoid", (name, -0.3))), bidirectional=True)
    call = both.record(x.astype(np.float32))
    with pytest.raises(ValueError, match=f"GRU.backward: there is no gradient of {name}"):
        call.backward(call.y)
