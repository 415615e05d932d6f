"""What the kernels have packed of the weights that functions were called with, for the calls that follow.

A layer keeps that itself; a function has nothing to keep it in. When it gets the same arrays for the second time, their
weights are packed, and from the third time on nothing is but where a bit of them has changed, which each call looks
for. Packs are forgotten with the arrays, and the oldest where there are too many.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from functools import partial
from typing import Any

import numpy as np

from fastrnn import _core

MOST = 16
MOST_BYTES = 64 << 20  # of weights; packed ones take a little more

Key = tuple[str, int, int]
_entries: OrderedDict[Key, _Entry] = OrderedDict()
_lock = threading.Lock()


def _forget(entries: OrderedDict[Key, _Entry], key: Key, _: Any) -> None:
    entries.pop(key, None)


class _Entry:
    """Weights that a function has been called with."""

    def __init__(self, key: Key, weights: tuple[Any, Any]) -> None:
        self.bytes = sum(w.nbytes for w in weights)
        self.arrays = [weakref.ref(w, partial(_forget, _entries, key)) for w in weights]
        self.kept: _core.KeptWeights | None = None


def packs_of(cell: str, w_ih: Any, w_hh: Any) -> _core.KeptWeights | None:
    """Return what is kept of such weights; None where nothing is, as when they are seen for the first time."""
    key = cell, id(w_ih), id(w_hh)
    entry = _entries.get(key)
    if entry is None:
        _remember(key, w_ih, w_hh)
        return None
    if entry.kept is None:
        kept = _core.KeptWeights(False)
        kept.expect_the_same()
        entry.kept = kept
    return entry.kept


def _remember(key: Key, *weights: Any) -> None:
    if not all(type(w) is np.ndarray for w in weights) or sum(w.nbytes for w in weights) > MOST_BYTES:
        return
    # Nobody waits: not even a child forked while another thread had the lock.
    if _lock.acquire(blocking=False):
        try:
            _entries[key] = _Entry(key, (weights[0], weights[1]))
            while len(_entries) > MOST or sum(entry.bytes for entry in list(_entries.values())) > MOST_BYTES:
                _entries.popitem(last=False)
        finally:
            _lock.release()


def clear_cache() -> None:
    """Free what the functions keep of weights from call to call: packed copies, of 64 MiB of weights at most.

    They are made again when they are needed. Layers keep their own, which go with them.
    """
    _entries.clear()
