"""What a layer is, as plain data: its cell and sizes, and the names and shapes of its parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastrnn import _core

from .own import Own

Shapes = dict[str, tuple[int, ...]]
STATES = ("h_0", "c_0")  # initial states, as parameters


class Family:
    """What cells of the same kind have in common.

    Attributes:
        name: as the kernels have it.
        gates: G, blocks of H rows in weight_ih and weight_hh.
        states: 1, h; or 2, h and c.
        recurrent: whether there is a product with weight_hh.

    """

    def __init__(self, name: str, gates: int, states: int, *, recurrent: bool = True) -> None:
        self.name, self.gates, self.states, self.recurrent = name, gates, states, recurrent


class Spec:
    """What a call needs to know of its layer. None of it changes.

    Attributes:
        name: the class of the layer, for messages.
        family: the name of the family, as the kernels have it.
        cell: the name of the cell, as the kernels have it.
        recurrent: whether there is a product with weight_hh.
        input_size, hidden_size, num_layers, proj_size, dtype: as users give them.
        directions: D, 2 if bidirectional, else 1.
        from_end: of each direction, whether it reads sequences from their end.
        state_sizes: units of h, and of c.
        learn_state: whether the initial states are parameters.
        is_plain: whether it is a single net, from start to end, whose states are as the kernels have them.
        suffixes: of the parameters' names, of each layer and direction.
        options: of the cell in each direction, if it has some.
        without_gradient: an activation that backward cannot go through, if there is one.
        own: what each unit has for itself, if anything.
        shapes: names and shapes of all parameters, in their order.

    """

    def __init__(
        self,
        name: str,
        family: Family,
        cell: str,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        *,
        bias: bool,
        bidirectional: bool,
        reverse: bool,
        learn_state: bool,
        proj_size: int,
        options: Sequence[_core.CellOptions | None],
        without_gradient: str | None,
        own: Own | None,
        dtype: np.dtype[Any],
    ) -> None:
        self.name, self.family, self.cell, self.recurrent = name, family.name, cell, family.recurrent
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.proj_size, self.dtype, self.options, self.own = proj_size, dtype, options, own
        self.directions = 1 + bidirectional
        self.from_end = (False, True) if bidirectional else (reverse,)
        self.learn_state = learn_state
        self.is_plain = num_layers == 1 and not (bidirectional or reverse or learn_state or proj_size)
        self.without_gradient = without_gradient
        self.state_sizes = (proj_size or hidden_size, hidden_size)[: family.states]
        self.suffixes = suffixes_of(num_layers, bidirectional)
        self.shapes = shapes_of(
            family,
            input_size,
            hidden_size,
            self.suffixes,
            bias=bias,
            proj_size=proj_size,
            own={} if own is None else own.shapes,
            states=dict(zip(STATES, self.state_sizes, strict=False)) if learn_state else {},
        )


def suffixes_of(num_layers: int, bidirectional: bool) -> list[list[str]]:
    """Return what the names of parameters end in, of each layer and direction."""
    directions = ("", "_reverse") if bidirectional else ("",)
    return [[f"_l{k}{direction}" for direction in directions] for k in range(num_layers)]


def shapes_of(
    family: Family,
    input_size: int,
    hidden_size: int,
    suffixes: list[list[str]],
    *,
    bias: bool,
    proj_size: int,
    own: Mapping[str, tuple[int, ...]],
    states: Mapping[str, int],
) -> Shapes:
    """Return the name and shape of every parameter of a layer.

    ``own`` are those that each unit has for itself, ``states`` the units of those that are learned.
    """
    rows, P = family.gates * hidden_size, proj_size or hidden_size
    shapes: Shapes = {}
    for k, of_layer in enumerate(suffixes):
        for suffix in of_layer:
            shapes["weight_ih" + suffix] = (rows, input_size if k == 0 else len(of_layer) * P)
            if family.recurrent:
                shapes["weight_hh" + suffix] = (rows, P)
            shapes |= {name + suffix: shape for name, shape in own.items()}
            if bias:
                shapes["bias_ih" + suffix] = (rows,)
                if family.recurrent:
                    shapes["bias_hh" + suffix] = (rows,)
            if proj_size:
                shapes["weight_hr" + suffix] = (proj_size, hidden_size)
            shapes |= {name + suffix: (units,) for name, units in states.items()}
    return shapes
