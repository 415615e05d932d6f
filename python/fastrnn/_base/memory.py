"""Which arrays have memory in common."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .checks import Array


def sharing(arrays: Sequence[Array], writable: int) -> tuple[int, int] | None:
    """Return the numbers of two arrays that have memory in common, if there are any, one of the first ``writable``."""
    owners = [id(_owner(a)) for a in arrays]
    if (
        id(None) not in owners
        and len({*owners[:writable]}) == writable
        and {*owners[:writable]}.isdisjoint(owners[writable:])
    ):
        return None  # which mostly is all there is to see
    spans = sorted((*_extent(a), n) for n, a in enumerate(arrays) if a.size)
    open_spans: list[tuple[int, int]] = []  # end and number of those that may reach into the next
    for begin, end, n in spans:
        open_spans = [span for span in open_spans if span[0] > begin]
        for _, other in open_spans:
            if min(other, n) < writable and _meet(arrays[other], arrays[n]):
                return other, n
        open_spans.append((end, n))
    return None


def _owner(a: Array) -> Array | None:
    """Return the array whose memory an array is in, or None where that is something else's."""
    base: Any = a.base
    if base is None:
        return a
    return base if isinstance(base, np.ndarray) and base.base is None else None


def place(a: Array) -> tuple[Any, ...]:
    """Return what two arrays have in common that are the same numbers in the same memory."""
    return a.__array_interface__["data"][0], a.shape, a.strides, a.dtype


def _meet(a: Array, b: Array) -> bool:
    try:
        return bool(np.shares_memory(a, b, max_work=10**4))  # type: ignore[arg-type]
    except RuntimeError:  # too hard to find out
        return True


def _extent(a: Array) -> tuple[int, int]:
    """Return where an array's memory begins and ends."""
    begin = end = int(a.__array_interface__["data"][0])
    if a.flags.c_contiguous:
        return begin, begin + a.nbytes
    for n, stride in zip(a.shape, a.strides, strict=True):
        if stride < 0:
            begin += (n - 1) * stride
        else:
            end += (n - 1) * stride
    return begin, end + a.itemsize
