"""The cells that only layers have: their references by finite differences, and the kernels beside the references."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import fastrnn
from fastrnn import reference
from fastrnn.reference.activations import ACTIVATIONS
from fastrnn.reference.gru_general import gru_general_backward, gru_general_forward
from fastrnn.reference.indrnn import indrnn_backward, indrnn_forward
from fastrnn.reference.lstm_general import lstm_general_backward, lstm_general_forward
from fastrnn.reference.lstm_projected import lstm_projected_backward, lstm_projected_forward
from fastrnn.reference.mingru import mingru_backward, mingru_forward
from fastrnn.reference.normalised import normalised_backward, normalised_forward
from fastrnn.reference.rnn_general import rnn_general_backward, rnn_general_forward
from kinks import SPREAD, kinks, name_of
from problems import Array, finite_difference
from tolerances import gradient_tolerance, output_tolerance

Arrays = dict[str, Array]


class Variant(NamedTuple):
    kind: Callable[..., fastrnn.Layer]
    options: dict[str, Any]  # a proj_size of "some" is one that fits the hidden size
    # Options, and all inputs and upstream gradients by name -> the reference's tape, and its gradients likewise.
    run: Callable[[dict[str, Any], Arrays], tuple[Any, dict[str, Array | None]]]

    def layer(self, I: int, H: int, **options: Any) -> fastrnn.Layer:
        mine = self.options | ({"proj_size": self.proj_size(H)} if "proj_size" in self.options else {})
        return self.kind(I, H, **mine, **options)

    def proj_size(self, H: int) -> int:
        return max(1, H // 2) if "proj_size" in self.options else 0

    def solve(self, a: Arrays) -> Arrays:
        tape, gradients = self.run(self.options, a)
        states = {f"{s}_n": getattr(tape, s)[-1] for s in "hc" if f"{s}0" in a}
        return {"y": tape.h[1:], **states, **{f"d{k}": g for k, g in gradients.items() if k in a and g is not None}}

    def __str__(self) -> str:
        return "-".join([self.kind.__name__, *(f"{k}={shortly(v)}" for k, v in self.options.items())])


def shortly(option: Any) -> str:
    """(("elu", 0.7), "tanh") is elu:0.7+tanh."""
    if not isinstance(option, tuple):
        return str(option)
    return "+".join(n if isinstance(n, str) else ":".join(map(str, n)) for n in option)


def general_options(options: dict[str, Any], **names: str) -> dict[str, Any]:
    """The layer's options, as the references of general cells name them."""
    names |= {"activations": "activations", "gate_clip": "gate_limit"}
    return {mine: options[its] for its, mine in names.items() if its in options}


def run_rnn(options: dict[str, Any], a: Arrays) -> tuple[Any, dict[str, Array | None]]:
    biases = a.get("bias_ih"), a.get("bias_hh")
    tape = rnn_general_forward(a["x"], a["weight_ih"], a["weight_hh"], *biases, a["h0"], **general_options(options))
    g = rnn_general_backward(tape, a["dy"], a["dh_n"])
    found = {"x": g.dx, "weight_ih": g.dw_ih, "weight_hh": g.dw_hh, "bias_ih": g.db, "bias_hh": g.db}
    return tape, found | {"h0": g.dh0}


def run_lstm(options: dict[str, Any], a: Arrays) -> tuple[Any, dict[str, Array | None]]:
    tape = lstm_general_forward(
        a["x"],
        a["weight_ih"],
        a["weight_hh"],
        a.get("bias_ih"),
        a.get("bias_hh"),
        a["h0"],
        a["c0"],
        peepholes=a.get("weight_ch"),
        w_hr=a.get("weight_hr"),
        **general_options(options, coupled="coupled", cell_clip="cell_limit"),
    )
    g = lstm_general_backward(tape, a["dy"], a["dh_n"], a["dc_n"])
    found = {"x": g.dx, "weight_ih": g.dw_ih, "weight_hh": g.dw_hh, "bias_ih": g.db, "bias_hh": g.db}
    return tape, found | {"weight_ch": g.dpeepholes, "weight_hr": g.dw_hr, "h0": g.dh0, "c0": g.dc0}


