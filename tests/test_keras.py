"""Keras, where it is installed, computes the same outputs, states and gradients, with masks of any form."""

from __future__ import annotations

import importlib.util
import os
from typing import Any, NamedTuple

import numpy as np
import pytest

import fastrnn
from layer_problems import parts
from problems import Array
from tolerances import gradient_tolerance, output_tolerance

BACKENDS = [name for name in ("torch", "jax", "tensorflow") if importlib.util.find_spec(name)]
if "KERAS_BACKEND" not in os.environ:
    if not BACKENDS:
        pytest.skip("Keras has no backend", allow_module_level=True)
    os.environ["KERAS_BACKEND"] = BACKENDS[0]
keras = pytest.importorskip("keras", "3")
BACKEND = keras.backend.backend()
SEEDS = range(15 if BACKEND == "jax" else 100)  # JAX compiles each call anew
# NumPy 2 warns of how PyTorch's tensors answer Keras' np.array.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning:keras")

LAYERS: dict[str, Any] = {"SimpleRNN": fastrnn.RNN, "GRU": fastrnn.GRU, "LSTM": fastrnn.LSTM}
# Which of Keras' blocks of columns are fastrnn's blocks of rows: a GRU's are z, r, h for r, z, n.
BLOCKS = {"SimpleRNN": [0], "GRU": [1, 0, 2], "LSTM": [0, 1, 2, 3]}
ACTIVATIONS: dict[str, Any] = {
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "hard_sigmoid": ("hard_sigmoid", 1 / 6, 0.5),
    "softsign": "softsign",
    "relu": "relu",
    "linear": "identity",
    "elu": "elu",
    "softplus": "softplus",
    "leaky_relu": ("leaky_relu", 0.2),
}
BOUNDED = {"tanh", "sigmoid", "hard_sigmoid", "softsign"}


class Setting(NamedTuple):
    """A layer of Keras', and a call of it."""

    kind: str
    bidirectional: bool
    options: dict[str, Any]
    weights: list[list[Array]]  # of each direction, as Keras has them
    x: Array  # (B, T, I)
    mask: Array | None  # (B, T)
    states: Array | None  # (1 or 2, D, B, H): h_0 and c_0
    dy: Array
    dstates: Array

    @property
    def sequences(self) -> bool:
        return bool(self.options["return_sequences"])

    @property
    def zero(self) -> bool:
        """Whether y is zero at masked steps, which Bidirectional has its own mind about, whatever the layer says."""
        return self.sequences if self.bidirectional else bool(self.options["zero_output_for_mask"])

    @property
    def from_end(self) -> list[bool]:
        """How each direction reads."""
        return [False, True] if self.bidirectional else [bool(self.options["go_backwards"])]


def draw_mask(T: int, rng: np.random.Generator) -> Array:
    """One sequence's: all steps, none, the last ones, the first ones, or any."""
    t, n = np.arange(T), rng.integers(T + 1)
    masks = [t >= 0, t < 0, t >= n, t < n, rng.random(T) < 0.6]
    return masks[rng.integers(len(masks))]


