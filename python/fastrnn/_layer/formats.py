"""Weight formats: what a frozen layer keeps of its weights, and the numbers that these are.

Of a matrix W of weights, int8 keeps integers Q and a scale s for each row: W is about s Q. Those that are made of
float32 are from -127 to 127, and the largest magnitude of a row is 127 s. bfloat16 keeps the upper half of each
float32, rounded to the nearest, even where two are as near.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from fastrnn._base.checks import Array
from fastrnn._base.extras import needed
from fastrnn._base.parts import quiet

from .spec import Shapes

Format = Literal["float32", "bfloat16", "int8"]
FORMATS = ("float32", "bfloat16", "int8")
SCALE = "_scale"  # after the name of a matrix
LARGEST = 127
# Of a longer row the sum of as many products of integers might have more than 32 bits.
LONGEST_ROW = 2**17


def is_matrix(name: str, shape: tuple[int, ...]) -> bool:
    """Return whether a parameter is one of those that rows are multiplied with."""
    return name.startswith(("weight_ih", "weight_hh", "weight_hr")) and len(shape) == 2 and not name.endswith(SCALE)


def kept_as(owner: str, weights: Format, params: Mapping[str, Array]) -> dict[str, Array]:
    """Return the parameters as a format keeps them; ValueError where it cannot."""
    found: dict[str, Array] = {}
    for name, p in params.items():
        if not is_matrix(name, p.shape):
            found[name] = p
        elif weights == "bfloat16":
            found[name] = p.astype(bfloat16(owner))
        else:
            refuse_long_rows(owner, name, p.shape)
            found[name], found[name + SCALE] = quantised(p)
    return found


def refuse_long_rows(owner: str, name: str, shape: tuple[int, ...]) -> None:
    """Raise ValueError where int8 cannot keep a matrix."""
    if shape[1] > LONGEST_ROW:
        raise ValueError(
            f"{owner}: weights is 'int8', and rows of {name} have {shape[1]:,} numbers, expected at most "
            f"{LONGEST_ROW:,}"
        )


def as_kept(owner: str, weights: Format, shapes: Shapes, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return arrays of a file, which are what a format keeps of such parameters, in their order.

    Matrices are of int8, and their scales float32; or of the bits of bfloat16 in uint16. Raises ValueError where they
    are others.
    """
    expected: dict[str, tuple[tuple[int, ...], Any]] = {}
    for name, shape in shapes.items():
        expected[name] = shape, np.float32
        if is_matrix(name, shape):
            expected[name] = shape, np.int8 if weights == "int8" else np.uint16
            if weights == "int8":
                refuse_long_rows(owner, name, shape)
                expected[name + SCALE] = shape[:1], np.float32
    different = {
        name
        for name in expected.keys() | arrays.keys()
        if name not in expected or name not in arrays or (arrays[name].shape, arrays[name].dtype) != expected[name]
    }
    if different:
        raise ValueError(f"{owner}: {', '.join(sorted(different))}: not as {weights} weights of it are kept")
    for name in expected.keys() - shapes.keys():
        if (np.isinf(arrays[name]) | (arrays[name] < 0)).any():
            raise ValueError(f"{owner}: {name} has a number that is no scale: expected finite ones from 0 on, or NaN")
    return {name: arrays[name] for name in expected}


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


def in_float32(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return arrays as :func:`as_kept` has them as parameters of float32."""
    found: dict[str, Array] = {}
    for name, a in arrays.items():
        if a.dtype == np.int8:
            with quiet():
                found[name] = a * arrays[name + SCALE][:, None]
        elif a.dtype == np.uint16:
            found[name] = (a.astype(np.uint32) << 16).view(np.float32)
        elif not name.endswith(SCALE):
            found[name] = a
    return found
