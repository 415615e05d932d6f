"""Streams: single steps of a layer, or of a net, as they come.

Shapes: B batch, I input size, H hidden size, L layers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from . import _core
from ._base import checks
from ._base.checks import Array
from ._base.parts import quiet
from ._layer.states import State, states_of
from .modules import FEW_ROWS, SMALL_WEIGHT, Embedding, Linear

__all__ = ["NetStream", "Stream"]


class Stream:
    """Single steps of a layer, bit for bit what one call over all of them gives. Made by :meth:`Layer.stream`.

    ``step(x, out=None)`` returns y (B, H) of the last layer from x (B, I), or tokens (B,). With an ``out`` to write y
    to, which may be x, it allocates nothing. For one thread at a time: a step that meets another thread's raises
    RuntimeError. A step that Ctrl-C interrupts leaves the states as they were before it.
    """

    def __init__(self, core: _core.Stream, layer: str, batch: int, tokens: bool) -> None:
        self._core = core
        self._layer, self._batch, self._tokens = layer, batch, tokens
        # The compiled method itself: a small step takes no longer than a call of a Python function.
        self.step = core.step

    @property
    def state(self) -> State:
        """The state, shaped (L, B, H), or two for an LSTM: a copy to read and keep; assign one to set it.

        None, also for one of the two, is what a row begins with.
        """
        states = self._core.state
        return states if len(states) > 1 else states[0]

    @state.setter
    def state(self, state: State | None) -> None:
        now = self._core.state
        self._core.state = tuple(
            states_of("Stream.state", "state", state, [a.shape for a in now], now[0].dtype, letters="(L, B, H)")
        )

    def reset(self, rows: Any = None) -> None:
        """Have some rows of the batch begin anew, all by default: with zeros, or the states that the layer has learned.

        ``rows`` is a mask, an array (B,) of bools, or of integers or floats that are 0 or 1, as environments give the
        ends of episodes, of a batch of one also a bool; or numbers of rows: an int, a slice, a list, or an array of
        fewer than B integers. A list that may be either, such as [1, 0] of a batch of two, raises ValueError.
        """
        self._core.reset(_rows_meant(rows, self._batch))

    def copy(self) -> Stream:
        """Return a stream with the same weights and states, that goes its own way."""
        return Stream(self._core.copy(), self._layer, self._batch, self._tokens)

    def __copy__(self) -> Stream:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> Stream:
        return self.copy()

    def __reduce__(self) -> Any:
        """Raise TypeError: a stream has only what the kernels have made of the weights."""
        raise TypeError("a stream cannot be pickled: pickle its layer and its state, and make another of them")

    def __repr__(self) -> str:
        tokens = ", tokens=True" if self._tokens else ""
        return f"{self._layer}.stream({self._batch}{tokens})"


def _rows_meant(rows: Any, batch: int) -> Array:
    """Return which rows of the batch are meant, (B,) of bool."""
    name, meant = "Stream.reset", np.zeros(batch, bool)
    if rows is None or rows is ...:
        return ~meant
    if isinstance(rows, slice):
        meant[rows] = True
        return meant
    in_list = isinstance(rows, list | tuple | range)
    scalar = isinstance(rows, int | np.integer | np.bool_)
    try:
        given = np.array([rows]) if scalar else np.asarray(rows)
    except (TypeError, ValueError):
        given = np.asarray(None)
    if given.dtype.kind not in "biuf" or given.ndim != 1 or (scalar and given.dtype.kind == "b" and batch != 1):
        raise TypeError(f"{name}: rows is {checks.shown(rows)}, expected a mask (B,) = ({batch},), or numbers of rows")
    zeros_and_ones = given.shape == (batch,) and bool(((given == 0) | (given == 1)).all())
    if given.size == 0:
        return meant
    if given.dtype.kind in "bf" or (given.shape == (batch,) and not (in_list or scalar)):
        if not zeros_and_ones:
            raise ValueError(
                f"{name}: rows is {checks.shown(rows)}, expected a mask (B,) = ({batch},) of zeros and ones; "
                "numbers of rows come in a list"
            )
        return given.astype(bool)
    if zeros_and_ones and isinstance(rows, list | tuple):
        if len(np.unique(given)) < batch:  # the same row twice would make no sense
            return given.astype(bool)
        raise ValueError(
            f"{name}: rows {rows} of a batch of {batch} may be numbers of rows or a mask: for a mask, np.array(rows); "
            "for all rows, reset()"
        )
    if not (given.min() >= -batch and given.max() < batch):
        raise ValueError(f"{name}: rows has {given.min()} to {given.max()}, expected rows of a batch of {batch}")
    meant[given] = True
    return meant


class Stage(NamedTuple):
    """What a stream does with one of the modules of its net."""

    name: str
    part: Any  # a stream of a layer, or a module of its own
    width: int | None  # how many features it gives; None is as many as it gets
    dtype: np.dtype[Any] | None


Run = Callable[[Array, Array | None], Array]  # y of x, in the other array if there is one


class _Run(NamedTuple):
    name: str
    run: Run
    between: Array | None  # what it writes to, if the next one is to read that


def _run_of(part: Any, batch: int) -> Run:
    """Return what a part of a stream does in a step."""
    if isinstance(part, Stream):
        return part._core.step
    if isinstance(part, Linear):
        weight, bias = part.params["weight"], part.params.get("bias")
        if batch <= FEW_ROWS and weight.size <= SMALL_WEIGHT:
            return lambda x, out: _core.linear(x, weight, bias, out)
        return lambda x, out: _into(part._run(part._checked(x)), out)
    if isinstance(part, Embedding):
        return _run_of_embedding(part, batch)

    def run(x: Array, out: Array | None) -> Array:
        with quiet():
            y: Array = part._into(x, np.empty(x.shape, x.dtype) if out is None else out)
        return y

    return run


def _run_of_embedding(part: Embedding, batch: int) -> Run:
    weight, tokens_end = part.params["weight"], part.num_embeddings

    def run(x: Array, out: Array | None) -> Array:
        if 0 < batch <= FEW_ROWS:  # where NumPy's way takes ten times as long
            tokens = x.tolist()
            if min(tokens) >= 0 and max(tokens) < tokens_end:
                return weight.take(tokens, 0, out)
        return _into(part._run(x), out)

    return run


def _into(y: Array, out: Array | None) -> Array:
    """Return y, written into the other array if there is one."""
    if out is None:
        return y
    out[...] = y
    return out


class NetStream:
    """Single steps of a net. Made by :meth:`Sequential.stream`.

    ``step(x, out=None)`` returns y (B, H) of the last module from x (B, I), or tokens (B,), written to ``out`` if there
    is one. It has the bits of the net called on the whole sequence as far as recurrent layers go; a Linear that gets
    all steps of that at once may round in another way.

    For one thread at a time: a step that meets another thread's raises RuntimeError. A step that fails, or that Ctrl-C
    interrupts, leaves the states as they were before it.
    """

    def __init__(self, stages: list[Stage], net: str, made: str, batch: int, tokens: bool) -> None:
        self._stages, self._net, self._made, self._batch, self._tokens = stages, net, made, batch, tokens
        self._streams = [(stage.name, stage.part) for stage in stages if isinstance(stage.part, Stream)]
        self._cores = [stream._core for _, stream in self._streams]
        self._lock = threading.Lock()
        self._runs: list[_Run] = []
        self._width: int | None = None
        self._dtype: np.dtype[Any] | None = None
        for stage in stages:
            self._width = self._width if stage.width is None else stage.width
            self._dtype = stage.dtype or self._dtype
            between = None if self._width is None else np.empty((batch, self._width), self._dtype)
            self._runs.append(_Run(stage.name, _run_of(stage.part, batch), between))
        self._last = self._runs.pop() if stages else _Run("", lambda x, out: _into(x.copy(), out), None)
        self._first = stages[0].part if stages else None

    def step(self, x: Array, out: Array | None = None) -> Array:
        """Return y (B, H) of x (B, I), or of tokens (B,)."""
        with self._alone("step"):
            if not isinstance(self._first, Stream):
                x = self._checked(x)
            if out is not None:
                self._check_out(out, x)
            if out is not None and not self._runs and self._first_reads(x, out):
                x = x.copy()
            before, now = [core.state for core in self._cores], self._last
            try:
                for now in self._runs:
                    x = now.run(x, now.between)
                now = self._last
                return now.run(x, out)
            except BaseException as error:
                self._back_to(before)
                checks.tell_where(error, f"module {now.name} of {self._net}")
                raise

    def _first_reads(self, x: Array, out: Array) -> bool:
        """Whether a module that is no layer reads what it writes to."""
        return not isinstance(self._first, Stream) and np.may_share_memory(x, out)

    def _back_to(self, before: list[tuple[Array, ...]]) -> None:
        """Have the layers in the states that they had."""
        for core, state in zip(self._cores, before, strict=True):
            core.state = state

    def _alone(self, what: str) -> threading.Lock:
        """Return the lock, unless another thread has it."""
        if self._lock.locked():
            raise RuntimeError(
                f"Stream.{what}: another thread is in a step of this stream: give each its own, stream.copy()"
            )
        return self._lock

    def _checked(self, x: Any) -> Array:
        """Return what a module gets that does not look how many rows there are."""
        if isinstance(self._first, Embedding):
            checked = checks.integers("Stream.step", "x", x)
            checks.shape("Stream.step", "x", checked, (self._batch,), "(B,)")
            return checked
        checked = checks.floats("Stream.step", "x", x)
        width = self._first.in_features if isinstance(self._first, Linear) else checked.shape[-1] if checked.ndim else 0
        checks.shape("Stream.step", "x", checked, (self._batch, width), "(B, I)")
        return checked

    def _check_out(self, out: Any, x: Array) -> None:
        shape = x.shape if self._width is None else (self._batch, self._width)
        dtype = self._dtype or x.dtype
        if type(out) is not np.ndarray or out.dtype != dtype or out.shape != shape:
            checks.shape("Stream.step", "out", checks.array("Stream.step", "out", out, dtype, "x is"), shape, "(B, H)")
        if not (out.flags.c_contiguous and out.flags.writeable):
            raise ValueError("Stream.step: out is read-only or has gaps")

    @property
    def state(self) -> tuple[State, ...]:
        """The state of each recurrent layer, a tuple of what :class:`Stream` has: copies; assign some to set them."""
        with self._alone("state"):
            return tuple(stream.state for _, stream in self._streams)

    @state.setter
    def state(self, state: tuple[State | None, ...] | None) -> None:
        given = (None,) * len(self._cores) if state is None else state
        if not isinstance(given, tuple | list) or len(given) != len(self._cores):
            got = f"{len(given)} of them" if isinstance(given, tuple | list) else checks.shown(given)
            layers = f"the state of each recurrent layer, {len(self._cores)} in a tuple"
            raise TypeError(f"Stream.state: state is {got}, expected {layers}")
        with self._alone("state"):
            before, place = [core.state for core in self._cores], ""
            try:
                for (name, stream), of_layer in zip(self._streams, given, strict=True):
                    place = f"module {name} of {self._net}"
                    stream.state = of_layer
            except BaseException as error:
                self._back_to(before)
                checks.tell_where(error, place)
                raise

    def reset(self, rows: Any = None) -> None:
        """Have some rows of the batch begin anew, all by default; see :meth:`Stream.reset`."""
        with self._alone("reset"):
            for _, stream in self._streams:
                stream.reset(rows)

    def copy(self) -> NetStream:
        """Return a stream with the same weights and states, that goes its own way."""
        with self._alone("copy"):
            stages = [s._replace(part=s.part.copy()) if isinstance(s.part, Stream) else s for s in self._stages]
        return NetStream(stages, self._net, self._made, self._batch, self._tokens)

    def __copy__(self) -> NetStream:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> NetStream:
        return self.copy()

    def __reduce__(self) -> Any:
        """Raise TypeError: a stream has only what the kernels have made of the weights."""
        raise TypeError("a stream cannot be pickled: pickle its net and its state, and make another of them")

    def __repr__(self) -> str:
        tokens = ", tokens=True" if self._tokens else ""
        return f"{self._made}.stream({self._batch}{tokens})"
