"""Which weights belong to which layer of a model of Keras, in the two kinds of its files."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from fastrnn._base.checks import Array

from . import keras_config
from .keras_config import LAYERS, LayerError, is_frozen
from .keras_files import Folder
from .keras_model import WEIGHTS, Layer, layer_of


class Cell(NamedTuple):
    """The weights of a cell, as Keras has them."""

    kernel: Array
    recurrent: Array
    bias: Array | None = None


Cells = list[list[Cell]]  # of each direction, from the bottom
Directions = Sequence[Sequence[keras_config.Cell]]
Others = Sequence[tuple[Layer, "Weights"]] | None


class Weights(Protocol):
    """The weights of a layer or model, wherever they are."""

    def of_each(self, layers: Sequence[Layer]) -> Sequence[Weights]:
        """Return those of each layer of a model."""

    def wrapped(self) -> Weights:
        """Return those of the layer that this one wraps."""

    def cells(self, directions: Directions) -> Cells:
        """Return those of a recurrent layer with such cells. Raises LayerError where they cannot be told."""

    def others(self) -> Others:
        """Return the recurrent layers in one of somebody's own class; None if that is recurrent itself."""


@dataclasses.dataclass(frozen=True)
class _Found:
    """The weights of a recurrent layer."""

    found: Cells
    problem: str = ""

    def of_each(self, layers: Sequence[Layer]) -> Sequence[Weights]:
        return [self for _ in layers]

    def wrapped(self) -> Weights:
        return self

    def cells(self, directions: Directions) -> Cells:
        if self.problem:
            raise LayerError(self.problem)
        return self.found

    def others(self) -> Others:
        return []


MISSING: Weights = _Found([], "its weights are not there")


def of_objects(folder: Folder) -> Weights:
    """Return the weights in a file that has those of each object of a model apart: .keras, or .weights.h5."""
    return _OfObjects(folder)


def of_layers(folder: Folder) -> Weights:
    """Return the weights in a file that lists their names by layer: .h5."""
    return _OfLayers(folder)


def _recurrent(name: str, cells: Cells, problem: str = "") -> tuple[Layer, Weights]:
    """Return a layer of which there are only weights."""
    return Layer(name, WEIGHTS, {}), _Found(cells, problem)


# --- files in which each object of a model has its own


CONTAINERS = ("layers", "_layer_checkpoint_dependencies")
INSIDE = (*CONTAINERS, "vars", "cell", "layer")


@dataclasses.dataclass(frozen=True)
class _OfObjects:
    """Weights in groups that are called as the attributes of the model, and in a list of layers after their class."""

    folder: Folder

    def of_each(self, layers: Sequence[Layer]) -> Sequence[Weights]:
        container = next(filter(None, map(self.folder.folder, CONTAINERS)), None)
        groups = container.folders() if container is not None else []
        return [MISSING if group is None else _OfObjects(group) for group in _grouped(layers, groups)]

    def wrapped(self) -> Weights:
        inside = self.folder.folder("layer")
        return MISSING if inside is None else _OfObjects(inside)

    def cells(self, directions: Directions) -> Cells:
        return self._sides(len(directions))

    def _sides(self, count: int) -> Cells:
        if count == 1:
            return [self._stack()]
        sides = [self.folder.folder(name) for name in ("forward_layer", "backward_layer")]
        return [_OfObjects(side)._stack() for side in sides if side is not None]

    def _stack(self) -> list[Cell]:
        """Return the cells of a layer: one in it, several in one, or, of cuDNN's layers, its own weights."""
        cell = self.folder.folder("cell")
        several = cell.folder("cells") if cell is not None else None
        places = (
            [cell or self.folder] if several is None else sorted(several.folders(), key=lambda f: _split(f.name)[1])
        )
        return [found for place in places if (found := _cell_in(place)) is not None]

    def others(self) -> Others:
        if self.folder.folder("cell") is not None:
            return None
        seen = {self.folder.place}
        inner = self.folder.folders()
        return [_recurrent(name, cells) for each in inner for name, cells in _searched(each, "", seen)]


def _grouped(layers: Sequence[Layer], groups: Sequence[Folder]) -> list[Folder | None]:
    """Return which group is each layer's.

    They are called after the class, with a number from the second on, which some versions counted up twice; some
    versions say the layer's name.
    """
    by_name: dict[str | None, list[Folder]] = {}
    for group in groups:
        own = group.folder("vars")
        by_name.setdefault(own.text("name") if own is not None else None, []).append(group)
    by_class: dict[str, list[Folder]] = {}
    for group in sorted(groups, key=lambda group: _split(group.name)[1]):
        by_class.setdefault(_split(group.name)[0].replace("_", ""), []).append(group)
    names, classes = [layer.name for layer in layers], [_plain(layer.class_name) for layer in layers]
    found: list[Folder | None] = []
    for k, (name, plain) in enumerate(zip(names, classes, strict=True)):
        named, of_class = by_name.get(name, []), by_class.get(plain, [])
        if len(named) == 1 and names.count(name) == 1:
            found.append(named[0])
        elif len(of_class) == classes.count(plain):
            found.append(of_class[classes[:k].count(plain)])
        else:
            found.append(None)
    return found


