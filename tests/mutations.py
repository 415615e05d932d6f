"""Ways to make a good argument worse: other kinds of things, other dtypes, shapes, strides, sizes and values."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from problems import Array

Mutation = Callable[[random.Random, Any], Any]

JUNK: Sequence[Any] = (
    None,
    1,
    0,
    -3,
    2**31,
    2**63,
    -(2**70),
    2.5,
    float("nan"),
    True,
    "abc",
    "",
    b"abc",
    [],
    [1.0, 2.0],
    (),
    {},
    object(),
    int,
    np.float32(1),
    np.int64(2),
    np.bool_(True),
    np.zeros(()),
    np.zeros(0),
    np.zeros((2, 0, 3), np.float32),
)
DTYPES = ("f2", "f4", "f8", "g", ">f4", ">f8", "i1", "u2", "i8", ">i4", "c8", "c16", "?", "O", "S3", "U2", "M8[s]")


def _array(change: Callable[[random.Random, Array], Any]) -> Mutation:
    return lambda r, a: change(r, a) if isinstance(a, np.ndarray) and a.ndim else r.choice(JUNK)


def _astype(r: random.Random, a: Array) -> Any:
    name = r.choice(DTYPES)
    return np.zeros(a.shape, name) if a.dtype.kind not in "fiu" or name[0] in "SUM" else a.astype(name)


def _grow(r: random.Random, a: Array) -> Array:
    return np.repeat(a, r.randint(0, 3), axis=r.randrange(a.ndim))


def _huge(r: random.Random, a: Array) -> Array:
    shape = list(a.shape)
    shape[r.randrange(a.ndim)] = 2 ** r.choice([31, 32, 33, 40, 50])
    try:
        return np.broadcast_to(a.flat[0] if a.size else np.zeros((), a.dtype), shape)
    except ValueError:  # more than NumPy lets an array be
        return a


def _tokens(r: random.Random, a: Array) -> Array:
    most = max(1, a.shape[-1])
    values = [r.choice([0, 1, most - 1, most, -1, 2**31, -(2**63), 2**63 - 1]) for _ in range(6)]
    return np.array(values).reshape(3, 2)


def _poison(r: random.Random, a: Array) -> Array:
    poisoned: Array = a.copy()
    value = 0
    if a.dtype.kind == "f":
        limits = np.finfo(a.dtype)
        value = r.choice([np.nan, np.inf, -np.inf, limits.max / 3, limits.smallest_normal / 3, 0])
    poisoned.flat[: r.choice([a.size // 2, a.size])] = value
    return poisoned


def _misaligned(r: random.Random, a: Array) -> Array:
    if a.dtype.hasobject:
        return a
    memory = np.zeros(a.nbytes + 1, np.uint8)
    moved = memory[1:].view(a.dtype).reshape(a.shape)
    moved[...] = a
    return moved


def _read_only(r: random.Random, a: Array) -> Array:
    fixed = a.copy()
    fixed.flags.writeable = False
    return fixed


def _nested(r: random.Random, value: Any) -> Any:
    """A tuple, list or dict with one of its entries changed, missing or once more."""
    if not isinstance(value, tuple | list | dict) or not value:
        return r.choice(JUNK)
    if isinstance(value, dict):
        name = r.choice(list(value))
        return r.choice([{**value, name: mutated(r, value[name])}, {k: v for k, v in value.items() if k != name}])
    entries = list(value)
    at = r.randrange(len(entries))
    change = r.randrange(4)
    if change == 0:
        del entries[at]
    elif change == 1:
        entries.append(entries[at])
    else:
        entries[at] = mutated(r, entries[at])
    return r.choice([tuple, list, type(value), type(value)])(entries)


MUTATIONS: Sequence[Mutation] = (
    lambda r, a: r.choice(JUNK),
    _nested,
    _array(_astype),
    _array(lambda r, a: a[None]),
    _array(lambda r, a: a[0]),
    _array(lambda r, a: a.T),
    _array(lambda r, a: a[..., ::-1]),
    _array(lambda r, a: a[1:]),
    _array(lambda r, a: a[..., :0]),
    _array(lambda r, a: a.reshape(-1)),
    _array(lambda r, a: a.tolist()),
    _array(lambda r, a: a.copy().data if not a.dtype.hasobject else None),
    _array(lambda r, a: np.ma.masked_array(a)),
    _array(lambda r, a: np.lib.stride_tricks.as_strided(a, (0, *a.shape[1:]), a.strides)),
    _array(_grow),
    _array(_huge),
    _array(_tokens),
    _array(_poison),
    _array(_misaligned),
    _array(_read_only),
)


def mutated(r: random.Random, value: Any) -> Any:
    """Return a value made worse."""
    return r.choice(MUTATIONS)(r, value)
