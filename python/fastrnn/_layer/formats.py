"""Weight formats: what a frozen layer keeps of its weights, and the numbers that these are.

Of a matrix W of weights, int8 keeps integers Q from -127 to 127 and a scale s for each row: W is about s Q, and the
largest magnitude of a row is 127 s. bfloat16 keeps the upper half of each float32, rounded to the nearest, even where
two are as near.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from fastrnn._base.checks import Array
from fastrnn._base.extras import needed
from fastrnn._base.parts import quiet

Format = Literal["float32", "bfloat16", "int8"]
FORMATS = ("float32", "bfloat16", "int8")
SCALE = "_scale"  # after the name of a matrix
LARGEST = 127
# Of a longer row the sum of as many products of integers might have more than 32 bits.
LONGEST_ROW = 2**17


def is_matrix(name: str, p: Array) -> bool:
    """Return whether a parameter is one of those that rows are multiplied with."""
    return name.startswith(("weight_ih", "weight_hh", "weight_hr")) and p.ndim == 2


def kept_as(owner: str, weights: Format, params: Mapping[str, Array]) -> dict[str, Array]:
    """Return the parameters as a format keeps them, all of them new arrays; ValueError where it cannot."""
    found: dict[str, Array] = {}
    for name, p in params.items():
        if not is_matrix(name, p):
            found[name] = p.copy()
        elif weights == "bfloat16":
            found[name] = p.astype(bfloat16(owner))
        else:
            refuse_long_rows(owner, name, p)
            found[name], found[name + SCALE] = quantised(p)
    return found


def refuse_long_rows(owner: str, name: str, p: Array) -> None:
    """Raise ValueError where int8 cannot keep a matrix."""
    if p.shape[1] > LONGEST_ROW:
        raise ValueError(
            f"{owner}: weights is 'int8', and rows of {name} have {p.shape[1]:,} numbers, expected at most "
            f"{LONGEST_ROW:,}"
        )


def as_kept(owner: str, weights: Format, params: Mapping[str, Array], arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return arrays of a file as a format keeps such parameters; ValueError where they are others."""
    # Of bfloat16 a file's numbers come widened.
    expected = {name: (p.shape, np.dtype(np.int8 if p.dtype == np.int8 else np.float32)) for name, p in params.items()}
    different = expected.keys() ^ arrays.keys()
    different |= {name for name in expected.keys() & arrays.keys() if expected[name][0] != arrays[name].shape}
    different |= {name for name in expected.keys() & arrays.keys() if expected[name][1] != arrays[name].dtype}
    if different:
        raise ValueError(f"{owner}: {', '.join(sorted(different))}: not as {weights} weights of it are kept")
    found = {name: np.array(arrays[name]) for name in expected}
    for name in (name for name, p in params.items() if is_matrix(name, p)):
        if weights == "bfloat16":
            upper = found[name].astype(bfloat16(owner))
            if not np.array_equal(upper.astype(np.float32), found[name], equal_nan=True):
                raise ValueError(f"{owner}: {name} has numbers that bfloat16 has not")
            found[name] = upper
        elif (
            weights == "int8"
            and not np.isin(np.abs(found[name].astype(np.int16)).max(1, initial=0), (0, LARGEST)).all()
        ):
            raise ValueError(f"{owner}: {name} has a row whose largest integer is not {LARGEST}")
    return found


def bfloat16(owner: str) -> Any:
    """Return the dtype."""
    return needed(owner, "ml_dtypes").bfloat16


def quantised(w: Array) -> tuple[Array, Array]:
    """Return the integers of a matrix, and the scale of each row: NaN of a row in which a number is not finite."""
    finite = np.logical_and.reduce(np.isfinite(w), axis=1)
    largest = np.abs(w).max(1, initial=0.0)
    scale = (np.where(finite, largest, np.nan) / np.float32(LARGEST)).astype(np.float32)
    divisible = np.where(finite & (scale > 0), scale, np.float32(1))
    multiple = np.where(finite[:, None], w, 0) / divisible[:, None]
    return np.rint(multiple).clip(-LARGEST, LARGEST).astype(np.int8), scale


def number_of(name: str, params: Mapping[str, Array]) -> Array:
    """Return a parameter as float32, as it is or as it is kept."""
    p = params[name]
    if p.dtype == np.int8:
        with quiet():
            return p * params[name + SCALE][:, None]
    return p if p.dtype == np.float32 else p.astype(np.float32)


def shape_alone(array: Array | None) -> Array | None:
    """Return an array of the same shape that has no memory, which the kernels can tell; one number is itself."""
    return array if array is None or array.size <= 1 else np.broadcast_to(np.zeros((), np.float32), array.shape)
