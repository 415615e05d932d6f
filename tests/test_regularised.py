"""Recurrent dropout and zoneout: the reference by finite differences, the kernels beside it, and layers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import _core, reference
from fastrnn._base.parts import dropout_mask
from fastrnn._layer.noise import Noise
from fastrnn.reference.regularised import regularised_backward, regularised_forward
from layer_problems import LAYERS, VARIANTS
from problems import CELLS, Array, Cell, central_difference, finite_difference, make_smooth_problem
from tolerances import gradient_tolerance, output_tolerance

Arrays = dict[str, Array]
WEIGHTS = ("w_ih", "w_hh", "b_ih", "b_hh")

each_cell = pytest.mark.parametrize("cell", CELLS, ids=str)


def draw(cell: Cell, T: int, B: int, I: int, H: int, *, shared: bool = False) -> Arrays:
    """A problem with a mask and shares to keep: as in training, or with one ``shared`` row, as in inference."""
    problem = make_smooth_problem(cell, T, B, I, H, dtype=np.float32).astype(np.float64)
    a = {k: v for k, v in (problem.inputs | problem.upstream).items() if v is not None}
    rng = np.random.default_rng([T, B, I, H])
    a["mask"] = 1.25 * (rng.random((B, H)) < 0.8)
    for s in cell.state_names:
        keep = np.broadcast_to(rng.choice([0.5, 0.75], H), (T, B, H)) if shared else rng.random((T, B, H)) < 0.7
        a[f"keep_{s}"] = keep.astype(np.float64)
    return a


def functions(cell: Cell) -> tuple[Callable[..., Any], Callable[..., Any]]:
    forward = getattr(reference, f"{cell.family}_forward")
    return lambda *a, **k: forward(*a, **k, **cell.options), getattr(reference, f"{cell.family}_backward")


def solve(cell: Cell, a: Arrays) -> Arrays:
    forward, backward = functions(cell)
    keep = tuple(a[f"keep_{s}"] for s in cell.state_names)
    states, tapes = regularised_forward(
        forward, a["x"], tuple(a[w] for w in WEIGHTS), tuple(a[f"{s}0"] for s in cell.state_names), a["mask"], keep
    )
    dstates = tuple(a[f"d{s}_n"] for s in cell.state_names)
    dx, dweights, dstates_0 = regularised_backward(backward, tapes, a["dy"], dstates, a["mask"], keep)
    found = {"y": states[0][1:], "dx": dx, **{f"d{w}": d for w, d in zip(WEIGHTS, dweights, strict=True)}}
    for s, all_s, d in zip(cell.state_names, states, dstates_0, strict=True):
        found |= {f"{s}_n": all_s[-1], f"d{s}0": d}
    return found


def solve_by_kernels(cell: Cell, a: Arrays, dtype: Any, *, shared: bool) -> Arrays:
    a = {k: v.astype(dtype) for k, v in a.items()}
    T, B, H = a["dy"].shape
    keep = [a[f"keep_{s}"].reshape(T * B, H) for s in cell.state_names]
    regularised = (a["mask"], *(k[:1].copy() if shared else k for k in keep))
    states = (a["h0"], a.get("c0"))
    y, *state_n, tape = _core.forward(
        cell.name, True, True, None, None, a["x"], *(a[w] for w in WEIGHTS), *states, None, None, regularised
    )
    traced = _core.trace(tape)
    assert np.array_equal(traced["h"], y)
    dx, *dweights, _, dh0, dc0, dh = (
        *_core.backward(cell.family, tape, None, True, a["dy"], a["dh_n"], a.get("dc_n")),
        *[None] * (2 - cell.states),
    )
    if cell.states == 1:
        dh, dc0 = dc0, None
    assert dh.shape == y.shape
    found = {"y": y, "dx": dx, **{f"d{w}": d for w, d in zip(WEIGHTS, dweights, strict=True)}, "dh0": dh0}
    if dc0 is not None:
        found["dc0"] = dc0
    return found | {f"{s}_n": v for s, v in zip(cell.state_names, state_n, strict=True)}


@each_cell
def test_gradients_are_finite_differences(cell: Cell) -> None:
    a = draw(cell, 4, 2, 3, 4)
    a["keep_h"] = np.where(a["keep_h"] > 0, 0.75, 0.25)  # shares between 0 and 1 say more

    def loss() -> float:
        found = solve(cell, a)
        states = sum(float((found[f"{s}_n"] * a[f"d{s}_n"]).sum()) for s in cell.state_names)
        return float((found["y"] * a["dy"]).sum()) + states

    expected = solve(cell, a)
    for name in ("x", *WEIGHTS, *(f"{s}0" for s in cell.state_names)):
        gradient = finite_difference(loss, a[name])
        np.testing.assert_allclose(expected[f"d{name}"], gradient, rtol=0, atol=1e-8, err_msg=name)


@pytest.mark.parametrize("shared", [False, True], ids=["each", "shared"])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 2, 3, 7), (5, 7, 4, 16), (40, 1, 3, 33), (9, 33, 5, 17)], ids=str)
@each_cell
def test_kernels(cell: Cell, shape: tuple[int, int, int, int], shared: bool, isa: str) -> None:
    T, B, I, H = shape
    a = draw(cell, *shape, shared=shared)
    expected = solve(cell, a)
    for dtype in (np.float32, np.float64):
        found = solve_by_kernels(cell, a, dtype, shared=shared)
        assert found.keys() == expected.keys()
        for name, right in expected.items():
            if name.startswith("d"):
                allowed = gradient_tolerance(dtype, terms=I + cell.gates * H, rows=T * B)
            else:
                allowed = output_tolerance(dtype, terms=I + H)
            assert found[name].dtype == dtype
            error = np.abs(found[name] - right).max()
            assert error <= allowed * max(1.0, np.abs(right).max()), (isa, name)


# --- layers


def regularised(family: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options with all that goes together with them."""
    dropped = {"recurrent_dropout": 0.25} if LAYERS[family]._family.recurrent else {}
    return options | dropped | ({} if "proj_size" in options else {"zoneout": 0.3})