def run_gru(options: dict[str, Any], a: Arrays) -> tuple[Any, dict[str, Array | None]]:
    tape = gru_general_forward(
        a["x"],
        a["weight_ih"],
        a["weight_hh"],
        a.get("bias_ih"),
        a.get("bias_hh"),
        a["h0"],
        **general_options(options, reset_after="reset_after"),
    )
    g = gru_general_backward(tape, a["dy"], a["dh_n"])
    found = {"x": g.dx, "weight_ih": g.dw_ih, "weight_hh": g.dw_hh, "bias_ih": g.db_ih, "bias_hh": g.db_hh}
    return tape, found | {"h0": g.dh0}


def run_projected(options: dict[str, Any], a: Arrays) -> tuple[Any, dict[str, Array | None]]:
    biases = a.get("bias_ih"), a.get("bias_hh")
    tape = lstm_projected_forward(a["x"], a["weight_ih"], a["weight_hh"], *biases, a["weight_hr"], a["h0"], a["c0"])
    g = lstm_projected_backward(tape, a["dy"], a["dh_n"], a["dc_n"])
    found = {"x": g.dx, "weight_ih": g.dw_ih, "weight_hh": g.dw_hh, "bias_ih": g.db, "bias_hh": g.db}
    return tape, found | {"weight_hr": g.dw_hr, "h0": g.dh0, "c0": g.dc0}


def run_normalised(options: dict[str, Any], a: Arrays) -> tuple[Any, dict[str, Array | None]]:
    shift = a.get("bias_ln", np.zeros_like(a["weight_ln"]))
    tape = normalised_forward(a["x"], a["weight_ih"], a["weight_hh"], a["weight_ln"], shift, a["h0"], a.get("c0"))
    g = normalised_backward(tape, a["dy"], a["dh_n"], a.get("dc_n"))
    found = {"x": g.dx, "weight_ih": g.dw_ih, "weight_hh": g.dw_hh, "weight_ln": g.dgain, "bias_ln": g.dshift}
    return tape, found | {"h0": g.dh0, "c0": g.dc0}


def run_indrnn(options: dict[str, Any], a: Arrays) -> tuple[Any, dict[str, Array | None]]:
    tape = indrnn_forward(a["x"], a["weight_ih"], a["weight_hh"], a.get("bias_ih"), a["h0"], **options)
    g = indrnn_backward(tape, a["dy"], a["dh_n"])
    return tape, {"x": g.dx, "weight_ih": g.dw_ih, "weight_hh": g.du, "bias_ih": g.db, "h0": g.dh0}


def run_mingru(options: dict[str, Any], a: Arrays) -> tuple[Any, dict[str, Array | None]]:
    tape = mingru_forward(a["x"], a["weight_ih"], a.get("bias_ih"), a["h0"])
    g = mingru_backward(tape, a["dy"], a["dh_n"])
    return tape, {"x": g.dx, "weight_ih": g.dw_ih, "bias_ih": g.db, "h0": g.dh0}


# What each gets beside its activations.
MORE_RNN: list[dict[str, Any]] = [{}, {"gate_clip": 0.3}]
MORE_GRU: list[dict[str, Any]] = [
    {"reset_after": True},
    {"reset_after": False},
    {"reset_after": True, "gate_clip": 0.3},
    {"reset_after": False, "gate_clip": 0.3},
]
MORE_LSTM: list[dict[str, Any]] = [
    {"coupled": True},
    {},
    {"peepholes": True, "gate_clip": 0.3},
    {"proj_size": "some"},
    {"proj_size": "some", "peepholes": True, "coupled": True, "cell_clip": 0.15, "gate_clip": 0.3},
    {"cell_clip": 0.15, "gate_clip": 0.3},
]


def general(kind: Any, run: Any, shifts: tuple[int, ...], more: list[dict[str, Any]]) -> list[Variant]:
    """Every activation in every role once: ``shifts`` has how far the role's activations are ahead of the first's."""
    spreads = zip(*(SPREAD[shift:] + SPREAD[:shift] for shift in shifts), strict=True)
    return [
        Variant(kind, {"activations": activations} | extra, run)
        for activations, extra in zip(spreads, itertools.cycle(more), strict=False)
    ]