def draw_setting(kind: str, rng: np.random.Generator) -> Setting:
    T, B, I, H = (int(n) for n in rng.integers(1, [8, 5, 6, 12]))
    D, G, N = int(rng.integers(1, 3)), len(BLOCKS[kind]), 2 if kind == "LSTM" else 1

    def chance(p: float = 0.5) -> bool:
        return bool(rng.random() < p)

    names = [str(name) for name in rng.choice(list(ACTIVATIONS), 2)] if chance(0.6) else ["tanh", "sigmoid"]
    options: dict[str, Any] = {"activation": names[0], "use_bias": chance(0.8), "return_sequences": chance()}
    options |= {"go_backwards": D == 1 and chance(), "zero_output_for_mask": chance()}
    if kind != "SimpleRNN":
        options["recurrent_activation"] = names[1]
    if kind == "GRU":
        options["reset_after"] = chance()
    # Weights with which nothing grows from step to step, also where nothing else bounds it.
    scale = 1.0 if BOUNDED.issuperset(names) else 0.4

    def draw(*shape: int) -> Array:
        return rng.uniform(-scale, scale, shape).astype(np.float32)

    weights = []
    for _ in range(D):
        of_direction = [draw(I, G * H) / np.sqrt(np.float32(I)), draw(H, G * H) / np.sqrt(np.float32(H))]
        if options["use_bias"]:
            of_direction.append(draw(2, G * H) if options.get("reset_after") else draw(G * H))
        weights.append(of_direction)
    return Setting(
        kind,
        D == 2,
        options,
        weights,
        x=rng.uniform(-1, 1, (B, T, I)).astype(np.float32),
        mask=np.stack([draw_mask(T, rng) for _ in range(B)]) if chance(0.8) else None,
        states=draw(N, D, B, H) if chance() else None,
        dy=draw(B, T, D * H) if options["return_sequences"] else draw(B, D * H),
        dstates=draw(N, D, B, H),
    )


def as_parameters(kind: str, weights: list[list[Array]]) -> dict[str, Array]:
    """What fastrnn's parameters are, or gradients by them, if these are Keras'."""
    found = {}
    for (w_ih, w_hh, *biases), suffix in zip(weights, ("_l0", "_l0_reverse"), strict=False):
        named = {"weight_ih": w_ih.T, "weight_hh": w_hh.T}
        for bias in biases:  # one, or where the reset gate comes after the product both in one array
            named |= dict(zip(("bias_ih", "bias_hh"), bias.reshape(-1, bias.shape[-1]), strict=False))
        for name, a in named.items():
            blocks = a.reshape(len(BLOCKS[kind]), -1, *a.shape[1:])
            found[name + suffix] = blocks[BLOCKS[kind]].reshape(a.shape)
    return found


def in_keras_order(states: Array) -> list[Array]:
    """Keras has all states of one direction, and then those of the other."""
    return list(states.swapaxes(0, 1).reshape(-1, *states.shape[2:]))


