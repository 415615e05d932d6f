"""Which arrays are parameters of modules."""

import functools
import weakref
from collections.abc import Iterable

import numpy as np

from .checks import Array


class Uses:
    """Which arrays are parameters of modules, and which were once and are no longer, as long as they live.

    An optimiser that still has one of the latter would change what nobody uses.
    """

    def __init__(self) -> None:
        self._of: dict[int, tuple[weakref.ref[Array], int]] = {}

    def _change(self, a: Array, by: int) -> None:
        key = id(a)
        ref, count = self._of.get(key, (None, 0))
        if ref is None or ref() is not a:
            # Not a function in Python, which might meet a Ctrl-C and would not pass it on.
            ref, count = weakref.ref(a, functools.partial(self._of.pop, key)), 0
        self._of[key] = ref, max(0, count + by)

    def begin(self, arrays: Iterable[Array]) -> None:
        """Note that a module uses these."""
        for a in arrays:
            self._change(a, 1)

    def end(self, arrays: Iterable[Array]) -> None:
        """Note that one does no longer."""
        for a in arrays:
            self._change(a, -1)

    def forget(self, arrays: Iterable[Array]) -> None:
        """Note that a module that used these is gone: whoever has them yet may do with them as with any others."""
        for a in arrays:
            self._change(a, -1)
            if self._of[id(a)][1] == 0:
                del self._of[id(a)]

    def has(self, a: Array) -> bool | None:
        """Whether this is a parameter of a module: False if it was one, None if it never was."""
        ref, count = self._of.get(id(a), (None, 0))
        return count > 0 if ref is not None and ref() is a else None

    def count(self, a: Array) -> int:
        """Return under how many names modules use this array."""
        return self._of[id(a)][1]

    def has_memory_of(self, a: Array, but: Iterable[Array] = ()) -> bool:
        """Whether a parameter of a module is in this array's memory; some of them do not count."""
        own = {id(p) for p in but}
        used = [ref() for ref, count in list(self._of.values()) if count > 0]
        return any(p is not None and id(p) not in own and np.may_share_memory(a, p) for p in used)


USES = Uses()
