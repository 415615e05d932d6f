"""What a caller gives a call besides states: x, lengths and gradients, and the words for what is wrong with them."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn._base import checks
from fastrnn._base.checks import Array
from fastrnn._base.parts import parts_of

from .spec import Spec
from .steps import STEPS, Counted, counted_in


def checked_input(spec: Spec, given: Any, batch_first: bool) -> tuple[Array, bool, bool, bool, int, int]:
    """Return x as a plain array with a batch; whether it is tokens, had no batch, and has the batch first; T and B."""
    x = given if type(given) is np.ndarray else checks.array(spec.name, "x", given, made_of=spec.dtype)
    dtype, shape = x.dtype, x.shape
    tokens = dtype is not spec.dtype and dtype != spec.dtype
    if tokens and not (dtype.kind in "iu" and dtype.isnative):
        raise _wrong_dtype(spec, dtype)
    axes = len(shape) + tokens
    single = axes == 2
    if not (axes == 3 or axes == 2) or not (tokens or shape[-1] == spec.input_size):
        raise _wrong_shape(spec, shape, tokens, batch_first)
    if single:
        return x[:, None], tokens, True, False, shape[0], 1
    if batch_first:
        return x, tokens, False, True, shape[1], shape[0]
    return x, tokens, False, False, shape[0], shape[1]


def _wrong_dtype(spec: Spec, dtype: np.dtype[Any]) -> TypeError:
    name, own = spec.name, spec.dtype
    if dtype.kind in "iu":
        return TypeError(f"{name}: x is {dtype}, expected the byte order of this machine: x.astype(np.int64)")
    other = f", or {name}(..., dtype=np.{dtype})" if dtype in (np.float32, np.float64) else ""
    return TypeError(f"{name}: x is {dtype}, the layer is {own}: x.astype(np.{own}){other}")


def _wrong_shape(spec: Spec, shape: tuple[int, ...], tokens: bool, batch_first: bool) -> ValueError:
    name, I, order = spec.name, spec.input_size, "(B, T" if batch_first else "(T, B"
    if tokens:
        hint = f"; for numbers, x.astype(np.{spec.dtype})" if len(shape) == 3 else ""
        what = "integers, which are tokens,"
        return ValueError(f"{name}: x has {what} of shape {shape}, expected {order}) or (T,){hint}")
    hint = ": a missing last axis? x[..., None]" if I == 1 and 1 <= len(shape) <= 2 else ""
    return ValueError(f"{name}: x has shape {shape}, expected {order}, {I}), or (T, {I}) for one sequence{hint}")


def checked_lengths(name: str, lengths: Any, T: int, batch: int, batch_first: bool) -> Array:
    """Return the lengths (B,) as an array of the call's own."""
    try:
        checked = np.asarray(lengths)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: lengths is {checks.shown(lengths)}, expected integers (B,)") from None
    if checked.dtype.kind not in "iu" and not (checked.size == 0 and not isinstance(lengths, np.ndarray)):
        way = f": its sum over the steps, .sum(axis={int(batch_first)})" if checked.dtype == np.bool_ else ""
        raise TypeError(f"{name}: lengths is {checks.shown(lengths)}, expected integers (B,){way}")
    if checked.shape != (batch,):
        raise ValueError(f"{name}: lengths has shape {checked.shape}, expected (B,) = ({batch},)")
    own = checked.astype(np.int64)  # first: there may be no room for so many
    if checked.size and not (checked.min() >= 0 and checked.max() <= T):
        raise ValueError(f"{name}: lengths has {checked.min()} to {checked.max()}, expected 0 to T = {T}")
    return own


def checked_mask(name: str, mask: Any, T: int, batch: int, single: bool, batch_first: bool) -> Array:
    """Return the mask as an array (T, B) of the call's own."""
    try:
        checked = np.asarray(mask)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: mask is {checks.shown(mask)}, expected bools") from None
    axes = "(T,)" if single else "(B, T)" if batch_first else "(T, B)"
    expected = (T,) if single else (batch, T) if batch_first else (T, batch)
    if checked.dtype != np.bool_:
        way = ": .astype(bool)" if isinstance(mask, np.ndarray) and checked.dtype.kind in "iuf" else ""
        raise TypeError(f"{name}: mask is {checks.shown(mask)}, expected bools {axes}{way}")
    if checked.shape != expected:
        raise ValueError(f"{name}: mask has shape {checked.shape}, expected {axes} = {expected}")
    own = np.empty(expected, np.bool_)
    for part in parts_of(len(own), own.nbytes // max(1, len(own))):
        own[part] = checked[part]
    return own[:, None] if single else own.T if batch_first else own


def checked_steps(
    name: str, lengths: Any, mask: Any, T: int, batch: int, single: bool, batch_first: bool
) -> Counted | None:
    """Return which steps count, by the lengths and the mask that were given; None: all."""
    if lengths is not None:
        lengths = checked_lengths(name, lengths, T, batch, batch_first)
    if mask is None:
        return None if lengths is None else Counted(lengths)
    mask = checked_mask(name, mask, T, batch, single, batch_first)
    if lengths is not None:
        for steps in parts_of(T, 8 * batch):
            mask[steps] &= Counted(lengths).at(steps)
    counted = counted_in(mask, lengths)
    return None if (counted.lengths == T).all() else counted


def checked_gradient(spec: Spec, dy: Any, axes: list[int]) -> Array:
    """Return dy as a plain array that has these axes, and then that of the features."""
    owner = f"{spec.name}.backward"
    gradient = checks.array(owner, "dy", dy, spec.dtype, "the layer is")
    checks.shape(owner, "dy", gradient, (*axes, spec.state_sizes[0] * spec.directions), "that of y")
    return gradient


def explain_tokens(spec: Spec, x: Array, counted: Counted | None, single: bool, batch_first: bool) -> None:
    """Raise ValueError that says which token of x, which has a batch, is not in 0 .. I-1, if one is."""
    name, I = spec.name, spec.input_size
    by_steps = STEPS[batch_first].gather(x)
    T, batch = by_steps.shape
    for steps in parts_of(T, 8 * batch):
        tokens = by_steps[steps]
        bad = (tokens < 0) | (tokens >= I)
        if counted is not None:
            bad &= counted.at(steps)
        if bad.any():
            t, b = (int(i) for i in np.unravel_index(int(bad.argmax()), bad.shape))
            at = t + steps.start
            place = at if single else f"{b}, {at}" if batch_first else f"{at}, {b}"
            expected = f"0 to I-1 = {I - 1}" if I else "none, as I is 0"
            numbers = f"for numbers instead of tokens, x.astype(np.{spec.dtype})"
            raise ValueError(f"{name}: x[{place}] is token {tokens[t, b]}, expected {expected}; {numbers}") from None
