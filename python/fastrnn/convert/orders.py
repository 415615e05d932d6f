"""The blocks of gates that weights consist of, from the orders of others to the one of fastrnn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastrnn._base import checks
from fastrnn._base.checks import Array

__all__ = ["gates"]

ORDERS = {"LSTM": "ifgo", "GRU": "rzn"}
# What others call some of them.
OF_LSTM = {"c": "g", "j": "g"}
OF_GRU = {"u": "z", "h": "n", "c": "n"}


def gates(order: str | Sequence[str], weights: Any, *, axis: int = 0) -> Array:
    """Return weights or biases with their gates in the order of fastrnn and PyTorch: i, f, g, o or r, z, n.

    Args:
        order: the gates as ``weights`` has them, in a string of their letters such as ``"iofc"`` (ONNX's LSTM),
            ``"zrh"`` (Keras' and ONNX's GRU) or ``"ru"``; or a sequence of their names. An LSTM has i, f, o and g, also
            called c or j; a GRU r, z (or u) and n (or h, c). A name with a minus, ``("r", "-z", "n")``, is a block
            whose sign changes: for a GRU whose update gate is the other's 1 - z.
        weights: an array with one block of H for each gate, side by side on ``axis``; or a sequence of arrays, one for
            each gate in this order; or a dict of them by the names of ``order``, with or without the minus.
        axis: which axis of ``weights``, or of each of them, the units of a gate are on: 0, or 1 of matrices that are
            (inputs, G*H), as Keras and TensorFlow have them, which are transposed.

    Returns:
        (G*H, ...), an array of its own: what ``load_state_dict`` of a layer takes.

    Raises:
        TypeError: an argument is of another kind.
        ValueError: the order is not that of an LSTM, a GRU, or a part of it; or blocks do not fit.

    """
    names = _names(order)
    axis = checks.integer("gates", "axis", axis, -2, 1)
    known = _known(order, names)
    blocks = _blocks(names, weights, axis)
    if len({block.shape for block in blocks}) > 1:
        shapes = ", ".join(f"{name} {block.shape}" for name, block in zip(names, blocks, strict=True))
        raise ValueError(f"gates: weights has blocks of different shapes: {shapes}")
    wanted = next(full for full in ORDERS.values() if set(known) <= set(full))
    by_gate = dict(zip(known, blocks, strict=True))
    signs = {gate: name.startswith("-") for gate, name in zip(known, names, strict=True)}
    if any(signs.values()) and any(block.dtype.kind != "f" for block in blocks):
        raise TypeError(
            f"gates: order is {checks.shown(order)}, and weights is {blocks[0].dtype}, of which there is no minus"
        )
    ordered = [-by_gate[gate] if signs[gate] else by_gate[gate] for gate in wanted if gate in by_gate]
    return np.concatenate(ordered)


def _names(order: Any) -> list[str]:
    names = list(order) if isinstance(order, str | list | tuple) else []
    if not names or not all(isinstance(name, str) and name.lstrip("-") for name in names):
        raise TypeError(f"gates: order is {checks.shown(order)}, expected letters of gates such as 'iofc' or 'zrh'")
    return names


def _known(order: Any, names: list[str]) -> list[str]:
    """Return the letters of gates as fastrnn has them."""
    plain = [name.removeprefix("-") for name in names]
    of_lstm = bool({"i", "f", "o", "g", "j"} & set(plain))
    known = [(OF_LSTM if of_lstm else OF_GRU).get(name, name) for name in plain]
    full = ORDERS["LSTM" if of_lstm else "GRU"]
    if not set(known) <= set(full) or len(set(known)) != len(known):
        raise ValueError(
            f"gates: order is {checks.shown(order)}, expected each of i, f, g (or c, j), o of an LSTM at most once, or "
            "of r, z (or u), n (or h, c) of a GRU"
        )
    return known


def _blocks(names: list[str], weights: Any, axis: int) -> list[Array]:
    """Return the block of each gate, its units on the first axis."""
    if isinstance(weights, Mapping):
        keys = [name if name in weights else name.removeprefix("-") for name in names]
        if set(keys) != set(weights):
            raise ValueError(f"gates: weights has {', '.join(map(str, weights))}, expected {', '.join(keys)}")
        weights = [weights[key] for key in keys]
    if isinstance(weights, list | tuple):
        if len(weights) != len(names):
            raise ValueError(f"gates: weights has {len(weights)} arrays, expected {len(names)}, one for each gate")
        return [_turned(f"weights[{k}]", w, axis) for k, w in enumerate(weights)]
    whole = _turned("weights", weights, axis)
    if len(whole) % len(names):
        raise ValueError(
            f"gates: weights has {len(whole)} rows on axis {axis}, expected {len(names)} blocks of equally many"
        )
    return np.split(whole, len(names))


def _turned(name: str, value: Any, axis: int) -> Array:
    """Return an array of numbers, with the axis of the units first."""
    a = checks.array("gates", name, value)
    if a.dtype.kind not in "fiu" and a.dtype.name != "bfloat16":
        raise TypeError(f"gates: {name} is {a.dtype}, expected numbers")
    if not -a.ndim <= axis < a.ndim or a.ndim > 2:
        raise ValueError(f"gates: {name} has shape {a.shape}, expected one or two axes, and one that is axis {axis}")
    return np.moveaxis(a, axis, 0)
