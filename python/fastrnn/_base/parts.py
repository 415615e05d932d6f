"""Work on arrays that may be large, a part at a time: between parts Ctrl-C is seen and other threads run."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .checks import Array

BYTES = 32 << 20  # some hundredths of a second at worst
OPERATIONS = 2 << 30  # likewise


def parts(a: Array) -> Iterator[Any]:
    """Yield slices of an array's first axis, of some bytes each; of one number without axes, all of it."""
    if a.ndim == 0:
        return iter([...])
    return parts_of(len(a), a.nbytes // max(1, len(a)))


def parts_of(n: int, bytes_each: int) -> Iterator[slice]:
    """Yield slices of ``n`` things of so many bytes."""
    step = max(1, BYTES // max(1, bytes_each))
    for begin in range(0, n, step):
        yield slice(begin, min(begin + step, n))


def filled(shape: tuple[int, ...], dtype: npt.DTypeLike, draw: Callable[[int], Array]) -> Array:
    """Return an array of what ``draw`` returns for so many numbers, and then for so many more, converted."""
    numbers = np.empty(shape, dtype)
    flat = numbers.reshape(-1)
    for part in parts_of(len(flat), 8):
        flat[part] = draw(part.stop - part.start)
    return numbers


def uniform(shape: tuple[int, ...], dtype: npt.DTypeLike, rng: "np.random.Generator", bound: float) -> Array:
    """Return numbers between ``-bound`` and ``bound``."""
    return filled(shape, dtype, lambda count: rng.uniform(-bound, bound, count))


def take(a: Array, index: Array) -> Array:
    """Return ``a[index]``, of its first axis."""
    taken = np.empty((len(index), *a.shape[1:]), a.dtype)
    for part in parts(taken):
        taken[part] = a[index[part]]
    return taken


def put(shape: tuple[int, ...], index: Array, values: Array) -> Array:
    """Return zeros of this shape, but for ``values`` at ``index`` of the first axis."""
    a = np.zeros(shape, values.dtype)
    for part in parts(values):
        a[index[part]] = values[part]
    return a


def contiguous(a: Array) -> Array:
    """Return ``a`` in C order, as it is or copied."""
    if a.flags.c_contiguous:
        return a
    if a.nbytes <= BYTES:
        return np.ascontiguousarray(a)
    copied = np.empty(a.shape, a.dtype)
    for part in parts(copied):
        copied[part] = a[part]
    return copied


def joined(arrays: Sequence[Array], axis: int) -> Array:
    """Return arrays side by side on an axis, counted from the end if it is not the first."""
    if len(arrays) == 1:
        return arrays[0]
    first = arrays[0]
    if axis == 0:
        whole = np.empty((sum(map(len, arrays)), *first.shape[1:]), first.dtype)
        begin = 0
        for a in arrays:
            into = whole[begin : begin + len(a)]
            for part in parts(a):
                into[part] = a[part]
            begin += len(a)
        return whole
    if sum(a.nbytes for a in arrays) <= BYTES:
        return np.concatenate(arrays, axis)
    width = sum(a.shape[axis] for a in arrays)
    whole = np.empty((*first.shape[:-1], width), first.dtype)
    for part in parts(whole):
        np.concatenate([a[part] for a in arrays], axis, out=whole[part])
    return whole


def dropout_mask(rng: "np.random.Generator", p: float, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
    """Return what dropout multiplies with: 0 with probability p, else 1 / (1 - p)."""
    mask = np.empty(math.prod(shape), dtype)
    scale = 1 / (1 - p) if p < 1 else 0.0
    for part in parts(mask):
        into = mask[part]
        np.multiply(rng.random(len(into), np.float32) >= p, scale, out=into, casting="same_kind")
    return mask.reshape(shape)


def quiet() -> "np.errstate":
    """Have NumPy say nothing of infinities, NaN and denormals, which show in results; else it might raise half-way."""
    return np.errstate(all="ignore")


def scale(a: Array, mask: Array) -> Array:
    """Return ``a * mask``."""
    product = np.empty(a.shape, a.dtype)
    with quiet():
        for part in parts(product):
            np.multiply(a[part], mask[part], out=product[part])
    return product


def add(arrays: Sequence[Array]) -> Array:
    """Return the sum of arrays."""
    if len(arrays) == 1:
        return arrays[0]
    total = np.empty(arrays[0].shape, arrays[0].dtype)
    with quiet():
        for part in parts(total):
            np.add(arrays[0][part], arrays[1][part], out=total[part])
            for a in arrays[2:]:
                total[part] += a[part]
    return total


def _rows_at_once(rows: int, operations: int) -> Iterator[slice]:
    """Yield slices of so many rows, each of which takes this many floating-point operations, as take a moment."""
    step = max(1, OPERATIONS // max(1, operations))
    for begin in range(0, rows, step):
        yield slice(begin, begin + step)


def product(rows: Array, weight: Array) -> Array:
    """Return ``rows @ weight``."""
    if 2 * len(rows) * weight.size <= OPERATIONS:
        small: Array = rows @ weight
        return small
    out = np.empty((len(rows), weight.shape[1]), rows.dtype)
    for part in _rows_at_once(len(rows), 2 * weight.size):
        np.matmul(rows[part], weight, out=out[part])
    return out


def outer_product(left: Array, right: Array) -> Array:
    """Return ``left.T @ right``, a sum over all rows."""
    each = 2 * left.shape[1] * right.shape[1]
    if len(left) * each <= OPERATIONS:
        small: Array = left.T @ right
        return small
    sums = np.zeros((left.shape[1], right.shape[1]), left.dtype)
    for part in _rows_at_once(len(left), each):
        sums += left[part].T @ right[part]
    return sums
