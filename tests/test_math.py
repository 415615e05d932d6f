"""exp, tanh, sigmoid and others keep the error bounds that csrc/kernels/math.h states, on every instruction set.

float32 is held against float64, which is exact for the purpose; float64 against long double, where that has more bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastrnn import _core
from problems import Array

# Units in the last place of the result.
BOUNDS = {"exp": 2, "tanh": 4, "sigmoid": 4, "softplus": 6, "softsign": 2, "elu": 4}

ORACLES: dict[str, Callable[[Array], Array]] = {
    "exp": np.exp,
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softplus": lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
    "softsign": lambda x: np.where(np.isinf(x), np.sign(x), x / (1 + np.minimum(np.abs(x), np.finfo(x.dtype).max))),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
}


def kernel(name: str, x: Array) -> Array:
    """The function as the kernels have it."""
    if name in ("exp", "tanh", "sigmoid"):
        return _core._math(name, x)
    values: Array = _core._activation((name, 1.0, 0.0), x)[0]
    return values


each_function = pytest.mark.parametrize("name", BOUNDS)
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])


def oracle(name: str, x: Array) -> Array:
    """The function in the next wider dtype."""
    wide = np.float64 if x.dtype == np.float32 else np.longdouble
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return ORACLES[name](x.astype(wide))


def assert_within_bound(name: str, x: Array) -> None:
    """``x`` without NaN. What is below the smallest normal number may be flushed to zero, coming in and going out."""
    got = kernel(name, x)
    assert got.dtype == x.dtype
    info = np.finfo(x.dtype)
    tiny = info.smallest_normal
    right = oracle(name, x)
    with np.errstate(over="ignore", under="ignore"):
        rounded = right.astype(x.dtype)
    exponent = np.frexp(np.clip(np.abs(rounded), tiny, info.max))[1]
    unit = np.ldexp(x.dtype.type(1), exponent - 1 - info.nmant)
    finite = np.isfinite(rounded)
    error = np.zeros(x.shape)
    error[finite] = np.abs(got[finite].astype(right.dtype) - right[finite]) / unit[finite]
    # An overflow is infinity here and there, but for results within the bound of the largest number.
    error[~finite] = np.where(
        (got[~finite] == rounded[~finite]) | (info.max - np.abs(got[~finite]) <= BOUNDS[name] * unit[~finite]),
        0,
        np.inf,
    )
    # Flushed: a zero of the result's sign.
    flushed = (np.abs(right) < tiny) & (got == 0)
    error[flushed] = 0
    worst = int(np.argmax(error))
    assert error[worst] <= BOUNDS[name], (
        f"{name}({x[worst]!r}) is {got[worst]!r}, expected {rounded[worst]!r}: off by {error[worst]:.2f} ULP"
    )


def specials(dtype: Any) -> Array:
    """Zeros, ones, the borders of the normal and denormal numbers and of overflow, and their neighbours."""
    info = np.finfo(dtype)
    tiny, log = info.smallest_normal, np.log
    edges = [
        *(0.0, 1.0, 0.5, 2.0, float(info.eps), float(info.eps) / 2, float(info.max), float(tiny)),
        *(float(info.smallest_subnormal), float(tiny) / 2, float(tiny) * 3),
        *(float(log(info.max)), -float(log(tiny)), -float(log(info.smallest_subnormal))),
        *(float(log(info.max)) / 2, 9.0, 10.0, 18.0, 19.0, 20.0, 87.0, 88.0, 89.0, 104.0, 105.0, 709.0, 710.0, 746.0),
        *(k * float(log(2)) / 2 for k in range(1, 64)),
    ]
    values = np.array(edges, dtype)
    with np.errstate(over="ignore"):
        near = np.concatenate([values, np.nextafter(values, dtype(np.inf)), np.nextafter(values, dtype(-np.inf))])
    return np.concatenate([near, -near])


@each_function
def test_float32_sweep(name: str, isa: str) -> None:
    # 997 is prime, so that the stride meets every exponent and all low bits.
    bits = np.arange(0, 2**32, 997, dtype=np.uint64).astype(np.uint32)
    x = bits.view(np.float32)
    assert_within_bound(name, x[~np.isnan(x)])


@each_function
def test_float32_near_the_origin(name: str, isa: str) -> None:
    assert_within_bound(name, np.linspace(-20, 20, 1_000_001, dtype=np.float32))


@each_function
def test_float64_random(name: str, isa: str, rng: np.random.Generator) -> None:
    if np.finfo(np.longdouble).nmant <= np.finfo(np.float64).nmant:
        pytest.skip("long double is no wider than double on this platform")
    magnitudes = 2.0 ** rng.uniform(-1070, 1024, 200_000)
    x = np.concatenate([magnitudes, -magnitudes, rng.uniform(-750, 750, 200_000), rng.uniform(-3, 3, 400_000)])
    assert_within_bound(name, x)


@each_dtype
@each_function
def test_specials(name: str, dtype: Any, isa: str) -> None:
    if dtype == np.float64 and np.finfo(np.longdouble).nmant <= np.finfo(np.float64).nmant:
        pytest.skip("long double is no wider than double on this platform")
    assert_within_bound(name, specials(dtype))


@each_dtype
def test_infinities_nan_and_signed_zero(dtype: Any, isa: str) -> None:
    x = np.array([np.inf, -np.inf, np.nan, -np.nan, 0.0, -0.0], dtype)
    np.testing.assert_array_equal(_core._math("exp", x), np.array([np.inf, 0, np.nan, np.nan, 1, 1], dtype))
    np.testing.assert_array_equal(_core._math("tanh", x), np.array([1, -1, np.nan, np.nan, 0, 0], dtype))
    np.testing.assert_array_equal(_core._math("sigmoid", x), np.array([1, 0, np.nan, np.nan, 0.5, 0.5], dtype))
    np.testing.assert_array_equal(np.signbit(_core._math("tanh", x)[[0, 1, 4, 5]]), [False, True, False, True])


@each_dtype
def test_tanh_is_odd_and_ranges_hold(dtype: Any, isa: str, rng: np.random.Generator) -> None:
    x = np.concatenate([specials(dtype), rng.normal(0, 5, 100_000).astype(dtype)])
    tanh = _core._math("tanh", x)
    np.testing.assert_array_equal(_core._math("tanh", -x), -tanh)
    assert np.abs(tanh).max() <= 1
    sigmoid = _core._math("sigmoid", x)
    assert sigmoid.min() >= 0
    assert sigmoid.max() <= 1


@each_dtype
@each_function
def test_every_length_gives_the_same_bits(name: str, dtype: Any, isa: str, rng: np.random.Generator) -> None:
    x = rng.normal(0, 3, 67).astype(dtype)
    whole = kernel(name, x)
    for n in range(68):
        assert kernel(name, x[:n]).tobytes() == whole[:n].tobytes(), n


@each_dtype
@each_function
def test_nan_stays_in_its_lane(name: str, dtype: Any, isa: str, rng: np.random.Generator) -> None:
    x = rng.normal(0, 3, 37).astype(dtype)
    clean = kernel(name, x)
    for lane in range(x.size):
        poisoned = x.copy()
        poisoned[lane] = np.nan
        got = kernel(name, poisoned)
        assert np.isnan(got[lane])
        np.testing.assert_array_equal(np.delete(got, lane), np.delete(clean, lane))
