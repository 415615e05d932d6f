"""Checks of what users pass, and the words in which they are told what is wrong with it."""

import contextlib
import contextvars
import math
import numbers
import reprlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def shown(value: object) -> str:
    """Return a value as it is shown in a message: of any length, cut."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} of shape {value.shape}"
    return reprlib.repr(value)


def integer(owner: str, name: str, value: Any, least: int, most: int | None = None) -> int:
    """Return a whole number from ``least`` on; NumPy's integers are integers, bools are not."""
    if isinstance(value, bool | np.bool_ | np.ndarray) or not hasattr(value, "__index__"):
        raise TypeError(f"{owner}: {name} is {shown(value)}, expected an int")
    number = int(value.__index__())
    if number < least or (most is not None and number > most):
        limit = f"at least {least}" if most is None else f"{least} to {most}"
        raise ValueError(f"{owner}: {name} is {shown(number)}, expected {limit}")
    return number


def boolean(owner: str, name: str, value: Any) -> bool:
    """Return a bool, which nothing else stands for."""
    if value is True or value is False:
        return value
    if not isinstance(value, np.bool_):
        raise TypeError(f"{owner}: {name} is {shown(value)}, expected a bool")
    return bool(value)


def number(owner: str, name: str, value: Any, good: Callable[[float], bool], expected: str) -> float:
    """Return a real number that is ``good``."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        raise TypeError(f"{owner}: {name} is {shown(value)}, expected {expected}")
    try:
        plain = float(value)
    except OverflowError:  # an int of hundreds of digits
        plain = math.nan
    if not good(plain):
        raise ValueError(f"{owner}: {name} is {shown(value)}, expected {expected}")
    return plain


def choice(owner: str, name: str, value: Any, choices: tuple[str, ...]) -> str:
    """Return one of some strings."""
    if isinstance(value, str) and value in choices:
        return value
    kind_of_error = ValueError if isinstance(value, str) else TypeError
    raise kind_of_error(f"{owner}: {name} is {shown(value)}, expected {' or '.join(map(repr, choices))}")


def share(owner: str, name: str, value: Any) -> float:
    """Return a number from 0 to below 1."""
    return number(owner, name, value, lambda p: 0 <= p < 1, "a number from 0 to below 1")


def probability(owner: str, name: str, value: Any) -> float:
    """Return a number from 0 to 1."""
    return number(owner, name, value, lambda p: 0 <= p <= 1, "a number from 0 to 1")


def not_negative(owner: str, name: str, value: Any) -> float:
    """Return a finite number, 0 or above."""
    return number(owner, name, value, lambda x: 0 <= x < float("inf"), "a finite number, 0 or above")


def positive(owner: str, name: str, value: Any) -> float:
    """Return a number above 0, which may be infinite."""
    return number(owner, name, value, lambda x: x > 0, "a number above 0")


def float_dtype(owner: str, value: Any) -> "np.dtype[Any]":
    """Return float32 or float64."""
    try:
        dtype: np.dtype[Any] = np.dtype(value)
    except TypeError:
        raise TypeError(f"{owner}: dtype is {shown(value)}, expected float32 or float64") from None
    if dtype not in (np.float32, np.float64) or value is None:
        raise TypeError(f"{owner}: dtype is {shown(value) if value is None else dtype}, expected float32 or float64")
    return dtype


def seed(owner: str, value: Any) -> "np.random.Generator":
    """Return a generator that begins at a seed, or at another one each time."""
    return np.random.default_rng(None if value is None else integer(owner, "seed", value, 0))


# How many numbers are left for the parameters of modules, where what is made comes from a file.
_LEFT: contextvars.ContextVar[int | None] = contextvars.ContextVar("_LEFT", default=None)


@contextlib.contextmanager
def at_most(numbers: int) -> Iterator[None]:
    """Have :func:`held` refuse more numbers than these for a while, in all."""
    token = _LEFT.set(numbers)
    try:
        yield
    finally:
        _LEFT.reset(token)


def held(owner: str, numbers: int, dtype: "np.dtype[Any]", sizes: str) -> None:
    """Raise ValueError where so many numbers are more than memory can hold; ``sizes`` are the arguments to blame."""
    if numbers * dtype.itemsize > sys.maxsize:
        raise ValueError(f"{owner}: {sizes} make {numbers:,} parameters, which is more than memory can hold")
    left = _LEFT.get()
    if left is not None:
        if numbers > left:
            raise ValueError(f"{owner}: {sizes} make {numbers:,} parameters, and there are no more than {left:,}")
        _LEFT.set(left - numbers)


def generator(owner: str, name: str, value: Any) -> "np.random.Generator":
    """Return what numbers are drawn from."""
    if not isinstance(value, np.random.Generator):
        raise TypeError(f"{owner}: {name} is {shown(value)}, expected np.random.default_rng(...)")
    return value


def array(
    owner: str,
    name: str,
    value: Any,
    dtype: "np.dtype[Any] | None" = None,
    of: str = "",
    made_of: "np.dtype[Any] | None" = None,
) -> Array:
    """Return a NumPy array as a plain one, of this dtype, which is that of ``of``, or of any.

    Raises TypeError, which tells how to make one of ``value``, of ``made_of`` if any dtype will do.
    """
    if not isinstance(value, np.ndarray):
        raise TypeError(
            f"{owner}: {name} is {kind(value)}, expected a NumPy array{_way(name, value, dtype or made_of)}"
        )
    if dtype is not None and value.dtype != dtype:
        raise TypeError(f"{owner}: {name} is {value.dtype}, {of} {dtype}: {name}.astype(np.{dtype})")
    return value if type(value) is np.ndarray else np.asarray(value)


def kind(value: object) -> str:
    """Return what kind of thing a value is, with its article."""
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _way(name: str, value: Any, dtype: "np.dtype[Any] | None") -> str:
    """Return how to make the array of a value that is wanted instead."""
    library = type(value).__module__.partition(".")[0]
    of_dtype = f", np.{dtype}" if dtype is not None else ""
    if value is None:
        return ""
    if library == "torch":
        return f": {name}.numpy(force=True)"
    if library == "pandas":
        return f": {name}.to_numpy({of_dtype[2:] or 'dtype'})"
    if isinstance(value, tuple) and value and isinstance(value[0], np.ndarray):
        return ": of what a layer returns, (y, state), the first"
    if isinstance(value, numbers.Number) and name == "dy":
        return ": a loss returns the gradient beside its value"
    return f": np.asarray({name.split()[-1]}{of_dtype})"  # of "state's h", h


def floats(owner: str, name: str, value: Any) -> Array:
    """Return a NumPy array of float32 or float64."""
    given = array(owner, name, value, made_of=np.dtype(np.float32))
    if given.dtype not in (np.float32, np.float64):
        raise TypeError(f"{owner}: {name} is {given.dtype}, expected float32 or float64: {name}.astype(np.float32)")
    return given


def integers(owner: str, name: str, value: Any) -> Array:
    """Return a NumPy array of integers."""
    given = array(owner, name, value)
    if given.dtype.kind not in "iu":
        raise TypeError(f"{owner}: {name} is {given.dtype}, expected integers: {name}.astype(np.int64)")
    return given


def shape(owner: str, name: str, given: Array, expected: tuple[int, ...], letters: str) -> None:
    """Raise ValueError unless an array has the expected shape; ``letters`` say what that is."""
    if given.shape != expected:
        raise ValueError(f"{owner}: {name} has shape {given.shape}, expected {letters} = {expected}")


def first_line(error: BaseException) -> str:
    """Return the first line of what another library's error says, or its kind if it says nothing."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__


def tell_where(error: BaseException, where: str) -> None:
    """Add to a message where in a net it comes from."""
    if type(error) in (TypeError, ValueError, RuntimeError) and len(error.args) == 1:
        error.args = (f"{error}; in {where}",)