KINDS: list[tuple[type[fastrnn.Layer], dict[str, Any]]] = [
    *((LAYERS[family], regularised(family, options)) for family, options in VARIANTS),
    (fastrnn.LSTM, {"recurrent_dropout": 0.25}),
    (fastrnn.LSTM, {"recurrent_dropout": 0.25, "zoneout": (0.05, 0.5)}),
]
each_kind = pytest.mark.parametrize(
    ("kind", "options"), KINDS, ids=lambda v: v.__name__ if isinstance(v, type) else str(v)
)
T, B, I, H = 9, 5, 7, 11


def normal(*shape: int, dtype: Any = np.float64) -> Array:
    return np.random.default_rng(list(shape)).standard_normal(shape).astype(dtype)


def everything(layer: fastrnn.Layer, x: Array, **options: Any) -> list[Array]:
    layer.rng = np.random.default_rng(7)
    y, state = layer(x, **options)
    dx, dstate = layer.backward(np.cos(np.arange(y.size, dtype=y.dtype)).reshape(y.shape))
    assert dx is not None
    states = (*state, *dstate) if isinstance(state, tuple) else (state, dstate)
    return [y, dx, *states, *layer.grads.values()]


def test_what_a_layer_draws_is_what_the_reference_gets() -> None:
    layer = fastrnn.LSTM(I, H, recurrent_dropout=0.25, zoneout=(0.05, 0.5), dtype=np.float64, seed=0)
    x = normal(T, B, I)
    noise = Noise(copy.deepcopy(layer.rng))
    y, (h_n, c_n) = layer(x)
    mask = dropout_mask(noise.rng("recurrent_dropout", "_l0"), 0.25, (B, H), np.float64)  # all steps share it
    shares = 0.05, 0.5
    keep = [k.reshape(T, B, H) for k in noise.kept("zoneout", "_l0", T * B, shares, H, np.float64) if k is not None]
    for p, k in zip(shares, keep, strict=True):
        assert set(np.unique(k)) == {0, 1}
        assert abs(k.mean() - (1 - p)) < 4 * (p * (1 - p) / k.size) ** 0.5  # within four standard deviations
    zeros = np.zeros((B, H))
    states, _ = regularised_forward(reference.lstm_forward, x, tuple(layer.params.values()), (zeros, zeros), mask, keep)
    for got, expected in ((y, states[0][1:]), (h_n[0], states[0][-1]), (c_n[0], states[1][-1])):
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-13)
    assert not np.array_equal(layer(x)[0], y)


@each_kind
def test_seeds_threads_and_recomputing_change_no_bit(
    kind: type[fastrnn.Layer], options: dict[str, Any], set_threads: Callable[[int], None]
) -> None:
    layer = kind(I, 70, 2, dropout=0.2, seed=0, **options)
    x = normal(150, 20, I, dtype=np.float32)
    set_threads(1)
    expected = everything(layer, x)
    for threads, recompute in ((1, False), (2, False), (3, True)):
        set_threads(threads)
        for got, right in zip(everything(layer, x, recompute=recompute), expected, strict=True):
            np.testing.assert_array_equal(got, right)


