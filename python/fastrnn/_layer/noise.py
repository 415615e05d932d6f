"""What keeps a layer from learning by heart: dropout, recurrent dropout and zoneout, and the numbers they draw."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastrnn._base.checks import Array
from fastrnn._base.parts import dropout_mask, parts_of

from .spec import Spec
from .states import States, widened


class Noise:
    """What a call in training draws, for each purpose from a generator of its own.

    So a sequence that is gone through in parts draws what it would draw as a whole.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._seed = int(rng.integers(2**63))
        self._rngs: dict[str, np.random.Generator] = {}

    def first(self, purpose: str, suffix: str) -> np.random.Generator:
        """Return a new generator, which draws the same each time."""
        return np.random.default_rng([self._seed, zlib.crc32((purpose + suffix).encode())])

    def rng(self, purpose: str, suffix: str) -> np.random.Generator:
        """Return the generator that goes on where the part before has left it."""
        name = purpose + suffix
        if name not in self._rngs:
            self._rngs[name] = self.first(purpose, suffix)
        return self._rngs[name]

    def kept(self, purpose: str, suffix: str, rows: int, shares: Sequence[float], H: int, dtype: Any) -> States:
        """Return for each share (rows, H): 0 with this probability, else 1; None where the share is 0."""
        pairs = (len(shares) * H + 1) // 2
        keeps: States = [np.empty((rows, H), dtype) if p else None for p in shares]
        bits = self.rng(purpose, suffix).bit_generator
        for part in parts_of(rows, 8 * pairs):
            count = part.stop - part.start
            drawn = bits.random_raw(count * pairs).view(np.uint32).reshape(count, 2 * pairs)
            for s, (p, keep) in enumerate(zip(shares, keeps, strict=True)):
                if keep is not None:
                    keep[part] = drawn[:, s * H : (s + 1) * H] >= round(p * 2**32)
        return keeps


class Regularisation:
    """How a call is regularised: by what it draws if it is in training, else by what is to be expected."""

    def __init__(
        self, dropout: float, recurrent_dropout: float, zoneouts: tuple[float, ...], rng: np.random.Generator | None
    ) -> None:
        self._dropout, self._recurrent_dropout, self._zoneouts = dropout, recurrent_dropout, zoneouts
        self._rng = rng  # None in evaluation mode
        self._noise: Noise | None = None

    def begin(self) -> None:
        """Draw the first number, now that nothing is wrong with the call."""
        if self._rng is not None:
            self._noise, self._rng = Noise(self._rng), None

    def of_steps(self, spec: Spec, suffix: str, order: Any, batch: int, rows: int) -> tuple[Array | None, ...] | None:
        """Return what the kernels know of recurrent dropout and zoneout in ``rows`` rows of steps.

        That is a mask (B, H), sequences in this order, and, for each state, how much of its change it takes over:
        (N, H) of all rows, or (1, H).
        """
        H, dtype, noise = spec.hidden_size, spec.dtype, self._noise
        if noise is None:
            return expected_zoneout(self._zoneouts, H, dtype)
        if not (self._recurrent_dropout or any(self._zoneouts)):
            return None
        mask = None
        if self._recurrent_dropout:
            rng, of_h = noise.first("recurrent_dropout", suffix), (batch, spec.state_sizes[0])
            mask = widened(dropout_mask(rng, self._recurrent_dropout, of_h, dtype)[order], H)
        keeps: States = [None for _ in self._zoneouts]
        if any(self._zoneouts):
            keeps = noise.kept("zoneout", suffix, rows, self._zoneouts, H, dtype)
        return (mask, *keeps)

    def between(self, suffix: str, shape: tuple[int, ...], dtype: Any) -> Array | None:
        """Return what dropout multiplies the outputs of a layer with, if it does."""
        if self._noise is None or not self._dropout:
            return None
        return dropout_mask(self._noise.rng("dropout", suffix), self._dropout, shape, dtype)


def expected_zoneout(shares: Sequence[float], H: int, dtype: Any) -> tuple[Array | None, ...] | None:
    """Return what the kernels know of zoneout where nothing is drawn: no mask, and (1, H) of each state's change."""
    if not any(shares):
        return None
    return (None, *(np.full((1, H), 1 - p, dtype) if p else None for p in shares))
