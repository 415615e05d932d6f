"""What is between recurrent nodes: whether one reads what another gives, whatever puts its axes in another order.

Axes are texts of letters: "T" steps, "B" batch, "D" directions, "H" hidden size; "DH" is one of D*H, the directions
side by side, and "" one of length 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .net import Net
from .onnx_cell import domain_of
from .onnx_graph import Place, Scope, Unknown

LONGEST = 20  # nodes, between one net and the next
MOST_AXES = 8
PARTS = {"Cast", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Unsqueeze"}  # what takes some numbers of a shape

Axes = list[str]
Lengths = list[int | str | None]  # of axes: numbers, or the axes that are as long; None where that is not known


class Changed(Exception):  # noqa: N818  it is no error of anybody's
    """A net does not read what another gives; the message says what it reads."""


class Nets:
    """The nets of a model, by what they give: they are added in the order of the model."""

    def __init__(self) -> None:
        self._gives: dict[Place, _Given] = {}

    def source(self, net: Net, scope: Scope, node: Any) -> tuple[frozenset[str], str]:
        """Return of which nets a net reads the output, and what it reads instead, if it is none; and add it."""
        given = _Given(net, scope, node)
        try:
            below = self._read(given, node)
            names, instead = frozenset([below.net.name]), ""
            given.sizes = {**below.sizes, **given.sizes}
        except (Changed, Unknown) as reason:
            names, instead = frozenset[str](), str(reason)
        if node.output and node.output[0]:
            self._gives[scope, node.output[0]] = given
        return names, instead

    def _read(self, reader: _Given, node: Any) -> _Given:
        """Return what a net reads; raise Changed if it is not the output of one."""
        between: list[tuple[Place, Any]] = []
        place = reader.scope.home(node.input[0])
        while place not in self._gives:
            scope, name = place
            made = scope.made.get(name)
            if made is None:
                raise Changed(f"it reads the input {name!r}")
            passes = made.op_type in STEPS and not domain_of(made) and made.input and made.output[0] == name
            if not passes or len(between) == LONGEST:
                raise Changed(f"it reads what {_shown(made)} makes")
            between.append((place, made))
            place = scope.home(made.input[0])
        below = self._gives[place]
        chain = _Chain(below, place)
        for at, made in reversed(between):
            chain.add(at, made)
        if chain.axes != below.expected:
            raise Changed("it reads that with its axes in another order")
        return below


def _shown(node: Any) -> str:
    return f"{node.op_type} {node.name!r}" if node.name else str(node.op_type)


class _Given:
    """What a net gives.

    Attributes:
        net: it.
        sizes: the length of each axis, as far as the model says it; none of length 0.
        x: what it reads.

    """

    def __init__(self, net: Net, scope: Scope, node: Any) -> None:
        self.net, self.scope = net, scope
        self.order = "BT" if net.options.get("batch_first") else "TB"
        self.sizes = {"D": 1 + bool(net.options.get("bidirectional")), "H": int(net.options["hidden_size"])}
        self.x = scope.home(node.input[0])
        for axis, length in zip(self.order, scope.declared(node.input[0]), strict=False):
            if length:
                self.sizes[axis] = length

    def axes(self, *axes: str) -> Axes:
        """Return axes without what has length 1."""
        return ["".join(letter for letter in axis if self.sizes.get(letter) != 1) for axis in axes]

    @property
    def given(self) -> Axes:
        """The axes of Y."""
        return self.axes(*("BTDH" if self.order == "BT" else "TDBH"))

    @property
    def expected(self) -> Axes:
        """The axes of the X of what reads it as it is."""
        return self.axes(*self.order, "DH")


class _Chain:
    """The nodes between what a net gives and what another reads.

    Attributes:
        axes: of the value that the last of them makes.

    """

    def __init__(self, below: _Given, place: Place) -> None:
        self.axes = below.given
        self._below = below
        self._shapes: dict[Place, Lengths] = {}
        self._known: dict[Place, Lengths] = {below.x: [*below.axes(*below.order), None], place: [*self.axes]}

    def add(self, place: Place, node: Any) -> None:
        """Add a node; raise Changed where it is not known that it keeps all numbers, and where they go."""
        scope, _ = place
        try:
            attributes = {a.name: scope.model.onnx.helper.get_attribute_value(a) for a in node.attribute}
            self.axes = STEPS[node.op_type](self, scope, node, attributes)
        except (Changed, Unknown, ValueError, LookupError, TypeError):  # also of what is damaged
            raise Changed(f"it reads what {_shown(node)} makes of that") from None
        self._known[place] = [*self.axes]

    def same(self, scope: Scope, node: Any, attributes: Mapping[str, Any]) -> Axes:
        """Return the axes of Identity."""
        return self.axes

    def dropout(self, scope: Scope, node: Any, attributes: Mapping[str, Any]) -> Axes:
        """Return the axes of Dropout, which does nothing unless it trains."""
        if len(node.input) > 2 and node.input[2] and scope.constant(node.input[2]).any():
            raise Changed
        return self.axes

    def cast(self, scope: Scope, node: Any, attributes: Mapping[str, Any]) -> Axes:
        """Return the axes of a Cast to the dtype that there is."""
        dtype = next(iter(self._below.net.weights().values())).dtype
        if np.dtype(scope.model.onnx.helper.tensor_dtype_to_np_dtype(attributes["to"])) != dtype:
            raise Changed
        return self.axes

    def transposed(self, scope: Scope, node: Any, attributes: Mapping[str, Any]) -> Axes:
        """Return the axes of Transpose."""
        return [self.axes[k] for k in attributes.get("perm", range(len(self.axes))[::-1])]

    def squeezed(self, scope: Scope, node: Any, attributes: Mapping[str, Any]) -> Axes:
        """Return the axes of Squeeze."""
        which = _axes(scope, node, attributes, len(self.axes))
        if which is None:
            return [axis for axis in self.axes if axis]
        if any(self.axes[k] for k in which):
            raise Changed
        return [axis for k, axis in enumerate(self.axes) if k not in which]

    def unsqueezed(self, scope: Scope, node: Any, attributes: Mapping[str, Any]) -> Axes:
        """Return the axes of Unsqueeze."""
        names = attributes.get("axes")
        count = len(self.axes) + len(_integers(scope, node.input[1]) if names is None else names)
        which, before = _axes(scope, node, attributes, count) or set(), iter(self.axes)
        return ["" if k in which else next(before, "") for k in range(count)]

    def flattened(self, scope: Scope, node: Any, attributes: Mapping[str, Any]) -> Axes:
        """Return the axes of Flatten."""
        at = attributes.get("axis", 1)
        return ["".join(self.axes[:at]), "".join(self.axes[at:])]

    def reshaped(self, scope: Scope, node: Any, attributes: Mapping[str, Any]) -> Axes:
        """Return the axes of Reshape, if it only joins axes, or takes those apart that were joined."""
        lengths = self._lengths(scope, node.input[1])
        copies = not attributes.get("allowzero")
        wanted = [
            self.axes[k] if length == 0 and copies and k < len(self.axes) else length
            for k, length in enumerate(lengths)
        ]
        for axes in _split("".join(self.axes), len(wanted)):
            if all(self._is_as_long(axis, length) for axis, length in zip(axes, wanted, strict=True)):
                return axes
        raise Changed

    def _is_as_long(self, axis: str, length: int | str | None) -> bool:
        if isinstance(length, str):
            return axis == length
        sizes = self._below.sizes
        return length == -1 or (all(each in sizes for each in axis) and math.prod(sizes[e] for e in axis) == length)

    def _lengths(self, scope: Scope, name: str, depth: int = 0) -> Lengths:
        """Return the value of a shape, which may be made of that of what is on the way."""
        place = scope.home(name)
        if place not in self._shapes:
            try:
                found: Lengths = [*_integers(scope, name)]
            except Unknown:
                found = self._computed(place, depth + 1)
            if len(found) > MOST_AXES:
                raise Changed
            self._shapes[place] = found
        return self._shapes[place]

    def _computed(self, place: Place, depth: int) -> Lengths:
        scope, name = place
        node = scope.made.get(name)
        if node is None or depth > LONGEST or domain_of(node):
            raise Changed
        if node.op_type == "Concat":
            return [length for each in node.input for length in self._lengths(scope, each, depth)]
        if node.op_type == "Shape":
            limits = {a.name: a.i for a in node.attribute}
            return self._known[scope.home(node.input[0])][limits.get("start") : limits.get("end")]
        if node.op_type not in PARTS:
            raise Changed
        lengths = self._lengths(scope, node.input[0], depth)
        if node.op_type == "Gather":
            return [lengths[k] for k in _integers(scope, node.input[1])]
        if node.op_type == "Slice":
            (begin,), (end,), *more = (_integers(scope, each) for each in node.input[1:] if each)
            return lengths[begin : end : more[1][0] if len(more) > 1 else 1]
        return lengths


STEPS: dict[str, Callable[[_Chain, Scope, Any, Mapping[str, Any]], Axes]] = {
    "Cast": _Chain.cast,
    "Dropout": _Chain.dropout,
    "Flatten": _Chain.flattened,
    "Identity": _Chain.same,
    "Reshape": _Chain.reshaped,
    "Squeeze": _Chain.squeezed,
    "Transpose": _Chain.transposed,
    "Unsqueeze": _Chain.unsqueezed,
}


def _axes(scope: Scope, node: Any, attributes: Mapping[str, Any], count: int) -> set[int] | None:
    """Return the axes that a node names, as an attribute or an input; None if it names none."""
    axes: Sequence[int] | None = attributes.get("axes")
    if axes is None and len(node.input) > 1 and node.input[1]:
        axes = _integers(scope, node.input[1])
    return None if axes is None else {range(count)[k] for k in axes}


def _integers(scope: Scope, name: str) -> list[int]:
    """Return a constant; raise Changed where that is more than there are axes."""
    a = scope.constant(name)
    if a.size > MOST_AXES:
        raise Changed
    return [int(n) for n in a.reshape(-1)]


def _split(letters: str, count: int) -> Iterator[Axes]:
    """Yield all ways to have letters in so many axes, in this order."""
    if count <= 1:
        yield from [[letters]] if count else []
        return
    for k in range(len(letters) + 1):
        for others in _split(letters[k:], count - 1):
            yield [letters[:k], *others]
