"""Nets of modules that are called one after the other, and what such nets have between layers.

Shapes: T steps, B batch, I input size, H features.

>>> import numpy as np, fastrnn
>>> from fastrnn import GRU, Last, Linear, Sequential
>>> net = Sequential(GRU(1, 64, batch_first=True, seed=0), Last(), Linear(64, 1, seed=0))
>>> x = np.ones((8, 50, 1), np.float32)
>>> y = net(x, lengths=[50, 7, 0, 31, 50, 50, 1, 2])
>>> y.shape
(8, 1)
>>> net.backward(y - 1).shape
(8, 50, 1)
>>> fastrnn.optim.Adam(net.params, lr=0.01).step(net.grads)
>>> stream = net.stream()
>>> stream.step(x[:1, 0]).shape
(1, 1)
"""

from __future__ import annotations

import abc
import copy
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Literal, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from ._base import checks
from ._base.checks import Array
from ._base.parts import parts, quiet, scale
from ._layer.arguments import checked_steps
from ._layer.formats import FORMATS, Format
from ._layer.weights import refuse_ties
from .layers import Layer
from .modules import (
    NO_GRADS,
    Dropout,
    Embedding,
    Linear,
    Module,
    ModuleCall,
    Several,
    check_gradient,
)
from .streams import NetStream, Stage

__all__ = ["Last", "Max", "Mean", "Relu", "Sequential", "Tanh"]


# --- from all steps to one

Put = Callable[[Array, Array], None]  # writes a gradient (B, H) to where it belongs in zeros (T, B, H)


def _checked_order(owner: Any, name: str, value: Any) -> bool | None:
    return None if value is None else checks.boolean(owner._name, name, value)


class _OverTime(Module, abc.ABC):
    """What Last, Mean and Max have in common: y (T, B, H) in, and (B, H) out."""

    _changeable: ClassVar = {**Module._changeable, "batch_first": _checked_order}

    def __init__(self, batch_first: bool | None = None) -> None:
        super().__init__()
        self.batch_first = batch_first

    def __call__(self, y: Array, lengths: npt.ArrayLike | None = None, mask: npt.ArrayLike | None = None) -> Array:
        """Return (B, H) of all steps that count.

        Args:
            y: (T, B, H), (B, T, H) if ``batch_first``, or (T, H) for one sequence.
            lengths: (B,), integers from 0 to T: how many steps each sequence has; None is T.
            mask: (T, B), (B, T) or (T,), booleans: which of them count; None is all.

        """
        call = self.record(y, lengths, mask)
        if self.training:
            self._last.keep(call)
        else:
            self._last.look()
        return call.y

    def record(self, y: Array, lengths: npt.ArrayLike | None = None, mask: npt.ArrayLike | None = None) -> ModuleCall:
        """Do what a call does; return an object with ``y`` and ``backward``."""
        return self._record(y, lengths, mask, bool(self.batch_first), None)

    def backward(self, dy: Array) -> Array:
        """Go back through this thread's last call in training mode; return dx, zero at steps that do not count."""
        dx: Array = self._last.back(self._name, dy).dx
        return dx

    def _record(self, y: Array, lengths: Any, mask: Any, batch_first: bool, layer: Layer | None) -> ModuleCall:
        """Make a call; ``layer`` is what the features come from, if they are still those of its directions."""
        name = self._name
        y = checks.floats(name, "y", y)
        given, dtype, single = y.shape, y.dtype, y.ndim == 2
        if y.ndim not in (2, 3):
            expected = "(B, T, H)" if batch_first else "(T, B, H)"
            raise ValueError(f"{name}: y has shape {given}, expected {expected}, or (T, H) for one sequence")

        def by_steps(a: Array) -> Array:
            """Return what has y's shape as (T, B, H)."""
            return a[:, None] if single else a.swapaxes(0, 1) if batch_first else a

        T, batch, H = by_steps(y).shape
        counted = checked_steps(name, lengths, mask, T, batch, single, batch_first)
        result, put = self._over(by_steps(y), None if counted is None else counted.at(slice(0, T)), layer)

        def back(dy: Array) -> tuple[Array, dict[str, Array]]:
            dy = check_gradient(f"{name}.backward", dy, (H,) if single else (batch, H), dtype)
            dx = np.zeros(given, dtype)
            put(dy.reshape(batch, H), by_steps(dx))
            return dx, {}

        return ModuleCall(result[0] if single else result, back)

    @abc.abstractmethod
    def _over(self, y: Array, counted: Array | None, layer: Layer | None) -> tuple[Array, Put]:
        """Return (B, H) of y (T, B, H), and the way back; ``counted`` (T, B) tells which steps count, None is all."""


