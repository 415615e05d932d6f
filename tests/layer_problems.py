"""Layers to put problems to: every variant of a cell that a layer can be made of, and calls with all that they give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastrnn
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