VARIANTS = [
    Variant(fastrnn.LSTM, {"peepholes": True}, run_lstm),
    Variant(fastrnn.LSTM, {"coupled": True}, run_lstm),
    Variant(fastrnn.LSTM, {"cell_clip": 0.3}, run_lstm),
    Variant(fastrnn.LSTM, {"gate_clip": 0.7}, run_lstm),
    Variant(fastrnn.LSTM, {"peepholes": True, "gate_clip": 0.7}, run_lstm),
    Variant(fastrnn.LSTM, {"peepholes": True, "coupled": True, "cell_clip": 0.3, "gate_clip": 0.7}, run_lstm),
    Variant(fastrnn.LSTM, {"proj_size": "some"}, run_projected),
    Variant(fastrnn.LSTM, {"proj_size": "some", "peepholes": True}, run_lstm),
    Variant(fastrnn.LSTM, {"proj_size": "some", "coupled": True, "cell_clip": 0.3, "gate_clip": 0.7}, run_lstm),
    Variant(fastrnn.LSTM, {"layer_norm": True}, run_normalised),
    Variant(fastrnn.GRU, {"layer_norm": True}, run_normalised),
    Variant(fastrnn.GRU, {"gate_clip": 0.7}, run_gru),
    Variant(fastrnn.GRU, {"gate_clip": 0.7, "reset_after": False}, run_gru),
    Variant(fastrnn.RNN, {"gate_clip": 0.7}, run_rnn),
    *general(fastrnn.RNN, run_rnn, (0,), MORE_RNN),
    *general(fastrnn.GRU, run_gru, (0, 5), MORE_GRU),
    # Where i, f or g are 0 for longer than a step, and so may be c, h has no kink at 0.
    *general(fastrnn.LSTM, run_lstm, (0, 5, 9), MORE_LSTM),
    Variant(fastrnn.IndRNN, {}, run_indrnn),
    Variant(fastrnn.IndRNN, {"nonlinearity": "tanh"}, run_indrnn),
    Variant(fastrnn.MinGRU, {}, run_mingru),
]
each_variant = pytest.mark.parametrize("variant", VARIANTS, ids=str)
FINITE_DIFFERENCES = 1e-4  # ten steps of them
FLOAT32 = 2e-6  # what sums of order 1 are off by, several times over


def shapes(variant: Variant, I: int, H: int, bias: bool) -> dict[str, tuple[int, ...]]:
    """Of the parameters that a layer has."""
    family = variant.kind._family
    rows, P = family.gates * H, variant.proj_size(H)
    found: dict[str, tuple[int, ...]] = {"weight_ih": (rows, I)}
    if family.name == "indrnn":
        found["weight_hh"] = (H,)
    elif family.recurrent:
        found["weight_hh"] = (rows, P or H)
    if variant.options.get("peepholes"):
        found["weight_ch"] = (3, H)
    if P:
        found["weight_hr"] = (P, H)
    if variant.options.get("layer_norm"):
        found["weight_ln"] = (4, H)
        return found | ({"bias_ln": (4, H)} if bias else {})
    biases = ("bias_ih", "bias_hh") if family.recurrent else ("bias_ih",)
    return found | (dict.fromkeys(biases, (rows,)) if bias else {})


def draw(
    variant: Variant,
    T: int,
    B: int,
    I: int,
    H: int,
    *,
    bias: bool = True,
    tokens: bool = False,
    margin: float = FLOAT32,
) -> Arrays:
    """All inputs of a layer and all gradients that arrive at its outputs, in float64 that float32 can hold.

    Drawn again while a kink or a clip is nearer than ``margin``: there a gradient is right on either side.
    """
    rng = np.random.default_rng([T, B, I, H])
    for _ in range(1000):
        a = draw_once(rng, variant, T, B, I, H, bias=bias, tokens=tokens)
        if nearest_kink(variant, a) > margin:
            return a
    raise AssertionError(f"{variant}, T={T} B={B} I={I} H={H}: a kink near every draw")


def draw_once(
    rng: np.random.Generator, variant: Variant, T: int, B: int, I: int, H: int, *, bias: bool, tokens: bool
) -> Arrays:
    def uniform(*shape: int, scale: float = 1.0) -> Array:
        return rng.uniform(-scale, scale, shape).astype(np.float32).astype(np.float64)

    # Small enough that errors of earlier steps fade: smaller where activations have no bounds, and f may be above 1.
    all_scales = 0.3 if "activations" in variant.options else 1.0
    scales = {
        "weight_ch": 0.3,
        "weight_ih": 1.5 / np.sqrt(max(I, 1)),
        "weight_hh": 0.9 if variant.kind._family.name == "indrnn" else H**-0.5,
    }
    a = {
        name: uniform(*shape, scale=all_scales * scales.get(name, 1.0))
        for name, shape in shapes(variant, I, H, bias).items()
    }
    a["x"] = rng.integers(0, I, (T, B)) if tokens else uniform(T, B, I)
    sizes = (variant.proj_size(H) or H, H)
    a["dy"] = uniform(T, B, sizes[0])
    for s, size in zip("hc"[: variant.kind._family.states], sizes, strict=False):
        a |= {f"{s}0": uniform(B, size, scale=0.25), f"d{s}_n": uniform(B, size)}
    return a