@pytest.mark.parametrize("bidirectional", [False, True])
@each_kind
def test_gradients_with_lengths(kind: type[fastrnn.Layer], options: dict[str, Any], bidirectional: bool) -> None:
    layer = kind(2, 6, 2, bidirectional=bidirectional, dtype=np.float64, seed=0, **options)
    x, lengths = normal(5, 3, 2), np.array([2, 5, 0])

    def loss() -> float:
        y = everything(layer, x, lengths=lengths)[0]
        return float((y * np.cos(np.arange(y.size)).reshape(y.shape)).sum())

    _, dx, *_ = everything(layer, x, lengths=lengths)
    grads = {name: g.copy() for name, g in layer.grads.items()}
    rng = np.random.default_rng(0)
    for array, gradient in ((x, dx), *((layer.params[name], g) for name, g in grads.items())):
        for _ in range(3):
            index = tuple(rng.integers(n) for n in array.shape)
            difference = central_difference(loss, array, index)
            np.testing.assert_allclose(gradient[index], difference, rtol=1e-7, atol=1e-8)


def test_inference_is_what_is_to_be_expected() -> None:
    x = normal(1, B, I)
    plain = fastrnn.LSTM(I, H, dtype=np.float64, seed=0).eval()
    h0, c0 = normal(1, B, H), normal(1, B, H) / 2
    h, c = (s[0] for s in plain(x, (h0, c0))[1])
    dropout = fastrnn.LSTM(I, H, recurrent_dropout=0.5, dtype=np.float64, seed=0).eval()
    np.testing.assert_array_equal(dropout(x, (h0, c0))[0][0], h)
    zoneout = fastrnn.LSTM(I, H, zoneout=(0.1, 0.4), dtype=np.float64, seed=0).eval()
    y, (h_n, c_n) = zoneout(x, (h0, c0))
    np.testing.assert_allclose(y[0], 0.9 * h + 0.1 * h0[0], rtol=1e-14)
    np.testing.assert_array_equal(h_n[0], y[0])
    np.testing.assert_allclose(c_n[0], 0.6 * c + 0.4 * c0[0], rtol=1e-14)


@each_kind
def test_streams(kind: type[fastrnn.Layer], options: dict[str, Any], isa: str) -> None:
    layer = kind(I, H, 3, seed=0, **options).eval()
    x = normal(T, B, I, dtype=np.float32)
    stream = layer.stream(B)
    assert np.array_equal(np.stack([stream.step(step) for step in x]), layer(x)[0]), isa


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: fastrnn.GRU(2, 3, recurrent_dropout=1),
            ValueError,
            "GRU: recurrent_dropout is 1, expected a number from 0",
        ),
        (
            lambda: fastrnn.GRU(2, 3, zoneout=-0.1),
            ValueError,
            "GRU: zoneout is -0.1, expected a number from 0 to below 1",
        ),
        (lambda: fastrnn.LSTM(2, 3, zoneout=(0.1, 1.0)), ValueError, r"LSTM: zoneout is 1.0, expected"),
        (lambda: fastrnn.LSTM(2, 3, zoneout=(0.1,)), ValueError, r"LSTM: zoneout is \(0.1,\), expected a number, or 2"),
        (lambda: fastrnn.MinGRU(2, 3, recurrent_dropout=0.1), ValueError, "there is no weight_hh"),
        (lambda: fastrnn.LSTM(2, 3, proj_size=2, zoneout=0.1), ValueError, "zoneout does not go together with proj_"),
        (lambda: fastrnn.LSTM(2, 3, proj_size=3), ValueError, "LSTM: proj_size is 3, expected below hidden_size = 3"),
        (lambda: fastrnn.LSTM(2, 3, proj_size=1.0), TypeError, "LSTM: proj_size is 1.0, expected an int"),
        (
            lambda: fastrnn.LSTM(2, 3, proj_size=2, layer_norm=True),
            ValueError,
            "layer_norm does not go together with pr",
        ),
        (
            lambda: fastrnn.LSTM(2, 3, coupled=True, layer_norm=True),
            ValueError,
            "together neither with peepholes, coup",
        ),
        (lambda: fastrnn.GRU(2, 3, gate_clip=1, layer_norm=True), ValueError, "neither with gate_clip nor activations"),
    ],
)
def test_bad_arguments(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("regularised", "error", "message"),
    [
        ((np.ones((B, H)), None), TypeError, "regularised is a tuple"),
        ((np.ones((B, H - 1)), None, None), ValueError, r"mask has shape \(5, 10\)"),
        ((None, np.ones((3, H)), None), ValueError, r"keep has shape \(3, 11\), expected \(N, H\) = \(45, 11\)"),
        ((None, np.ones((1, H)), np.ones((T * B, H))), ValueError, "different numbers of rows"),
        ((np.ones((B, 2 * H))[:, ::2], None, None), ValueError, "mask is read-only or has gaps"),
        ((None, np.ones((1, H), np.float32), None), TypeError, "keep has dtype float32"),
    ],
)
def test_the_core_checks(regularised: Any, error: type[Exception], message: str) -> None:
    a = normal(T, B, I), normal(4 * H, I), normal(4 * H, H)
    with pytest.raises(error, match=message):
        _core.forward("lstm", True, True, None, None, *a, None, None, None, None, None, None, regularised)
