"""Long sums of float32: gradients of biases and tokens, norms and losses, over millions of rows and all magnitudes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import Embedding, Linear, _core, cross_entropy, mean_squared_error
from fastrnn.optim import clip_global_norm
from layer_problems import LAYERS
from problems import CELLS, Array, Cell

RELATIVE = 1e-6
ROWS = 4_000_000
# All of one sign and size, so that every rounding errs to the same side; and drawn.
TERMS = {"constant": lambda n: np.full(n, 0.1, np.float32), "drawn": lambda n: RNG.random(n, np.float32)}
RNG = np.random.default_rng(0)
each_terms = pytest.mark.parametrize("terms", TERMS)


def assert_sum(got: Any, terms: Array, what: str = "") -> None:
    exact = math.fsum(terms.astype(np.float64).ravel().tolist()) if terms.size < 10**6 else terms.sum(dtype=np.float64)
    assert abs(float(got) / exact - 1) < RELATIVE, what


@each_terms
@pytest.mark.parametrize("rows", [1, 15, 16, 17, 1000, 100_001, ROWS])
def test_column_sums(rows: int, terms: str, isa: str) -> None:
    for columns in (1, 3) if rows == ROWS else (1, 7, 17):
        a = TERMS[terms](rows * columns).reshape(rows, columns)
        got = _core.column_sums(a)
        assert (got.shape, got.dtype) == ((columns,), np.float32)
        for column in range(columns):
            assert_sum(got[column], a[:, column], f"{rows} rows, column {column} of {columns}")
    assert _core.column_sums(np.ones((0, 5))).tolist() == [0] * 5


def test_column_sums_of_what_is_not_finite(isa: str) -> None:
    a = np.ones((100, 5), np.float32)
    a[50] = np.inf, -np.inf, np.nan, np.inf, 3e38
    a[70] = 1, 1, 1, -np.inf, 3e38
    np.testing.assert_array_equal(_core.column_sums(a), [np.inf, -np.inf, np.nan, np.nan, np.inf])


@each_terms
def test_a_linear_layer(terms: str) -> None:
    layer = Linear(1, 2, seed=0)
    x, dy = np.ones((ROWS, 1), np.float32), TERMS[terms](2 * ROWS).reshape(ROWS, 2)
    layer.record(x)
    layer(x)
    layer.backward(dy)
    for column in range(2):
        assert_sum(layer.grads["bias"][column], dy[:, column])


@each_terms
def test_an_embedding(terms: str) -> None:
    layer = Embedding(3, 2, seed=0)
    tokens = np.zeros(ROWS, np.uint8)
    tokens[:10] = 2
    dy = TERMS[terms](2 * ROWS).reshape(ROWS, 2)
    gradient = layer.record(tokens).backward(dy).grads["weight"]
    for column in range(2):
        assert_sum(gradient[0, column], dy[10:, column])
        assert_sum(gradient[2, column], dy[:10, column])
    assert not gradient[1].any()


def zero_net(cell: Cell, H: int, I: int) -> tuple[Array, Array]:
    """Weights of zeros: then gates have the same derivatives in all steps, and gradients are plain sums."""
    return np.zeros((cell.gates * H, I), np.float32), np.zeros((cell.gates * H, H), np.float32)


@each_terms
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_biases_and_tokens_of_a_net(cell: Cell, terms: str, isa: str) -> None:
    """A million rows of three tokens, one of them rare; each gate's gradient beside the float64 kernels'."""
    T, B, H, I = 1000, 1000, 2, 4
    w_ih, w_hh = zero_net(cell, H, I)
    b_ih = np.linspace(0.3, 0.8, cell.gates * H).astype(np.float32)
    x = np.where(RNG.random((T, B)) < 0.7, 1, 3).astype(np.uint8)
    x[::100, 5] = 0  # ten times
    dy = TERMS[terms](T * B * H).reshape(T, B, H)
    forward, backward = (getattr(fastrnn, f"{cell.family}_{kind}") for kind in ("forward", "backward"))

    def gradients(dtype: Any) -> Any:
        w = w_ih.astype(dtype), w_hh.astype(dtype), b_ih.astype(dtype)
        return backward(forward(x, *w, **cell.options, training=True).tape, dy.astype(dtype))

    got, expected = gradients(np.float32), gradients(np.float64)
    for name in ("db_ih", "db_hh", "dw_ih"):
        a, right = getattr(got, name), getattr(expected, name)
        # A gate's own arithmetic may be a difference of nearly equal numbers: what it is off by counts by the largest.
        np.testing.assert_allclose(a, right, rtol=RELATIVE, atol=RELATIVE * np.abs(right).max(), err_msg=name)
        assert (right != 0).any()


@pytest.mark.parametrize("tokens", [False, True], ids=["dense", "tokens"])
@pytest.mark.parametrize(("family", "options"), [("lstm", {"peepholes": True}), ("indrnn", {}), ("gru", {})], ids=str)
def test_long_sequences_in_parts(family: str, options: dict[str, Any], tokens: bool) -> None:
    """Nothing is lost from part to part of what is computed again: the same bits, and a sum that is right."""
    T, I, H = 400_000, 3, 2
    layers = [LAYERS[family](I, H, dtype=dtype, seed=0, **options) for dtype in (np.float32, np.float64)]
    for p, wide in zip(layers[0].params.values(), layers[1].params.values(), strict=True):
        p *= np.float32(0.25)
        wide[...] = p
    x: Any = RNG.integers(0, I, (T, 1)) if tokens else RNG.random((T, 1, I), np.float32)
    dy = np.full((T, 1, H), 0.1, np.float32)
    whole, parts = (layers[0].record(x, recompute=again).backward(dy).grads for again in (False, True))
    exact = layers[1].record(x if tokens else x.astype(np.float64)).backward(dy.astype(np.float64)).grads
    for name, g in whole.items():
        assert g.tobytes() == parts[name].tobytes(), name
        matrices = ("weight_hh",) if tokens else ("weight_hh", "weight_ih")
        if family == "indrnn" or not name.startswith(matrices):
            largest = float(np.abs(exact[name]).max())
            np.testing.assert_allclose(g, exact[name], rtol=0, atol=4e-6 * largest, err_msg=name)


@each_terms
def test_norms(terms: str) -> None:
    for size in (1, 1000, ROWS):
        g = TERMS[terms](size)
        right = float(np.sqrt((g.astype(np.float64) ** 2).sum()))
        assert clip_global_norm([g.copy()], np.inf) == pytest.approx(right, rel=RELATIVE)
        halved = g.copy()
        clip_global_norm([halved[: size // 2], halved[size // 2 :]], right / 2)
        np.testing.assert_allclose(halved, g / 2, rtol=RELATIVE)


@pytest.mark.parametrize("magnitude", [1e-44, 1e-38, 1e-30, 1e-20, 1.0, 1e19, 1e20, 1e38, 3e38])
def test_norms_over_all_magnitudes(magnitude: float) -> None:
    g = np.full(4, magnitude, np.float32)
    right = 2 * float(g[0])
    assert clip_global_norm([g], 3.5e38 * 4) == pytest.approx(right, rel=RELATIVE)
    clipped = g.copy()
    assert clip_global_norm([clipped], right / 4) == pytest.approx(right, rel=RELATIVE)
    denormal = 1.4e-45 / float(g[0])  # below the smallest normal number there are fewer digits
    np.testing.assert_allclose(clipped, g * 0.25, rtol=RELATIVE + denormal)
    one = g.copy()
    clip_global_norm([one], 1.0)
    if right > 1:
        np.testing.assert_allclose(one, 0.5, rtol=RELATIVE)


@pytest.mark.parametrize("magnitude", [1e-300, 1e-160, 1e-100, 1e150, 1e155, 1e300])
def test_norms_of_float64(magnitude: float) -> None:
    g = np.full(9, magnitude)
    assert clip_global_norm([g], 1e308) == pytest.approx(3 * magnitude, rel=1e-13)
    clip_global_norm([g], magnitude)
    np.testing.assert_allclose(g, magnitude / 3, rtol=1e-13)


def test_norms_that_are_not_finite_clip_nothing() -> None:
    for bad in (np.inf, -np.inf, np.nan):
        g = np.array([1.0, bad], np.float32)
        before = g.copy()
        assert not math.isfinite(clip_global_norm([g], 1.0))
        np.testing.assert_array_equal(g, before)
    assert clip_global_norm([], 1.0) == 0
    assert clip_global_norm([np.zeros(3)], 0.0) == 0


# --- losses


def exact_cross_entropy(logits: Array, targets: Array) -> tuple[float, Array]:
    """By logarithms of quotients in long double, term by term."""
    wide = logits.astype(np.longdouble)
    differences = wide - np.take_along_axis(wide, targets[:, None], 1)  # the loss is log(1 + exp of all others')
    largest = np.maximum(differences.max(1), 0)
    others = np.exp(differences - largest[:, None])
    np.put_along_axis(others, targets[:, None], 0, 1)
    own = np.exp(-largest)
    losses = largest + np.where(own == 1, np.log1p(others.sum(1)), np.log(own + others.sum(1)))
    return float(losses.mean()), np.asarray(losses, np.float64)


def test_means_that_can_be_held_where_the_sums_cannot() -> None:
    loss, _ = cross_entropy(np.tile([[1e305, 0.0]], (5000, 1)), np.ones(5000, int))
    assert loss == pytest.approx(1e305, rel=1e-12)
    loss, _ = mean_squared_error(np.full((4, 10), 1.2e154), np.zeros((4, 10)))
    assert loss == pytest.approx(1.44e308, rel=1e-12)
    assert (
        cross_entropy(np.array([[np.inf, 0.0]]), np.array([1]))[0] != cross_entropy(np.zeros((1, 2)), np.array([1]))[0]
    )
    g = np.array([1e300, -2e300, 0.0])
    assert clip_global_norm([g], 1e-24) == pytest.approx(5**0.5 * 1e300)
    np.testing.assert_allclose(g, np.array([1, -2, 0]) * 1e-24 / 5**0.5, rtol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 10.0, 80.0, 1e4, 1e30, 1.7e38])
def test_cross_entropy_over_all_magnitudes(scale: float, dtype: Any) -> None:
    rng = np.random.default_rng(1)
    logits = (rng.uniform(-2, 2, (50, 4)) * scale).astype(dtype)
    targets = rng.integers(0, 4, 50)
    loss, gradient = cross_entropy(logits, targets)
    right, _ = exact_cross_entropy(logits, targets)
    assert loss == pytest.approx(right, rel=1e-6 if dtype == np.float32 else 1e-12)
    assert np.isfinite(gradient).all()
    assert gradient.dtype == dtype


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("margin", [1.0, 10.0, 20.0, 40.0, 80.0])
def test_cross_entropy_of_what_is_nearly_certain_does_not_vanish(margin: float, dtype: Any) -> None:
    loss, gradient = cross_entropy(np.array([[0, -margin, -margin]], dtype), np.array([0]))
    tail = math.exp(-margin)
    assert loss == pytest.approx(math.log1p(2 * tail), rel=1e-6)
    np.testing.assert_allclose(gradient[0], np.array([-2 * tail, tail, tail]) / (1 + 2 * tail), rtol=1e-6)


def test_cross_entropy_of_a_class_that_cannot_be() -> None:
    loss, gradient = cross_entropy(np.array([[-np.inf, 0.0, 0.0]]), np.array([1]))
    assert loss == pytest.approx(math.log(2))
    np.testing.assert_allclose(gradient, [[0, -0.5, 0.5]])
    assert cross_entropy(np.array([[-np.inf, 0.0]]), np.array([0]))[0] == math.inf


@each_terms
def test_mean_squared_error_of_many_rows(terms: str) -> None:
    y = TERMS[terms](ROWS).reshape(-1, 1)
    loss, gradient = mean_squared_error(y, np.zeros_like(y))
    assert loss == pytest.approx(float((y.astype(np.float64) ** 2).mean()), rel=RELATIVE)
    np.testing.assert_allclose(gradient, y.astype(np.float64) * 2 / ROWS, rtol=RELATIVE)


@pytest.mark.parametrize("magnitude", [1e-38, 1e-25, 1.0, 1e20, 3e38])
def test_mean_squared_error_over_all_magnitudes(magnitude: float) -> None:
    y = np.full((4, 8), magnitude, np.float32)
    loss, gradient = mean_squared_error(y, -y)
    assert loss == pytest.approx((2 * float(y[0, 0])) ** 2, rel=RELATIVE)
    np.testing.assert_allclose(gradient, y.astype(np.float64) / 8, rtol=RELATIVE + 1.4e-45 / magnitude)


def test_many_rows_of_a_loss_are_parts_of_it() -> None:
    """More than is worked on at a time, beside the same in float64 at once."""
    logits, targets = RNG.normal(size=(200_000, 60)).astype(np.float32), RNG.integers(0, 60, 200_000)
    loss, gradient = cross_entropy(logits, targets)
    wide = logits.astype(np.float64)
    shifted = np.exp(wide - wide.max(1, keepdims=True))
    softmax = shifted / shifted.sum(1, keepdims=True)
    rows = np.arange(200_000)
    assert loss == pytest.approx(float(-np.log(softmax[rows, targets]).mean()), rel=1e-6)
    softmax[rows, targets] -= 1
    np.testing.assert_allclose(gradient, softmax / 200_000, rtol=2e-6, atol=1e-13)