ROLES = {1: (0,), 3: (0, 0, 1), 4: (0, 0, 1, 0)}  # by the number of gates: which activation each has


def arguments(tape: Any) -> list[tuple[int, Array]]:
    """What goes into the activations of a general cell, before it is clipped, and into which of them."""
    found = [(role, tape.a[:, gate]) for gate, role in enumerate(ROLES[tape.a.shape[1]])]
    return [*found, (2, tape.c[1:])] if len(found) == 4 else found


def nearest_kink(variant: Variant, a: Arrays) -> float:
    """How near anything in a general cell comes to a kink of its activation, or to a clip."""
    tape, _ = variant.run(variant.options, a)
    if not hasattr(tape, "activations"):  # of those, only IndRNN's relu has one, and none of its draws come near
        return np.inf
    clip = variant.options.get("gate_clip", np.inf)
    distances = []
    for role, values in arguments(tape):
        if "activations" in variant.options:
            distances += [values - kink for kink in kinks(variant.options["activations"][role])]
        if role < 2:
            distances.append(np.abs(values) - clip)
    if "cell_clip" in variant.options:
        i, f, g, _ = tape.gates.swapaxes(0, 1)
        distances.append(np.abs(f * tape.c[:-1] + i * g) - variant.options["cell_clip"])
    return float(min((np.abs(d).min(initial=np.inf) for d in distances), default=np.inf))


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
    a = draw(variant, 4, 2, 3, 4, tokens=tokens, margin=FINITE_DIFFERENCES)

    def loss() -> float:
        found = variant.solve(a)
        return float((found["y"] * a["dy"]).sum()) + sum(
            float((found[f"{s}_n"] * a[f"d{s}_n"]).sum()) for s in "hc" if f"d{s}_n" in a
        )

    expected = variant.solve(a)
    names = [n for n in a if not n.startswith("d") and not (n == "x" and tokens)]
    assert {f"d{n}" for n in names} == {n for n in expected if n.startswith("d")}
    for name in names:
        gradient = finite_difference(loss, a[name])
        np.testing.assert_allclose(expected[f"d{name}"], gradient, rtol=0, atol=1e-8, err_msg=name)


def test_what_there_is_to_meet_is_met() -> None:
    """Both sides of every kink and clip, by the draws of the test above; every activation in every role."""
    sides: set[tuple[Any, ...]] = set()
    for variant in VARIANTS:
        draws = [draw(variant, 4, 2, 3, 4, tokens=tokens, margin=FINITE_DIFFERENCES) for tokens in (False, True)]
        tapes = [variant.run(variant.options, a)[0] for a in draws]
        is_clipped = []
        if "cell_clip" in variant.options:
            is_clipped.append(np.abs([tape.c[1:] for tape in tapes]) == variant.options["cell_clip"])
        if "gate_clip" in variant.options:
            gates = np.stack([tape.a for tape in tapes], axis=-1).swapaxes(0, 1)
            is_clipped += [np.abs(gate) > variant.options["gate_clip"] for gate in gates]
        for clipped in is_clipped:
            assert clipped.any(), str(variant)
            assert not clipped.all(), str(variant)
        if "activations" in variant.options:
            for role, values in itertools.chain(*map(arguments, tapes)):
                f = variant.options["activations"][role]
                sides |= {(variant.kind, role, name_of(f), side) for side in np.digitize(values, kinks(f)).flat}
    assert {name_of(f) for f in SPREAD} == ACTIVATIONS.keys()
    roles = [(fastrnn.RNN, 1), (fastrnn.GRU, 2), (fastrnn.LSTM, 3)]
    assert sides == {
        (kind, role, name_of(f), side)
        for kind, count in roles
        for role in range(count)
        for f in SPREAD
        for side in range(len(kinks(f)) + 1)
    }


