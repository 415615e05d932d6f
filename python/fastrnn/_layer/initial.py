"""The values that parameters begin with."""

from __future__ import annotations

import math

import numpy as np

from fastrnn._base.checks import Array
from fastrnn._base.parts import uniform

from .spec import STATES, Spec


def initial(spec: Spec, init: str, rng: np.random.Generator) -> dict[str, Array]:
    """Return all parameters by name, in the way that ``init`` names."""
    return {name: _initial(spec, name, shape, init, rng) for name, shape in spec.shapes.items()}


def _initial(spec: Spec, name: str, shape: tuple[int, ...], init: str, rng: np.random.Generator) -> Array:
    H, is_lstm = spec.hidden_size, spec.family == "lstm"
    if name.startswith(STATES):
        return np.zeros(shape, spec.dtype)
    if name.startswith("weight_ln"):
        return np.ones(shape, spec.dtype)
    if name.startswith("bias_ln"):
        values = np.zeros(shape)
        values[1] = init == "orthogonal" and is_lstm
        return values.astype(spec.dtype)
    if name.startswith("weight_hh") and not spec.recurrent:
        return rng.random(shape).astype(spec.dtype)
    if init == "uniform":
        return uniform(shape, spec.dtype, rng, H**-0.5)
    if name.startswith(("bias", "weight_ch")):
        values = np.zeros(shape)
        if is_lstm and name.startswith("bias_ih"):
            values[H : 2 * H] = 1
    elif name.startswith("weight_hh"):
        square, gates = (H, shape[1]), shape[0] // H
        values = np.concatenate([np.linalg.qr(rng.standard_normal(square))[0] for _ in range(gates)])
    else:
        limit = math.sqrt(6 / (shape[1] + (shape[0] if name.startswith("weight_hr") else H)))
        return uniform(shape, spec.dtype, rng, limit)
    return values.astype(spec.dtype)