def _plain(class_name: str) -> str:
    return re.sub(r"\W|_", "", class_name.rpartition(">")[2]).lower()


def _split(name: str) -> tuple[str, int]:
    """Return a name without the number at its end, and the number."""
    found = re.fullmatch(r"(.*?)_(\d{1,9})", name)
    return (found[1], int(found[2])) if found else (name, 0)


def _cell_in(folder: Folder) -> Cell | None:
    own = folder.folder("vars")
    arrays = [own.array(f"{k}") for k in range(3)] if own is not None else [None]
    if own is not None and own.array("3") is not None:  # no cell of Keras' has more than three
        return None
    if arrays[0] is None or arrays[1] is None:
        return None
    return Cell(arrays[0], arrays[1], arrays[2])


def _searched(folder: Folder, above: str, seen: set[Any]) -> Iterator[tuple[str, Cells]]:
    """Yield every recurrent layer in a group, with its name."""
    if folder.place in seen:
        return
    seen.add(folder.place)
    name = above
    if folder.name not in INSIDE:
        name = f"{above}/{_called(folder)}".lstrip("/")
    directions = 2 if folder.folder("backward_layer") is not None else 1
    is_layer = directions == 2 or folder.folder("cell") is not None or _split(folder.name)[0] in OF_CUDNN
    cells = _OfObjects(folder)._sides(directions) if is_layer else []
    if cells and all(map(_are_cells, cells)):
        yield name or "layer", cells
        return
    for inner in folder.folders():
        yield from _searched(inner, name, seen)


OF_CUDNN = ("cu_dnnlstm", "cu_dnngru")


def _called(folder: Folder) -> str:
    """Return the name of a layer: what it says, where its group has but the name of its class, in a list."""
    own = folder.folder("vars")
    in_list = folder.path.rpartition("/")[0].rpartition("/")[2] in CONTAINERS
    return (own.text("name") if own is not None and in_list else None) or folder.name


def _are_cells(cells: Sequence[Cell]) -> bool:
    return bool(cells) and all(gates_of(cell) for cell in cells)


def gates_of(cell: Cell) -> int:
    """Return how many gates a cell has whose weights are these; 0 if that is none that there is."""
    kernel, recurrent, _ = cell
    if kernel.ndim != 2 or recurrent.ndim != 2 or kernel.shape[1] != recurrent.shape[1] or not recurrent.shape[0]:
        return 0
    gates, rest = divmod(recurrent.shape[1], recurrent.shape[0])
    return gates if gates in (1, 3, 4) and not rest else 0


# --- files in which weights are listed by layer


LEAF = re.compile(r"(?:(.*)/)?(kernel|recurrent_kernel|bias)(_\d{1,9})?(?::\d+)?")
OF_CELL = re.compile(r"(lstm|gru|simple_rnn)_cell(_\d+)?|stacked_rnn_cells(_\d+)?")
OF_KERAS_1 = re.compile(r"(.*?)(?:_[WUb]_[ifcozrh])(?::\d+)?")


SIDES = ("forward", "backward")


class Named(NamedTuple):
    """A cell, the names on the way to its weights, and the number that some versions have at the end of theirs.

    ``has_more`` tells whether there are weights beside those, which no cell of Keras' has.
    """

    path: tuple[str, ...]
    number: int
    cell: Cell
    has_more: bool

    @property
    def side(self) -> str:
        """In which of two directions it is; "" where its names do not tell."""
        found = [each.partition("_")[0] for each in self.path if each.startswith(tuple(f"{side}_" for side in SIDES))]
        return found[-1] if found else ""


@dataclasses.dataclass(frozen=True)
class _OfLayers:
    """Weights in a group for each layer of the outermost model, which lists their names."""

    folder: Folder

    def of_each(self, layers: Sequence[Layer]) -> Sequence[Weights]:
        groups = [self.folder.folder(*layer.name.split("/")) for layer in layers]
        return [
            MISSING if group is None else _OfGroup(layer.name, _named(group))
            for layer, group in zip(layers, groups, strict=True)
        ]

    def wrapped(self) -> Weights:
        return self

    def cells(self, directions: Directions) -> Cells:
        raise LayerError("its weights are not there")

    def others(self) -> Others:
        found: list[tuple[Layer, Weights]] = []
        for name in self.folder.texts("layer_names") or self.folder.names():
            group = self.folder.folder(*name.split("/"))
            if group is None:
                continue
            found += [
                (dataclasses.replace(layer, name="/".join(filter(None, (name, layer.name)))), weights)
                for layer, weights in _OfGroup(name, _named(group)).inside()
            ]
            if any(OF_KERAS_1.fullmatch(each) for each in group.texts("weight_names")):
                kind = "LSTM" if any("_W_f" in each for each in group.texts("weight_names")) else "GRU"
                found.append((Layer(name, kind, {"output_dim": None}), MISSING))
        return found