PLAIN = [
    (Variant(fastrnn.RNN, {}, run_rnn), "rnn", {}),
    (Variant(fastrnn.RNN, {"activations": ("relu",)}, run_rnn), "rnn", {"nonlinearity": "relu"}),
    (Variant(fastrnn.GRU, {}, run_gru), "gru", {}),
    (Variant(fastrnn.GRU, {"reset_after": False}, run_gru), "gru", {"reset_after": False}),
    (Variant(fastrnn.LSTM, {}, run_lstm), "lstm", {}),
]


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize(
    ("variant", "family", "options"), PLAIN, ids=lambda p: str(p) if isinstance(p, Variant) else ""
)
def test_without_extras_a_general_reference_is_the_plain_one(
    variant: Variant, family: str, options: dict[str, Any], bias: bool
) -> None:
    a = draw(variant, 4, 2, 3, 4, bias=bias)
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "h0", "c0")[: None if family == "lstm" else -1]
    inputs = [a.get(name) for name in ("x", *names)]
    out = getattr(reference, f"{family}_forward")(*inputs, **options, training=True)
    g = getattr(reference, f"{family}_backward")(out.tape, *(a[n] for n in ("dy", "dh_n", "dc_n") if n in a))
    plain = out._replace(tape=None)._asdict() | {f"d{n}": d for n, d in zip(("x", *names), g, strict=True)}
    for name, right in variant.solve(a).items():
        np.testing.assert_allclose(plain[name], right, rtol=0, atol=1e-14, err_msg=name)


def test_without_extras_it_is_the_projected_one() -> None:
    plain = Variant(fastrnn.LSTM, {"proj_size": "some"}, run_projected)
    a = draw(plain, 4, 2, 3, 4)
    for name, right in plain.solve(a).items():
        np.testing.assert_allclose(plain._replace(run=run_lstm).solve(a)[name], right, rtol=0, atol=1e-14, err_msg=name)


@each_variant
def test_plain_float32_is_within_tolerance(variant: Variant) -> None:
    """By a third, as tests/tolerances.py has it: the draws are such that errors do not pile up."""
    a = draw(variant, 40, 7, 33, 33)
    found = variant.solve({name: v.astype(np.float32) for name, v in a.items()})
    for name, right in variant.solve(a).items():
        assert found[name].dtype == np.float32
        assert np.abs(found[name] - right).max() <= allowed(name, right, a, np.float32) / 3, name


def test_by_hand() -> None:
    """One step from h' = 0.5 and c' = 1, all sums 0 but for what the variant adds."""
    one, zero = np.ones((1, 1)), np.zeros((1, 1))
    w = np.zeros((4, 1))
    tape = lstm_general_forward(zero[None], w, w, None, None, zero, one, peepholes=np.array([[1.0], [2.0], [3.0]]))
    c = 1 / (1 + np.exp(-2))  # f * c', with g = 0
    np.testing.assert_allclose(tape.c[1], c)
    np.testing.assert_allclose(tape.h[1], np.tanh(c) / (1 + np.exp(-3 * c)))
    tape = lstm_general_forward(zero[None], w, w, None, None, zero, one, coupled=True, cell_limit=0.2)
    np.testing.assert_allclose(tape.gates[0, 1], 0.5)
    np.testing.assert_allclose(tape.c[1], 0.2)
    assert indrnn_forward(one[None], one * 2, one[0] * -3, one[0], one * 0.5).h[1] == 1.5  # 2 + 1 - 3 / 2
    tape = mingru_forward(one[None], np.array([[0.0], [3.0]]), np.array([0.0, 1.0]), one * 0.5)
    assert tape.h[1] == 0.5 * 0.5 + 0.5 * 4


