"""States, h or h and c: those that a caller gives, and how wide the kernels have them."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn._base import checks
from fastrnn._base.checks import Array
from fastrnn._base.parts import contiguous

State = Array | tuple[Array, ...]
States = list[Array | None]  # of h, and of c: (L*D, B, H) each; None is zeros


def states_of(
    owner: str,
    what: str,
    given: Any,
    shapes: list[tuple[int, ...]],
    dtype: Any,
    *,
    single: bool = False,
    letters: str = "(L*D, B, units)",
) -> States:
    """Return the states that a caller gave, as plain arrays of these shapes, or None for zeros.

    One state is an array, two are a tuple or a list of h and c. ``single``: the axis of the batch may be missing.
    """
    if given is None:
        return [None] * len(shapes)
    if len(shapes) == 1 and not isinstance(given, tuple | list):
        given = (given,)
    if not isinstance(given, tuple | list) or len(given) != len(shapes):
        if isinstance(given, np.ndarray):
            got = "one array"
        else:
            got = f"{len(given)} of them" if isinstance(given, tuple | list) else checks.shown(given)
        expected = "the tuple (h, c)" if len(shapes) == 2 else "one array"
        raise TypeError(f"{owner}: {what} is {got}, expected {expected}")
    states: States = []
    for letter, a, shape in zip("hc", given, shapes, strict=False):
        if a is None:
            states.append(None)
            continue
        name = what if len(shapes) == 1 else f"{what}'s {letter}"
        a = checks.array(owner, name, a)
        if a.dtype != dtype:
            way = f".astype(np.{dtype})" if a.dtype.kind == "f" else "lengths and mask are passed by name"
            raise TypeError(f"{owner}: {name} is {a.dtype}, expected {dtype}, as its weights: {way}")
        if single and a.ndim == 2:
            a = a[:, None]
        if a.shape != shape:
            without = f", or {(shape[0], shape[2])}" if single else ""
            raise ValueError(f"{owner}: {name} has shape {a.shape}, expected {letters} = {shape}{without}")
        states.append(a)
    return states


def widened(a: Array, width: int) -> Array:
    """Return ``a`` with zeros after what there is on its last axis: of P units that kernels have H of."""
    missing = width - a.shape[-1]
    return np.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, missing)]) if missing else a


def narrowed(a: Array, width: int) -> Array:
    """Return the first columns of ``a`` on its last axis: P units of the H that kernels have."""
    return contiguous(a[..., :width]) if width < a.shape[-1] else a
