"""The cells that only layers have: their references by finite differences, and the kernels beside the references."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import fastrnn
from fastrnn.reference.indrnn import indrnn_backward, indrnn_forward
from fastrnn.reference.lstm_peephole import lstm_peephole_backward, lstm_peephole_forward
from fastrnn.reference.lstm_projected import lstm_projected_backward, lstm_projected_forward
from fastrnn.reference.mingru import mingru_backward, mingru_forward
from fastrnn.reference.normalised import normalised_backward, normalised_forward
from problems import Array, finite_difference
from tolerances import gradient_tolerance, output_tolerance

Arrays = dict[str, Array]


class Variant(NamedTuple):
    kind: Callable[..., fastrnn.Layer]
    options: dict[str, Any]  # a proj_size of "some" is one that fits the hidden size
    solve: Callable[[dict[str, Any], Arrays], Arrays]  # options, and all inputs and upstream gradients by name

    def layer(self, I: int, H: int, **options: Any) -> fastrnn.Layer:
        mine = {k: max(1, H // 2) if v == "some" else v for k, v in self.options.items()}
        return self.kind(I, H, **mine, **options)

    def __str__(self) -> str:
        return "-".join([self.kind.__name__, *(f"{k}={v}" for k, v in self.options.items())])


def solve_lstm(options: dict[str, Any], a: Arrays) -> Arrays:
    peepholes = a.get("weight_ch", np.zeros_like(a["weight_hh"], shape=(3, a["h0"].shape[1])))
    tape = lstm_peephole_forward(
        a["x"],
        a["weight_ih"],
        a["weight_hh"],
        a.get("bias_ih"),
        a.get("bias_hh"),
        peepholes,
        a["h0"],
        a["c0"],
        coupled=options.get("coupled", False),
        limit=options.get("cell_clip", np.inf),
        gate_limit=options.get("gate_clip", np.inf),
    )
    g = lstm_peephole_backward(tape, a["dy"], a["dh_n"], a["dc_n"])
    found = {"x": g.dx, "weight_ih": g.dw_ih, "weight_hh": g.dw_hh, "bias_ih": g.db, "bias_hh": g.db}
    return outputs(tape, found | {"weight_ch": g.dpeepholes, "h0": g.dh0, "c0": g.dc0}, a)


def solve_projected(options: dict[str, Any], a: Arrays) -> Arrays:
    biases = a.get("bias_ih"), a.get("bias_hh")
    tape = lstm_projected_forward(a["x"], a["weight_ih"], a["weight_hh"], *biases, a["weight_hr"], a["h0"], a["c0"])
    g = lstm_projected_backward(tape, a["dy"], a["dh_n"], a["dc_n"])
    found = {"x": g.dx, "weight_ih": g.dw_ih, "weight_hh": g.dw_hh, "bias_ih": g.db, "bias_hh": g.db}
    return outputs(tape, found | {"weight_hr": g.dw_hr, "h0": g.dh0, "c0": g.dc0}, a)


def solve_normalised(options: dict[str, Any], a: Arrays) -> Arrays:
    shift = a.get("bias_ln", np.zeros_like(a["weight_ln"]))
    tape = normalised_forward(a["x"], a["weight_ih"], a["weight_hh"], a["weight_ln"], shift, a["h0"], a.get("c0"))
    g = normalised_backward(tape, a["dy"], a["dh_n"], a.get("dc_n"))
    found = {"x": g.dx, "weight_ih": g.dw_ih, "weight_hh": g.dw_hh, "weight_ln": g.dgain, "bias_ln": g.dshift}
    return outputs(tape, found | {"h0": g.dh0, "c0": g.dc0}, a)


def solve_indrnn(options: dict[str, Any], a: Arrays) -> Arrays:
    tape = indrnn_forward(a["x"], a["weight_ih"], a["weight_hh"], a.get("bias_ih"), a["h0"], **options)
    g = indrnn_backward(tape, a["dy"], a["dh_n"])
    return outputs(tape, {"x": g.dx, "weight_ih": g.dw_ih, "weight_hh": g.du, "bias_ih": g.db, "h0": g.dh0}, a)


def solve_mingru(options: dict[str, Any], a: Arrays) -> Arrays:
    tape = mingru_forward(a["x"], a["weight_ih"], a.get("bias_ih"), a["h0"])
    g = mingru_backward(tape, a["dy"], a["dh_n"])
    return outputs(tape, {"x": g.dx, "weight_ih": g.dw_ih, "bias_ih": g.db, "h0": g.dh0}, a)


def outputs(tape: Any, gradients: dict[str, Array | None], a: Arrays) -> Arrays:
    states = {f"{s}_n": getattr(tape, s)[-1] for s in "hc" if f"{s}0" in a}
    return {"y": tape.h[1:], **states, **{f"d{k}": g for k, g in gradients.items() if k in a and g is not None}}


VARIANTS = [
    Variant(fastrnn.LSTM, {"peepholes": True}, solve_lstm),
    Variant(fastrnn.LSTM, {"coupled": True}, solve_lstm),
    Variant(fastrnn.LSTM, {"cell_clip": 0.3}, solve_lstm),
    Variant(fastrnn.LSTM, {"gate_clip": 0.7}, solve_lstm),
    Variant(fastrnn.LSTM, {"peepholes": True, "gate_clip": 0.7}, solve_lstm),
    Variant(fastrnn.LSTM, {"peepholes": True, "coupled": True, "cell_clip": 0.3, "gate_clip": 0.7}, solve_lstm),
    Variant(fastrnn.LSTM, {"proj_size": "some"}, solve_projected),
    Variant(fastrnn.LSTM, {"layer_norm": True}, solve_normalised),
    Variant(fastrnn.GRU, {"layer_norm": True}, solve_normalised),
    Variant(fastrnn.IndRNN, {}, solve_indrnn),
    Variant(fastrnn.IndRNN, {"nonlinearity": "tanh"}, solve_indrnn),
    Variant(fastrnn.MinGRU, {}, solve_mingru),
]
each_variant = pytest.mark.parametrize("variant", VARIANTS, ids=str)


def draw(variant: Variant, T: int, B: int, I: int, H: int, *, bias: bool = True, tokens: bool = False) -> Arrays:
    """All inputs of a layer and all gradients that arrive at its outputs, in float64 that float32 can hold."""
    rng = np.random.default_rng([T, B, I, H])

    def uniform(*shape: int, scale: float = 1.0) -> Array:
        return rng.uniform(-scale, scale, shape).astype(np.float32).astype(np.float64)

    layer = variant.layer(I, H, bias=bias)
    # Small enough that errors of earlier steps fade.
    scales = {
        "weight_ch": 0.3,
        "weight_ih": 1.5 / np.sqrt(max(I, 1)),
        "weight_hh": 0.9 if layer._family.name == "indrnn" else H**-0.5,
    }
    a = {
        name.removesuffix("_l0"): uniform(*p.shape, scale=scales.get(name.removesuffix("_l0"), 1.0))
        for name, p in layer.params.items()
    }
    a["x"] = rng.integers(0, I, (T, B)) if tokens else uniform(T, B, I)
    sizes = (layer.proj_size or H, H)
    a["dy"] = uniform(T, B, sizes[0])
    for s, size in zip("hc"[: layer._family.states], sizes, strict=False):
        a |= {f"{s}0": uniform(B, size, scale=0.25), f"d{s}_n": uniform(B, size)}
    return a


def solve_by_layer(variant: Variant, a: Arrays, dtype: Any) -> Arrays:
    a = {name: v if v.dtype.kind == "i" else v.astype(dtype) for name, v in a.items()}
    I = a["weight_ih"].shape[1]
    layer = variant.layer(I, hidden_size(a), bias="bias_ih" in a or "bias_ln" in a, dtype=dtype)
    layer.load_state_dict({name: a[name.removesuffix("_l0")] for name in layer.params})
    names = "hc"[: layer._family.states]
    given, back = (
        tuple(a[pattern.format(s)][None] for s in names) if len(names) > 1 else a[pattern.format("h")][None]
        for pattern in ("{}0", "d{}_n")
    )
    y, state = layer(a["x"], given)
    dx, dstate = layer.backward(a["dy"], back)
    found = {"y": y, **({} if dx is None else {"dx": dx})}
    for s, after, before in zip(names, as_tuple(state), as_tuple(dstate), strict=True):
        found |= {f"{s}_n": after[0], f"d{s}0": before[0]}
    return found | {f"d{name.removesuffix('_l0')}": g for name, g in layer.grads.items()}


def hidden_size(a: Arrays) -> int:
    return a["c0" if "c0" in a else "h0"].shape[1]


def as_tuple(state: Any) -> tuple[Array, ...]:
    return state if isinstance(state, tuple) else (state,)


# --- the references


@pytest.mark.parametrize("tokens", [False, True], ids=["dense", "tokens"])
@each_variant
def test_gradients_are_finite_differences(variant: Variant, tokens: bool) -> None:
    a = draw(variant, 4, 2, 3, 4, tokens=tokens)

    def loss() -> float:
        found = variant.solve(variant.options, a)
        return float((found["y"] * a["dy"]).sum()) + sum(
            float((found[f"{s}_n"] * a[f"d{s}_n"]).sum()) for s in "hc" if f"d{s}_n" in a
        )

    expected = variant.solve(variant.options, a)
    if "cell_clip" in variant.options:
        assert (np.abs(expected["c_n"]) == variant.options["cell_clip"]).any()
        assert (np.abs(expected["c_n"]) < variant.options["cell_clip"]).any()
    names = [n for n in a if not n.startswith("d") and not (n == "x" and tokens)]
    assert {f"d{n}" for n in names} == {n for n in expected if n.startswith("d")}
    for name in names:
        gradient = finite_difference(loss, a[name])
        np.testing.assert_allclose(expected[f"d{name}"], gradient, rtol=0, atol=1e-8, err_msg=name)


def test_by_hand() -> None:
    """One step from h' = 0.5 and c' = 1, all sums 0 but for what the variant adds."""
    one, zero = np.ones((1, 1)), np.zeros((1, 1))
    w = np.zeros((4, 1))
    tape = lstm_peephole_forward(zero[None], w, w, None, None, np.array([[1.0], [2.0], [3.0]]), zero, one)
    c = 1 / (1 + np.exp(-2))  # f * c', with g = 0
    np.testing.assert_allclose(tape.c[1], c)
    np.testing.assert_allclose(tape.h[1], np.tanh(c) / (1 + np.exp(-3 * c)))
    tape = lstm_peephole_forward(zero[None], w, w, None, None, np.zeros((3, 1)), zero, one, coupled=True, limit=0.2)
    np.testing.assert_allclose(tape.gates[0, 1], 0.5)
    np.testing.assert_allclose(tape.c[1], 0.2)
    assert indrnn_forward(one[None], one * 2, one[0] * -3, one[0], one * 0.5).h[1] == 1.5  # 2 + 1 - 3 / 2
    tape = mingru_forward(one[None], np.array([[0.0], [3.0]]), np.array([0.0, 1.0]), one * 0.5)
    assert tape.h[1] == 0.5 * 0.5 + 0.5 * 4


# --- the kernels


def check(variant: Variant, isa: str, a: Arrays) -> None:
    (T, B, _), H = a["dy"].shape, hidden_size(a)
    expected = variant.solve(variant.options, a)
    terms = a["weight_ih"].shape[1] + 5 * H
    for dtype in (np.float32, np.float64):
        found = solve_by_layer(variant, a, dtype)
        assert found.keys() == expected.keys()
        for name, right in expected.items():
            got = found[name]
            assert got.dtype == dtype
            assert got.shape == right.shape
            if name.startswith("d"):
                allowed = gradient_tolerance(dtype, terms=terms, rows=T * B)
            else:
                allowed = output_tolerance(dtype, terms=terms)
            # What lies within rounding of a kink, relu's or the limit's, may fall to either side: none of these do.
            worst = np.abs(got - right).max(initial=0)
            assert worst <= allowed * max(1.0, np.abs(right).max(initial=0)), (str(variant), isa, a["dy"].shape, name)


@pytest.mark.parametrize("isa", fastrnn.available_isas(), indirect=True)
@pytest.mark.parametrize("H", [1, 7, 8, 9, 16, 17, 33, 64], ids="H{}".format)
@each_variant
def test_every_shape(variant: Variant, H: int, isa: str) -> None:
    if "proj_size" in variant.options and H == 1:
        return  # nothing lies below it
    for T, B, I in (
        (1, 1, 1),
        (2, 3, 7),
        (5, 6, 8),
        (5, 33, 17),
        (40, 1, 3),
        (40, 7, 33),
        (0, 3, 2),
        (3, 0, 2),
        (2, 3, 0),
    ):
        check(variant, isa, draw(variant, T, B, I, H))
    check(variant, isa, draw(variant, 5, 7, 9, H, bias=False))
    check(variant, isa, draw(variant, 5, 7, 9, H, tokens=True))


def test_names_of_parameters() -> None:
    assert list(fastrnn.LSTM(2, 3, peepholes=True).params) == [
        "weight_ih_l0",
        "weight_hh_l0",
        "weight_ch_l0",
        "bias_ih_l0",
        "bias_hh_l0",
    ]
    shapes = {name: p.shape for name, p in fastrnn.IndRNN(2, 3).params.items()}
    assert shapes == {"weight_ih_l0": (3, 2), "weight_hh_l0": (3,), "bias_ih_l0": (3,)}
    assert {name: p.shape for name, p in fastrnn.MinGRU(2, 3).params.items()} == {
        "weight_ih_l0": (6, 2),
        "bias_ih_l0": (6,),
    }


def test_without_extras_it_is_the_plain_lstm() -> None:
    plain, extended = fastrnn.LSTM(5, 9, seed=0), fastrnn.LSTM(5, 9, cell_clip=1e9, seed=0)
    x = np.random.default_rng(0).standard_normal((7, 3, 5), np.float32)
    np.testing.assert_array_equal(plain(x)[0], extended(x)[0])


def test_an_infinite_or_missing_limit_lets_nan_through() -> None:
    layer = fastrnn.LSTM(2, 3, peepholes=True, seed=0)
    x = np.zeros((2, 2, 2), np.float32)
    x[0, 1, 0] = np.nan
    y, _ = layer(x)
    assert np.isfinite(y[:, 0]).all()
    assert np.isnan(y[:, 1]).all()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: fastrnn.LSTM(2, 3, peepholes=1), TypeError, "LSTM: peepholes is 1, expected a bool"),
        (lambda: fastrnn.LSTM(2, 3, coupled=None), TypeError, "LSTM: coupled is None"),
        (lambda: fastrnn.LSTM(2, 3, cell_clip=0), ValueError, "LSTM: cell_clip is 0"),
        (lambda: fastrnn.LSTM(2, 3, layer_norm=1), TypeError, "LSTM: layer_norm is 1, expected a bool"),
        (lambda: fastrnn.LSTM(2, 3, layer_norm=True, cell_clip=1.0), ValueError, "layer_norm goes together neither"),
        (lambda: fastrnn.GRU(2, 3, layer_norm=True, reset_after=False), ValueError, "layer_norm needs reset_after"),
        (lambda: fastrnn.LSTM(2, 3, gate_clip=-1.0), ValueError, "LSTM: gate_clip is -1.0"),
    ],
)
def test_bad_arguments(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