def test_general_cells_by_hand() -> None:
    """One step from x = 1, h' = 0.5 and c' = 2, through activations that a head can work with."""
    x, h, c = np.ones((1, 1, 1)), np.full((1, 1), 0.5), np.full((1, 1), 2.0)

    def column(*numbers: float) -> Array:
        return np.array(numbers, np.float64)[:, None]

    # 1 + 2 * 0.5 = 2, doubled; and clipped to 1.5 before it is doubled.
    double = ("affine", 2.0)
    assert rnn_general_forward(x, column(1), column(2), None, None, h, activations=[double]).h[1] == 4
    clipped = rnn_general_forward(x, column(1), column(2), None, None, h, activations=[double], gate_limit=1.5)
    assert clipped.h[1] == 3
    # Sums of r, z: 1 + 0.5 = 1.5 and -2 + 0.5 = -1.5, halved. n: 1 + r * (4 * 0.5), or 1 + 4 * (r * 0.5), in both.
    half = ("affine", 0.5)
    for reset_after in (True, False):
        options: dict[str, Any] = {"activations": [half, "relu"], "reset_after": reset_after}
        tape = gru_general_forward(x, column(1, -2, 1), column(1, 1, 4), None, None, h, **options)
        np.testing.assert_array_equal(tape.gates.ravel(), [0.75, -0.75, 2.5])
        assert tape.h[1] == 1.75 * 2.5 - 0.75 * 0.5
        tape = gru_general_forward(x, column(1, -2, 1), column(1, 1, 4), None, None, h, **options, gate_limit=1.0)
        np.testing.assert_array_equal(tape.gates.ravel(), [0.5, -0.5, 1])
        assert tape.h[1] == 1.5 * 1 - 0.5 * 0.5
    # A bias of b_hh's n is reset with W_hn h', or is not.
    for reset_after, n in ((True, 1 + 0.75 * 3), (False, 1 + 0.75 * 2 + 1)):
        biases = None, np.array([0.0, 0.0, 1.0])
        options = {"activations": [half, "identity"], "reset_after": reset_after}
        assert gru_general_forward(x, column(1, -2, 1), column(1, 1, 4), *biases, h, **options).gates[0, 2] == n
    # Sums of i, f, g, o: 1, 2, -3, 0.5, those of f and o with peepholes 2 + 0.5 * 2 = 3 and 0.5 - c.
    peepholes = column(0, 0.5, -1)
    w_ih, w_hh = column(1, 2, -3, 0.5), column(0, 0, 0, 0)
    used = [half, "identity", ("thresholded_relu", -5.0)]
    tape = lstm_general_forward(x, w_ih, w_hh, None, None, h, c, peepholes=peepholes, activations=used)
    assert tape.c[1] == 1.5 * 2 - 0.5 * 3
    np.testing.assert_array_equal(tape.gates.ravel(), [0.5, 1.5, -3, 0.5 * (0.5 - 1.5)])
    assert tape.h[1] == -0.5 * 1.5
    tape = lstm_general_forward(
        *(x, w_ih, np.tile(w_hh, (1, 2)), None, None, np.full((1, 2), 0.5), c),
        peepholes=peepholes,
        w_hr=column(2, -1),
        activations=used,
        coupled=True,
        cell_limit=0.25,
        gate_limit=1.25,
    )
    np.testing.assert_array_equal(tape.gates.ravel(), [0.5, 0.5, -1.25, 0.5 * (0.5 - 0.25)])
    assert tape.c[1] == 0.25  # of 0.5 * 2 - 0.5 * 1.25 = 0.375
    np.testing.assert_array_equal(tape.h[1, 0], [2 * 0.125 * 0.25, -0.125 * 0.25])


# --- the kernels


def allowed(name: str, right: Array, a: Arrays, dtype: Any) -> float:
    """What the result called ``name`` may be off by."""
    terms, rows = a["weight_ih"].shape[1] + 5 * hidden_size(a), a["dy"].shape[0] * a["dy"].shape[1]
    if name.startswith("d"):
        relative = gradient_tolerance(dtype, terms=terms, rows=rows)
    else:
        relative = output_tolerance(dtype, terms=terms)
    return relative * max(1.0, float(np.abs(right).max(initial=0)))


def check(variant: Variant, isa: str, a: Arrays) -> None:
    expected = variant.solve(a)
    for dtype in (np.float32, np.float64):
        found = solve_by_layer(variant, a, dtype)
        assert found.keys() == expected.keys()
        for name, right in expected.items():
            got = found[name]
            assert got.dtype == dtype
            assert got.shape == right.shape
            worst = np.abs(got - right).max(initial=0)
            assert worst <= allowed(name, right, a, dtype), (str(variant), isa, a["dy"].shape, name)


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


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_default_parameters_are_those_of_the_reference(name: str) -> None:
    x = 3 * np.random.default_rng(0).standard_normal((7, 3, 5))
    parameters = ACTIVATIONS[name].parameters
    notations = [name, *((name, *parameters[:n]) for n in range(1, 1 + len(parameters)))]
    first, *others = [fastrnn.RNN(5, 9, activations=(n,), dtype=np.float64, seed=0)(x)[0] for n in notations]
    for y in others:
        np.testing.assert_array_equal(y, first)
    assert np.isfinite(first).all()


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
