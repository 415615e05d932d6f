"""Layers to put problems to: every variant of a cell that a layer can be made of, and calls with all that they give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn.reference.activations import activation
from problems import Array

FAMILIES = ("rnn", "lstm", "gru")
LAYERS: dict[str, type[fastrnn.Layer]] = {
    "rnn": fastrnn.RNN,
    "lstm": fastrnn.LSTM,
    "gru": fastrnn.GRU,
    "indrnn": fastrnn.IndRNN,
    "mingru": fastrnn.MinGRU,
}
GATES = {"rnn": "", "lstm": "ifgo", "gru": "rzn", "indrnn": "", "mingru": "zn"}  # that a trace has
T, B, I, H = 9, 5, 7, 11
LENGTHS = np.array([4, 9, 0, 1, 9])
# Every variant of a cell that a layer can be made of.
VARIANTS = [
    ("rnn", {}),
    ("rnn", {"nonlinearity": "relu"}),
    ("lstm", {}),
    ("gru", {}),
    ("gru", {"reset_after": False}),
    ("lstm", {"peepholes": True, "coupled": True, "cell_clip": 0.2}),
    ("lstm", {"proj_size": 5}),
    ("lstm", {"layer_norm": True}),
    ("gru", {"layer_norm": True}),
    ("rnn", {"activations": ("softsign",), "gate_clip": 0.5}),
    ("gru", {"activations": (("hard_sigmoid", 0.2, 0.5), "softplus"), "gate_clip": 0.5}),
    ("gru", {"activations": ("sigmoid", ("elu", 0.5)), "reset_after": False}),
    ("lstm", {"activations": ("hard_sigmoid", "softsign", ("scaled_tanh", 0.9, 1.1))}),
    ("lstm", {"activations": ("sigmoid", "identity", "tanh"), "proj_size": 5, "peepholes": True}),
    ("indrnn", {}),
    ("indrnn", {"nonlinearity": "tanh"}),
    ("mingru", {}),
]

each_family = pytest.mark.parametrize("family", FAMILIES)
each_variant = pytest.mark.parametrize(("family", "options"), VARIANTS, ids=str)


def draw(*shape: int, dtype: Any = np.float64, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).uniform(-1, 1, shape).astype(dtype)


def parts(state: Any) -> tuple[Array, ...]:
    return state if isinstance(state, tuple) else (state,)


def state_like(layer: fastrnn.Layer, batch: int = B, seed: int = 0) -> Any:
    shape = (layer.num_layers * (1 + layer.bidirectional), batch)
    states = tuple(draw(*shape, H, dtype=layer.dtype, seed=seed + n) for n, H in enumerate(layer._spec.state_sizes))
    return states if len(states) == 2 else states[0]


def solve_layer(
    layer: fastrnn.Layer, x: Array, state: Any = None, dy: Any = None, dstate: Any = None
) -> dict[str, Array]:
    """All that a call and its backward give, by name."""
    call = layer.record(x, state)
    dx, dstate_0, grads = call.backward(dy, dstate)
    named = {"y": call.y} if dx is None else {"y": call.y, "dx": dx}
    for name, states in (("state_n", call.state), ("dstate_0", dstate_0)):
        named |= {f"{name}[{k}]": a for k, a in enumerate(parts(states))}
    return named | dict(grads)


def check_trace(
    family: str,
    options: dict[str, Any],
    layer: fastrnn.Layer,
    params: dict[str, Array],
    state: Any,
    y: Array,
    lengths: Array | None,
    atol: float,
    atol_of_products: float,
) -> None:
    """The layer, of two layers and both directions, has left a trace of a call that began with a state and returned y.

    ``params`` are numbers that its parameters are near, and ``atol_of_products`` is what a product with them may be
    off by.
    """

    def close(got: Array, expected: Array, what: str, atol: float = atol) -> None:
        assert got.shape == expected.shape, what
        allowed = atol * max(1.0, np.abs(expected).max(initial=0))
        np.testing.assert_allclose(got, expected, rtol=0, atol=allowed, err_msg=what)

    t = layer.trace
    names = [*"hc"[: len(layer._spec.state_sizes)], *GATES[family]]
    assert set(t) == {f"{name}_l{k}{d}" for name in names for k in range(2) for d in ("", "_reverse")}
    assert np.array_equal(np.concatenate([t["h_l1"], t["h_l1_reverse"]], axis=-1), y)
    valid = np.ones((T, B), bool) if lengths is None else np.arange(T)[:, None] < lengths
    for name, a in t.items():
        assert a.dtype == layer.dtype
        assert a.shape == (T, B, layer._spec.state_sizes[0] if name.startswith("h_") else H)
        assert not a[~valid].any(), name
        if name[0] in "ifoz" or name.startswith("r_"):
            assert ((a[valid] > 0) & (a[valid] < 1)).all(), name
    before = {s: np.concatenate([a[:1], t[f"{s}_l0"][:-1]]) for s, a in zip("hc", parts(state), strict=False)}
    if family == "lstm":
        c = t["f_l0"] * before["c"] + t["i_l0"] * t["g_l0"]
        if "cell_clip" in options:
            assert (np.abs(c[valid]) > options["cell_clip"]).any()
            c = np.clip(c, -options["cell_clip"], options["cell_clip"])
            close(t["f_l0"][valid], 1 - t["i_l0"][valid], "f")
        close(t["c_l0"][valid], c[valid], "c")
        squash = activation(options.get("activations", ["tanh"])[-1])
        h = (t["o_l0"] * squash.value(t["c_l0"]))[valid]
        if layer._spec.proj_size:
            close(t["h_l0"][valid], h @ params["weight_hr_l0"].T, "h", atol_of_products)
        else:
            close(t["h_l0"][valid], h, "h")
    if family == "mingru":
        close(t["h_l0"][valid], ((1 - t["z_l0"]) * before["h"] + t["z_l0"] * t["n_l0"])[valid], "h")
    if family == "gru":
        close(t["h_l0"][valid], ((1 - t["z_l0"]) * t["n_l0"] + t["z_l0"] * before["h"])[valid], "h")