def solve_with_keras(s: Setting) -> dict[str, Array]:
    """Outputs and states; gradients too, where the backend is PyTorch."""
    inner = getattr(keras.layers, s.kind)(s.dstates.shape[-1], return_state=True, **s.options)
    layer = keras.layers.Bidirectional(inner) if s.bidirectional else inner
    layer.build(s.x.shape)
    layer.set_weights([w for of_direction in s.weights for w in of_direction])
    x, *states = map(keras.ops.convert_to_tensor, [s.x, *([] if s.states is None else in_keras_order(s.states))])
    if BACKEND == "torch":
        for a in (x, *states):
            a.requires_grad_()
    mask = None if s.mask is None else keras.ops.convert_to_tensor(s.mask)
    outputs = layer(x, mask=mask, initial_state=states or None)
    N, D = s.dstates.shape[:2]

    def as_states(arrays: list[Array]) -> Array:  # (1 or 2, D, B, H)
        states: Array = np.stack(arrays).reshape(D, N, *arrays[0].shape).swapaxes(0, 1)
        return states

    y, *states_n = map(keras.ops.convert_to_numpy, outputs)
    results = {"y": y, "states": as_states(states_n)}
    if BACKEND == "torch":
        torch = pytest.importorskip("torch")
        upstream = [torch.from_numpy(a) for a in (s.dy, *in_keras_order(s.dstates))]
        variables = [v.value for v in layer.trainable_variables]
        found = torch.autograd.grad(outputs, [x, *variables, *states], upstream, materialize_grads=True)
        dx, *grads = (a.numpy() for a in found)
        weights = [grads[d * len(variables) // D : (d + 1) * len(variables) // D] for d in range(D)]
        results |= {"dx": dx, **{f"d{name}": a for name, a in as_parameters(s.kind, weights).items()}}
        if states:
            results["dstates"] = as_states(grads[len(variables) :])
    return results


def where_keras_differs(s: Setting) -> tuple[Any, Any]:
    """Where Keras' y is another than fastrnn's, and what it is there: (B, T, D, 1), or (B, D, 1) of the last output."""
    nowhere = np.array(False), 0.0
    if s.mask is None:
        return nowhere
    # As each direction reads them: (B, D, T).
    counts: Array = np.stack([s.mask[:, ::-1] if end else s.mask for end in s.from_end], axis=1)
    # What would repeat an output before the first is zero; with these backends it is the initial state.
    begins_with_state = BACKEND in ("jax", "numpy")
    if s.sequences:
        if s.zero or s.states is None or not begins_with_state:
            return nowhere
        begun: Array = np.logical_or.accumulate(counts, axis=2)
        return ~begun.swapaxes(1, 2)[..., None], s.states[0].swapaxes(0, 1)[:, None]
    # Alone, fastrnn's last output is h_n; Keras' is that of the last step, though it may be zero there.
    if s.zero:
        return ~counts[..., -1:], 0.0
    return nowhere if begins_with_state else (~counts.any(axis=2, keepdims=True), 0.0)


def solve_with_layer(s: Setting) -> dict[str, Array]:
    f, g = (ACTIVATIONS[s.options.get(name, "tanh")] for name in ("recurrent_activation", "activation"))
    layer = LAYERS[s.kind](
        s.x.shape[2],
        s.dstates.shape[-1],
        activations={"SimpleRNN": (g,), "GRU": (f, g), "LSTM": (f, g, g)}[s.kind],
        bias=s.options["use_bias"],
        batch_first=True,
        bidirectional=s.bidirectional,
        reverse=s.options["go_backwards"],
        masked_output="zero" if s.zero else "repeat",
        **{name: s.options[name] for name in ("reset_after",) if name in s.options},
    )
    zeros = {name: np.zeros_like(p) for name, p in layer.params.items()}  # Keras has one bias, where one is enough
    layer.load_state_dict(zeros | as_parameters(s.kind, s.weights))

    def as_state(states: Array) -> Any:
        return tuple(states) if len(states) == 2 else states[0]

    call = layer.record(s.x, None if s.states is None else as_state(s.states), mask=s.mask, return_sequence=s.sequences)
    # A layer of Keras' that goes backwards gives its outputs in that order; fastrnn's are at their time steps.
    order = slice(None, None, -1 if s.sequences and s.options["go_backwards"] else 1)
    where, value = where_keras_differs(s)
    by_direction = (*s.dy.shape[:-1], -1, s.dstates.shape[-1])
    y = np.where(where, value, call.y[:, order].reshape(by_direction)).reshape(s.dy.shape)
    dy = np.where(where, 0, s.dy.reshape(by_direction)).reshape(s.dy.shape).astype(np.float32)
    dx, dstates, grads = call.backward(dy[:, order], as_state(s.dstates))
    assert dx is not None
    results = {"y": y, "states": np.stack(parts(call.state)), "dx": dx, "dstates": np.stack(parts(dstates))}
    return results | {f"d{name}": a for name, a in grads.items()}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", LAYERS)
def test_same_as_keras(kind: str, seed: int) -> None:
    s = draw_setting(kind, np.random.default_rng([seed, len(BLOCKS[kind])]))
    expected, got = solve_with_keras(s), solve_with_layer(s)
    (B, T, I), H, G = s.x.shape, s.dstates.shape[-1], len(BLOCKS[kind])
    for name, right in expected.items():
        allowed = output_tolerance(np.float32, terms=I + H)
        if name.startswith("d"):
            allowed = gradient_tolerance(np.float32, terms=I + G * H, rows=T * B)
        atol = allowed * max(1, np.abs(right).max())
        what = f"{name} of {kind}, bidirectional={s.bidirectional}, {s.options}, mask={s.mask}"
        np.testing.assert_allclose(got[name], right, rtol=0, atol=atol, equal_nan=False, err_msg=what)