def _named(group: Folder) -> list[Named]:
    """Return the cells in the group of a layer, in their order."""
    parts: dict[tuple[str, str], dict[str, Array]] = {}
    more: set[str] = set()
    for name in group.texts("weight_names"):
        leaf = LEAF.fullmatch(name)
        if leaf is None:
            more.add(name.rpartition("/")[0])
            continue
        path = name.split("/")
        place = group.folder(*path[:-1])
        a = place.array(path[-1]) if place is not None else None
        if a is None:
            continue
        # What has the same names, Keras 2.2 tells apart by a number at the end of them.
        parts.setdefault((leaf[1] or "", leaf[3] or ""), {})[leaf[2]] = a
    return [
        Named(
            tuple(path.split("/")),
            int(number[1:] or 0),
            Cell(each["kernel"], each["recurrent_kernel"], each.get("bias")),
            path in more,
        )
        for (path, number), each in parts.items()
        if "kernel" in each and "recurrent_kernel" in each
    ]


@dataclasses.dataclass(frozen=True)
class _OfGroup:
    """The weights of some of the cells that are in the group of a layer."""

    name: str
    named: list[Named]

    def of_each(self, layers: Sequence[Layer]) -> Sequence[Weights]:
        counts = [_count(layer) for layer in layers]
        found = [[each for each in self.named if layer.name in each.path] for layer in layers]
        if [len(each) for each in found] != counts:
            # Those that are not trained come after the others.
            if sum(counts) != len(self.named) or any(is_frozen(layer.config) for layer in layers):
                problem = f"which of the weights of {self.name!r} are its own cannot be told"
                return [_Found([], problem) for _ in layers]
            ends = np.cumsum(counts).tolist()
            found = [self.named[end - count : end] for end, count in zip(ends, counts, strict=True)]
        return [_OfGroup(layer.name, each) for layer, each in zip(layers, found, strict=True)]

    def wrapped(self) -> Weights:
        return self

    def cells(self, directions: Directions) -> Cells:
        if len(directions) == 1:
            return [[each.cell for each in _in_order(self.named, directions[0])]]
        forward = [each for each in self.named if each.side == "forward"]
        # One that the user has made for the way back may keep its own name.
        backward = [each for each in self.named if each.side != "forward"]
        if self.named and len(forward) != len(backward):
            raise LayerError("which of its weights are those of which direction cannot be told by their names")
        return [[each.cell for each in side] for side in (forward, backward)]

    def others(self) -> Others:
        return self.inside()

    def inside(self) -> list[tuple[Layer, Weights]]:
        by_path: dict[tuple[str, ...], dict[str, list[Named]]] = {}
        for each in self.named:
            own = [part for part in each.path if not OF_CELL.fullmatch(part)]
            if each.side:
                own = own[: [part.partition("_")[0] for part in own].index(each.side)]
            by_path.setdefault(tuple(own), {}).setdefault(each.side, []).append(each)
        found = {
            path: [[each.cell for each in sides[side]] for side in ("", *SIDES) if side in sides]
            for path, sides in by_path.items()
        }
        problems = {
            path: "it has weights beside its kernels and bias, which no cell of Keras' has"
            for path, sides in by_path.items()
            if any(each.has_more for side in sides.values() for each in side)
        }
        several = len(found) > 1
        return [
            _recurrent("/".join(path[path[:1] == (self.name,) :]) if several else "", cells, problems.get(path, ""))
            for path, cells in found.items()
            if all(map(_are_cells, cells))
        ]


def _in_order(named: Sequence[Named], stack: Sequence[keras_config.Cell]) -> Sequence[Named]:
    """Return the cells of a stack from the bottom, of which those that are not trained are listed after the others."""
    if len(named) < 2 or len(named) != len(stack):
        return named
    numbers = [each.number for each in named]
    if len({each.path for each in named}) == 1 and len(set(numbers)) == len(numbers):
        return sorted(named, key=lambda each: each.number)
    by_name = [[each for each in named if each.path[-1] == cell.name] for cell in stack]
    if all(len(found) == 1 for found in by_name):
        return [found[0] for found in by_name]
    if any(cell.is_frozen for cell in stack):
        raise LayerError("which of its weights are those of which cell cannot be told by their names")
    return named


def _count(layer: Layer) -> int:
    """Return how many cells a layer has, all in it included."""
    if layer.inner:
        return sum(map(_count, layer.inner))
    if layer.class_name == "Bidirectional":
        inner = layer.config.get("layer")
        once = _count(layer_of(inner.get("class_name", ""), inner.get("config"))) if isinstance(inner, Mapping) else 1
        return 2 * once
    if layer.class_name == "RNN":
        cell = layer.config.get("cell")
        config = cell.get("config") if isinstance(cell, Mapping) else None
        several = config.get("cells") if isinstance(config, Mapping) else None
        return len(several) if isinstance(several, list) else 1
    return int(layer.class_name in LAYERS or layer.class_name.startswith("ConvLSTM"))