def _ends(counted: Array | None, T: int, batch: int) -> tuple[Array, Array, Array]:
    """Return the sequences that have steps that count, and of each the first and the last of these."""
    if counted is None or T == 0:
        sequences = np.arange(batch if T else 0)
        return sequences, np.zeros_like(sequences), np.full_like(sequences, T - 1)
    sequences = np.flatnonzero(counted.any(axis=0))
    of_these = counted[:, sequences]
    return sequences, of_these.argmax(axis=0), T - 1 - of_these[::-1].argmax(axis=0)


def _which(counted: Array | None, part: Any) -> Any:
    """Return ``where``, for NumPy, of some steps (t, B, H)."""
    return True if counted is None else counted[part][..., None]


class Last(_OverTime):
    """The last step of each sequence that counts: zeros where none does.

    In a :class:`Sequential`, where it comes after a recurrent layer or has only :class:`~fastrnn.Dropout`,
    :class:`Relu` and :class:`Tanh` between, it is what each direction has put out last, as with
    ``return_sequence=False``: of a direction that reads from the end that is the first step.

    Args:
        batch_first: whether y is (B, T, H); None is as the recurrent layers before it in a :class:`Sequential`, or no.

    """

    def _over(self, y: Array, counted: Array | None, layer: Layer | None) -> tuple[Array, Put]:
        T, batch, H = y.shape
        sequences, first, last = _ends(counted, T, batch)
        from_the_start = H
        if layer is not None:
            from_the_start = H // 2 if layer.bidirectional else 0 if layer.reverse else H
        ends = (slice(from_the_start), last), (slice(from_the_start, None), first)
        result = np.zeros((batch, H), y.dtype)
        for features, at in ends:
            result[sequences, features] = y[at, sequences, features]

        def put(dy: Array, dx: Array) -> None:
            for features, at in ends:
                dx[at, sequences, features] = dy[sequences, features]

        return result, put


class Mean(_OverTime):
    """The mean of all steps of each sequence that count: zeros where none does. Sums are of float64.

    Args:
        batch_first: see :class:`Last`.

    """

    def _over(self, y: Array, counted: Array | None, layer: Layer | None) -> tuple[Array, Put]:
        T, batch, H = y.shape
        total = np.zeros((batch, H))
        counts = np.full((batch, 1), max(T, 1)) if counted is None else np.maximum(counted.sum(axis=0), 1)[:, None]
        with quiet():
            for part in parts(y):
                total += np.add.reduce(y[part], axis=0, dtype=np.float64, where=_which(counted, part))
            result = (total / counts).astype(y.dtype)

        def put(dy: Array, dx: Array) -> None:
            with quiet():
                share = (dy / counts).astype(dy.dtype)
            for part in parts(dx):
                np.copyto(dx[part], share, where=_which(counted, part))

        return result, put


class Max(_OverTime):
    """The largest of each feature over all steps of a sequence that count: zeros where none does.

    The gradient goes to the first step that has it.

    Args:
        batch_first: see :class:`Last`.

    """

    def _over(self, y: Array, counted: Array | None, layer: Layer | None) -> tuple[Array, Put]:
        T, batch, H = y.shape
        sequences, _, _ = _ends(counted, T, batch)
        largest, left = np.full((batch, H), y.dtype.type(-np.inf)), np.zeros((batch, H), np.int64)
        with quiet():
            for part in parts(y):
                largest_of_part = np.maximum.reduce(y[part], axis=0, initial=-np.inf, where=_which(counted, part))
                np.maximum(largest, largest_of_part, out=largest)
            # The first is that of the most steps left, which are found in a fifth of the time of argmax.
            steps_left = np.arange(T, 0, -1, dtype=np.int32 if T < 2**31 else np.int64)[:, None, None]
            for part in parts(y):
                hits = (y[part] == largest) | np.isnan(y[part])
                hits &= _which(counted, part)
                np.maximum(left, np.maximum.reduce(hits * steps_left[part], axis=0), out=left)
        result = np.zeros((batch, H), y.dtype)
        result[sequences] = largest[sequences]
        at = T - left[sequences]

        def put(dy: Array, dx: Array) -> None:
            dx[at, sequences[:, None], np.arange(H)] = dy[sequences]

        return result, put


# --- each number by itself


class _Elementwise(Module, abc.ABC):
    """What Relu and Tanh have in common: of each number another."""

    def __call__(self, x: Array) -> Array:
        """Return y of x, an array of float32 or float64 of any shape."""
        if not self.training:
            self._last.look()
            return self._of_all(self._into, checks.floats(self._name, "x", x))
        call = self.record(x)
        self._last.keep(call)
        return call.y

    def record(self, x: Array) -> ModuleCall:
        """Do what a call does; return an object with ``y`` and ``backward``."""
        x = checks.floats(self._name, "x", x)
        y = self._of_all(self._into, x)
        return ModuleCall(y, self._way_back(y))

    def backward(self, dy: Array) -> Array:
        """Go back through this thread's last call in training mode; return dx."""
        dx: Array = self._last.back(self._name, dy).dx
        return dx

    @staticmethod
    def _of_all(into: Callable[[Array, Array], Any], x: Array, dtype: npt.DTypeLike | None = None) -> Array:
        y = np.empty(x.shape, dtype or x.dtype)
        with quiet():
            for part in parts(x):
                into(x[part], y[part])
        return y

    @staticmethod
    @abc.abstractmethod
    def _into(x: Array, y: Array) -> Array:
        """Write y of x, and return it."""

    @abc.abstractmethod
    def _way_back(self, y: Array) -> Callable[[Array], tuple[Array, dict[str, Array]]]:
        """Return how a call that gave y goes back."""


_ZERO = np.zeros((), np.float32)  # of the number 0 NumPy would make one each time, as long as a small maximum takes


class Relu(_Elementwise):
    """``y = max(x, 0)``, each number by itself."""

    @staticmethod
    def _into(x: Array, y: Array) -> Array:
        return np.maximum(x, _ZERO, out=y)

    def _way_back(self, y: Array) -> Callable[[Array], tuple[Array, dict[str, Array]]]:
        dtype = y.dtype
        passes = self._of_all(lambda y, passes: np.not_equal(y, 0, out=passes), y, bool)  # NaN passes, too

        def back(dy: Array) -> tuple[Array, dict[str, Array]]:
            dy = check_gradient("Relu.backward", dy, passes.shape, dtype)
            dx = np.zeros(dy.shape, dtype)
            for part in parts(dx):
                np.copyto(dx[part], dy[part], where=passes[part])
            return dx, {}

        return back


class Tanh(_Elementwise):
    """``y = tanh(x)``, each number by itself."""

    @staticmethod
    def _into(x: Array, y: Array) -> Array:
        return np.tanh(x, out=y)

    def _way_back(self, y: Array) -> Callable[[Array], tuple[Array, dict[str, Array]]]:
        # Now, since y is the caller's, who may write to it.
        slope = self._of_all(lambda y, slope: np.multiply(1 - y, 1 + y, out=slope), y)

        def back(dy: Array) -> tuple[Array, dict[str, Array]]:
            dy = check_gradient("Tanh.backward", dy, slope.shape, slope.dtype)
            return scale(dy, slope), {}

        return back


# --- nets


Kind = Literal["layer", "over time", "known", "own"]


def _kind(module: Module) -> Kind:
    """Return what a net knows of a module: nothing of one that goes its own way, also of a class derived from these."""
    if _is(module, Layer):
        return "layer"
    if _is(module, _OverTime):
        return "over time"
    return "known" if _is(module, Linear, Embedding, Dropout, Relu, Tanh) else "own"


def _is(module: Any, *kinds: Any) -> bool:
    """Whether a module is of one of these kinds, and makes its calls as they do."""
    return any(
        isinstance(module, kind) and type(module).record is kind.record and type(module).__call__ is kind.__call__
        for kind in kinds
    )


def _made(module: Any) -> str:
    """Return how a module is made, in one line."""
    if isinstance(module, Sequential):
        return f"{module._name}({', '.join(map(_made, module))})"
    made: str = module._made()
    return made


class _Step(NamedTuple):
    """What a net does with one of its modules."""

    name: str
    module: Any
    kind: Kind
    only_last: bool  # it is a layer, and what is wanted of it is what Last would make of its output
    layer: Layer | None  # the one that the input comes from, each number in its place


class Sequential(Several):
    """A net of modules that are called one after the other, each with what the one before gives.

    Recurrent layers hand on their y. Parameters are named as PyTorch's: ``"0.weight_ih_l0"``. ``net[0]`` is the first
    module, ``net[:2]`` a net of the first two.

    Args:
        modules: recurrent layers, :class:`Last`, :class:`Mean` and :class:`Max`, after which there is no axis of steps
            any more, other modules, and modules of your own, whose ``record(x)`` is to return an object with ``y`` and
            ``backward``, such as a :class:`~fastrnn.ModuleCall`.

    """

    _one_name = "make another"

    def __init__(self, *modules: Module) -> None:
        if not modules:
            raise ValueError(f"{self._name}: there are no modules, expected one or more")
        super().__init__({str(k): module for k, module in enumerate(modules)})
        self._check_widths()
        self._steps = self._planned()
        self._timed = [(name, module) for name, module in self._flat() if _kind(module) in ("layer", "over time")]
        self._batch_first()

    def _check_module(self, name: str, module: Any) -> None:
        if not isinstance(module, Module):
            way = ""
            if isinstance(module, list | tuple):
                way = f": {self._name}(*modules)"
            elif isinstance(module, type) and issubclass(module, Module):
                way = f": {module.__name__}(...)"
            raise TypeError(f"{self._name}: module {name} is {checks.shown(module)}, expected a module{way}")
        if not callable(getattr(type(module), "record", None)):
            raise TypeError(
                f"{self._name}: module {name} is of {module._name}, which cannot be called: give its modules, or have "
                "a class of your own with record(x)"
            )

    def _flat(self) -> Iterator[tuple[str, Any]]:
        """Yield the modules and those of nets among them, by their full names."""
        for name, module in self._modules.items():
            if isinstance(module, Sequential) and _is(module, Sequential):
                for inner, one in module._flat():
                    yield f"{name}.{inner}", one
            else:
                yield name, module

    def _check_widths(self) -> None:
        """Raise ValueError where a module takes another number of features than the one before it gives."""
        before, width = "", None
        for name, module in self._flat():
            takes = module.input_size if _is(module, Layer) else None
            takes = module.in_features if _is(module, Linear) else takes
            if width is not None and takes not in (None, width):
                raise ValueError(
                    f"{self._name}: module {name} is {_made(module)}, which takes {takes} features, and {before} gives "
                    f"{width}"
                )
            if _kind(module) == "own":
                width = None
            elif _width(module) is not None:
                before, width = f"module {name}, {_made(module)},", _width(module)

    def _planned(self) -> list[_Step]:
        steps: list[_Step] = []
        layer: Layer | None = None
        ended = ""
        for name, module in self._flat():
            kind = _kind(module)
            if ended and kind in ("layer", "over time"):
                raise ValueError(
                    f"{self._name}: module {name} is {_made(module)}, which needs all steps, and {ended} leaves one"
                )
            # The last state of a sequence without steps is what it began with, and Last makes zeros.
            unfinished = steps and steps[-1].kind == "layer" and not steps[-1].module.learn_state
            if isinstance(module, Last) and kind == "over time" and unfinished:
                steps[-1] = steps[-1]._replace(only_last=True)
            else:
                steps.append(_Step(name, module, kind, False, layer))
            if kind == "over time":
                ended = f"module {name}, {_made(module)},"
            layer = module if kind == "layer" else layer if _is(module, Dropout, Relu, Tanh) else None
        return steps

    def _batch_first(self) -> bool:
        """Return the order of the axes, in which all modules have to agree: options may have been set since."""
        known: tuple[str, Any] | None = None
        for name, module in self._timed:
            if module.batch_first is None:
                continue
            if known is None:
                known = name, module
            elif module.batch_first is not known[1].batch_first:
                both = " and ".join(
                    f"batch_first={m.batch_first} of module {n}, {m._name}" for n, m in (known, (name, module))
                )
                raise ValueError(f"{self._name}: {both} do not go together")
        return known is not None and bool(known[1].batch_first)

    # --- its modules

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._modules.values())

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Sequential: ...
    def __getitem__(self, index: int | slice) -> Any:
        """Return a module, or a net of several of them, which are the same modules."""
        modules = list(self)
        if isinstance(index, slice):
            net = Sequential(*modules[index])
            net.__dict__["training"] = self.training  # as it is, whatever the modes of the modules are
            return net
        number = checks.integer(self._name, "index", index, -(2**63))
        if not -len(modules) <= number < len(modules):
            raise IndexError(f"{self._name}: there is no module {number}; there are {len(modules)}")
        return modules[number]

    def freeze(self, weights: Format = "float32") -> Sequential:
        """Freeze all recurrent layers in it, as :meth:`fastrnn.Layer.freeze` does; return the net.

        With ``weights`` of fewer bits than float32 the net is in evaluation mode afterwards.
        """
        checks.choice(f"{self._name}.freeze", "weights", weights, FORMATS)
        layers = self._layers()
        for layer in layers:  # all or none
            layer._check_freeze(weights)
        for layer in layers:
            layer.freeze(weights)
        if weights != "float32" and layers:
            self.eval()
        return self

    def unfreeze(self) -> Sequential:
        """Take back :meth:`freeze`; return the net."""
        layers = self._layers()
        for layer in layers:
            layer._refuse_format("unfreeze")
            refuse_ties(layer._name, layer._params)
        for layer in layers:
            layer.unfreeze()
        return self

    def _layers(self) -> list[Layer]:
        return [module for _, module in self._leaves() if isinstance(module, Layer)]

    # --- calls

    def __call__(self, x: Array, lengths: npt.ArrayLike | None = None, mask: npt.ArrayLike | None = None) -> Array:
        """Return what the last module makes of x.

        Args:
            x: what the first module takes.
            lengths: (B,), integers from 0 to T: how many steps each sequence has, for all modules that take lengths;
                None is T.
            mask: booleans with the first two axes of x, (T, B) or (B, T): which steps count, for the same modules;
                None is all.

        Raises:
            TypeError, ValueError: as the module that cannot go on says, and which it is.
            ValueError: there are lengths or a mask, and no module takes them.

        """
        if not self.training:
            self._last.look()
            return self._run(x, lengths, mask, None)
        call = self.record(x, lengths, mask)
        self._last.keep(call)
        for _, module in self._leaves():
            module._last.grads = NO_GRADS
        return call.y

    def record(self, x: Array, lengths: npt.ArrayLike | None = None, mask: npt.ArrayLike | None = None) -> ModuleCall:
        """Do what a call does; return an object with ``y`` and ``backward``. x must not change until then."""
        ways: list[tuple[str, Callable[[Array], Any]]] = []
        owner, y = self._name, self._run(x, lengths, mask, ways)
        shape, dtype = y.shape, y.dtype

        def back(dy: Array) -> tuple[Array | None, dict[str, Array]]:
            gradient: Array | None = check_gradient(f"{owner}.backward", dy, shape, dtype)
            found: list[dict[str, Array]] = []
            known = frozenset(self.params)
            name = ""
            try:
                for name, go_back in reversed(ways):
                    if gradient is None:  # by tokens, to which a module of the user's own has come
                        break
                    gradient, _, grads = go_back(gradient)
                    found.append({f"{name}.{p}": g for p, g in grads.items()})
                    unknown = next((p for p in found[-1] if p not in known), None)
                    if unknown is not None:
                        raise ValueError(f"{owner}.backward: there is a gradient of {unknown}, and no such parameter")
            except (TypeError, ValueError, RuntimeError) as error:
                checks.tell_where(error, f"module {name} of {owner}")
                raise
            return gradient, {name: g for grads in reversed(found) for name, g in grads.items()}

        return ModuleCall(y, back)

    def backward(self, dy: Array) -> Array | None:
        """Go back through this thread's last call in training mode; fill ``grads``, return dx, None for tokens."""
        found = self._last.back(self._name, dy)
        for prefix, module in self._leaves():
            module._last.grads = found.grads._under(prefix, module._params)
        dx: Array | None = found.dx
        return dx

    def _run(self, x: Any, lengths: Any, mask: Any, ways: list[tuple[str, Callable[[Array], Any]]] | None) -> Array:
        """Return y; append the way back through each module to ``ways``, if there is to be any."""
        given = {name: value for name, value in (("lengths", lengths), ("mask", mask)) if value is not None}
        if given and not self._timed:
            raise ValueError(
                f"{self._name}: no module of this net takes {' or '.join(given)}: recurrent layers, Last, Mean, Max do"
            )
        batch_first = self._batch_first()
        name, y = "", x
        try:
            for name, module, kind, only_last, layer in self._steps:
                arguments: dict[str, Any] = {}
                if kind == "layer":
                    arguments = {**given, "return_sequence": False} if only_last else given
                if ways is None and kind in ("layer", "known") and not module.training:
                    y = module(y, **arguments)
                    y = y[0] if kind == "layer" else y
                    continue
                if kind == "over time":
                    call: Any = module._record(y, lengths, mask, batch_first, layer)
                else:
                    call = module.record(y, **arguments)
                if kind == "own" and not (hasattr(call, "y") and hasattr(call, "backward")):
                    raise TypeError(
                        f"{module._name}: record returned {checks.kind(call)}, expected an object with y and backward, "
                        "such as a ModuleCall"
                    )
                y = call.y
                if kind == "own" and not isinstance(y, np.ndarray):
                    raise TypeError(f"{module._name}: y of what record returned is {checks.kind(y)}, expected an array")
                if ways is None:
                    continue
                if kind != "own":  # the way back needs none of this
                    for what in ("y", "state"):
                        call.__dict__.pop(what, None)
                ways.append((name, call.backward))
        except (TypeError, ValueError, RuntimeError) as error:
            checks.tell_where(error, f"module {name} of {self._name}")
            raise
        result: Array = y
        return result

    # --- what it looks like

    def summary(self) -> str:
        """Return a table of its modules: what each is made of, the shape of its output, and how many parameters.

        Of the shapes T is the number of steps, B the batch and I the input size, and a question mark what only a module
        of your own knows.
        """
        rows = [("", "module", "output", "parameters")]
        rows += [
            (name, _made(module), shape, f"{module._numbers():,}")
            for (name, module), shape in zip(self._flat(), self._shapes(), strict=True)
        ]
        total = self._numbers()
        each = sum(module._numbers() for _, module in self._flat())
        rows.append(("", "in all" if each == total else "in all, tied ones once", "", f"{total:,}"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = []
        for row in rows:
            *others, last = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            lines.append("  ".join([*others, last.strip().rjust(widths[-1])]))
        return "\n".join(lines)

    def _shapes(self) -> Iterator[str]:
        """Yield the shape of the output of each module."""
        all_steps = "B, T" if self._batch_first() else "T, B"
        axes, width = all_steps if self._timed else "...", "I"
        for _, module in self._flat():
            kind = _kind(module)
            if kind == "layer":
                axes, width = all_steps, str(_width(module))
            elif kind == "over time":
                axes = "B"
            elif kind == "own":
                axes, width = "...", "?"
            elif _width(module) is not None:
                width = str(_width(module))
            yield "?" if (axes, width) == ("...", "?") else f"({axes}, {width})"

    # --- step by step

    def stream(self, batch: int = 1, *, tokens: bool = False) -> NetStream:
        """Return a stream of single steps, with the weights as they are now and the states that a call begins with.

        ``tokens`` tells whether its inputs are tokens, as they are for an Embedding anyway. Not for bidirectional
        layers, :class:`Mean` and :class:`Max`, which need the whole sequence, nor for modules of your own. Dropout is
        left out, and so is :class:`Last`: a step gives what the net gives for the sequence up to it.
        """
        owner = f"{self._name}.stream"
        batch = checks.integer(owner, "batch", batch, 0, 2**48)
        tokens = checks.boolean(owner, "tokens", tokens)
        stages: list[Stage] = []
        flat = list(self._flat())
        if tokens and not _is(flat[0][1], Layer, Embedding):
            raise ValueError(
                f"{owner}: tokens is True, and module {flat[0][0]} is {_made(flat[0][1])}: it takes numbers"
            )
        for name, module in flat:
            kind = _kind(module)
            if kind == "own":
                raise ValueError(f"{owner}: module {name} is {_made(module)}, of which a stream knows no steps")
            if kind == "over time" and not isinstance(module, Last):
                raise ValueError(f"{owner}: module {name} is {_made(module)}, which needs the whole sequence")
            if kind == "layer":
                try:
                    part: Any = module.stream(batch, tokens=tokens and name == flat[0][0])
                except ValueError as error:
                    checks.tell_where(error, f"module {name} of {self._name}")
                    raise
                stages.append(Stage(name, part, _width(module), module.dtype))
            elif not isinstance(module, Dropout | Last):
                stages.append(Stage(name, copy.copy(module), _width(module), getattr(module, "dtype", None)))
        return NetStream(stages, self._name, _made(self), batch, tokens)


def _width(module: Any) -> int | None:
    """Return how many features a module gives; None is as many as it gets."""
    if isinstance(module, Layer):
        return module._spec.state_sizes[0] * module._spec.directions
    if isinstance(module, Linear):
        return module.out_features
    return module.embedding_dim if isinstance(module, Embedding) else None
